"""`agentgym list`: registered names."""

import argparse
import json
import sys

REGISTRIES = {
    "policies": "POLICIES", "rewards": "SUITES", "components": "COMPONENTS", "dialects": "DIALECTS",
    "retrievers": "RETRIEVERS", "worlds": "WORLDS", "judges": "JUDGES", "sandboxes": "SANDBOXES", "recipes": "RECIPES",
    "trajectory-formats": "TRAJECTORY_FORMATS", "sinks": "SINKS", "tools": "TOOLS", "checklists": "CHECKLISTS",
}  # fmt: skip
"""Kinds by the name of their registry in `agentgym.hooks`."""
KINDS = ("envs", *REGISTRIES)
SINGULAR = {
    "env": "envs", "policy": "policies", "suite": "rewards", "component": "components", "dialect": "dialects",
    "retriever": "retrievers", "world": "worlds", "judge": "judges", "sandbox": "sandboxes", "recipe": "recipes",
    "trajectory-format": "trajectory-formats", "sink": "sinks", "tool": "tools", "checklist": "checklists",
}  # fmt: skip
"""The registries' own names, which their messages use."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("kind", nargs="?", choices=KINDS, type=_plural, help="what to list; all without it")


def _plural(kind: str) -> str:
    return SINGULAR.get(kind, kind)


def run(args: argparse.Namespace) -> int:
    """List names."""
    import agentgym  # noqa: F401 (registers the ids)
    from agentgym import hooks
    from agentgym.envs import ENVIRONMENTS
    from agentgym.registry import load_plugins

    load_plugins()
    names = {"envs": sorted(ENVIRONMENTS)} | {kind: getattr(hooks, name).names() for kind, name in REGISTRIES.items()}
    chosen = {args.kind: names[args.kind]} if args.kind else names
    if args.json:
        sys.stdout.write(json.dumps({k: list(v) for k, v in chosen.items()}) + "\n")
    else:
        for kind, items in chosen.items():
            sys.stdout.write(f"{kind}: {', '.join(items) or 'none; code of your own is named MODULE:NAME or FILE.py:NAME'}\n")
    return 0
