"""`agentgym check`: conformance of an environment."""

import argparse
import json
import sys

from agentgym.cli.options import add_env_arguments, check_env_id, env_kwargs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_env_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check and print a line each; exit code 1 if one failed."""
    from agentgym.check import iter_checks

    check_env_id(args.env)
    results = []
    for result in iter_checks(args.env, **env_kwargs(args)):
        results.append(result)
        if not args.json:
            sys.stdout.write(f"{'ok  ' if result.passed else 'FAIL'} {result.name}{': ' if result.detail else ''}{result.detail}\n")
    if args.json:
        sys.stdout.write(json.dumps([{"name": r.name, "passed": r.passed, "detail": r.detail} for r in results]) + "\n")
    return 0 if all(r.passed for r in results) else 1
