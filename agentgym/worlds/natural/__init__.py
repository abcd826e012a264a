"""The natural setting: any number of entities, multi-word names, and pages in varied wording."""

from agentgym.worlds.natural.world import NaturalWorld

__all__ = ["NaturalWorld"]
