"""`agentgym list`: registered names."""

import argparse
import json
import sys

KINDS = ("envs", "policies", "rewards", "components", "dialects", "retrievers", "recipes", "sinks")
SINGULAR: dict[str, str] = dict(
    zip(("env", "policy", "suite", "component", "dialect", "retriever", "recipe", "sink"), KINDS, strict=True)
)
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
    names = {
        "envs": sorted(ENVIRONMENTS),
        "policies": hooks.POLICIES.names(),
        "rewards": hooks.SUITES.names(),
        "components": hooks.COMPONENTS.names(),
        "dialects": hooks.DIALECTS.names(),
        "retrievers": hooks.RETRIEVERS.names(),
        "recipes": hooks.RECIPES.names(),
        "sinks": hooks.SINKS.names(),
    }
    chosen = {args.kind: names[args.kind]} if args.kind else names
    if args.json:
        sys.stdout.write(json.dumps({k: list(v) for k, v in chosen.items()}) + "\n")
    else:
        for kind, items in chosen.items():
            sys.stdout.write(f"{kind}: {', '.join(items)}\n")
    return 0
