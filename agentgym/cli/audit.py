"""`agentgym audit`: hack policies and invariants against an environment and its reward, or against a log."""

import argparse
import json
import sys

from agentgym.cli.options import add_env_arguments, check_env_id, env_kwargs, existing_path
from agentgym.cli.parser import whole_number
from agentgym.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_env_arguments(parser, optional=True)
    parser.add_argument("--episodes", type=whole_number(1), default=12, help="tasks that every player plays")
    parser.add_argument("--instances", type=whole_number(1), default=8, help="environments at once, for the throughput")
    parser.add_argument("--run", type=existing_path, help="folder of a training run: was the environment learned?")
    parser.add_argument("--steps", type=whole_number(2), default=300, help="training steps within which success must rise")
    parser.add_argument("--all", action="store_true", help="list passed checks too")
    parser.add_argument("--logs", type=existing_path, metavar="PATH", help="audit a run folder or a file of trajectories instead of playing")
    parser.add_argument("--format", default="agentgym", help="format of --logs: agentgym, atif, chat, search_r1, trl, verl, cm2")


def run(args: argparse.Namespace) -> int:
    """Audit; exit code 1 if a check failed, or if log and reward differ."""
    if args.logs is not None and args.env is not None:
        raise ConfigError(f"audit: give {args.env} to be played, or --logs {args.logs} to be read, not both")
    if args.logs is not None:
        return _logs(args)
    if args.env is None:
        raise ConfigError("audit: name an environment, e.g. `agentgym audit SearchQA-v0 --reward search`, or give --logs FILE")
    from agentgym.audit import AuditConfig, audit_env
    from agentgym.audit.tables import lines

    check_env_id(args.env)
    config = AuditConfig(args.episodes, args.instances, args.run, args.steps)

    def say(name: str) -> None:
        if not args.quiet and sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{name}")

    report = audit_env(args.env, config, progress=say, **env_kwargs(args))
    say("")
    _print(json.dumps(report.to_json()) if args.json else "\n".join(lines(report, every=args.all)))
    return 0 if report.passed else 1


def _logs(args: argparse.Namespace) -> int:
    from agentgym.audit.logs import audit_logs
    from agentgym.audit.tables import log_lines
    from agentgym.rewards import build_suite
    from agentgym.rollout.logs import read_logs, with_gold
    from agentgym.worlds.readers import read_tasks

    records = read_logs(args.logs, args.format)
    if args.tasks:
        records = with_gold(records, read_tasks(args.tasks).split("all"))
    report = audit_logs(records, build_suite(args.reward or "answer_em"))
    _print(json.dumps(report.to_json()) if args.json else "\n".join(log_lines(report)))
    return 0 if report.passed else 1


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
