"""Worlds: one set of facts behind passages, graph, questions and their gold."""

from agentgym.worlds.closed_words import closed_vocabulary
from agentgym.worlds.gold import oracle_queries, rubric_slots
from agentgym.worlds.spec import WorldSpec
from agentgym.worlds.synthetic import SyntheticTasks, world
from agentgym.worlds.world import Fact, World

__all__ = [
    "Fact",
    "SyntheticTasks",
    "World",
    "WorldSpec",
    "closed_vocabulary",
    "oracle_queries",
    "rubric_slots",
    "world",
]
