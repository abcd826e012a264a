"""`agentgym check`: conformance of an environment, a reward or a tool."""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from agentgym.cli.options import add_env_arguments, check_env_id, env_kwargs, existing_path
from agentgym.errors import AgentGymError, ConfigError

KINDS = ("reward", "tool")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_env_arguments(parser)
    parser.add_argument(
        "name", nargs="?", metavar="NAME",
        help="in the place of ENV: `reward NAME | EXPRESSION | MODULE:NAME` or `tool MODULE:NAME`",
    )  # fmt: skip
    parser.add_argument("--env-id", help="reward: environment whose oracle plays the episodes (default: the first that fits); tool: whose first task gives state and services")
    parser.add_argument("--records", type=existing_path, help="reward: check on these trajectories (JSON lines, or a run folder)")
    parser.add_argument("--call", action="append", default=[], metavar="JSON", help="tool: arguments of a call that must work")
    parser.add_argument("--state", default="{}", metavar="JSON", help="tool: state of the episode that the calls meet")


def run(args: argparse.Namespace) -> int:
    """Run every check and print a line each; exit code 1 if one failed."""
    results = []
    for result in _checks(args):
        results.append(result)
        if not args.json:
            sys.stdout.write(f"{'ok  ' if result.passed else 'FAIL'} {result.name}{': ' if result.detail else ''}{result.detail}\n")
    if args.json:
        sys.stdout.write(json.dumps([{"name": r.name, "passed": r.passed, "detail": r.detail} for r in results]) + "\n")
    return 0 if all(r.passed for r in results) else 1


def _checks(args: argparse.Namespace) -> Iterable[Any]:
    from agentgym import hooks
    from agentgym.check import iter_checks, iter_tool_checks

    if args.env not in KINDS:
        if args.name is not None:
            raise ConfigError(f"check {args.env} {args.name}: two names; write `check ENV`, `check reward NAME` or `check tool NAME`")
        check_env_id(args.env)
        return iter_checks(args.env, **env_kwargs(args))
    if args.name is None:
        raise ConfigError(f"check {args.env}: say which, e.g. `agentgym check {'reward answer_em' if args.env == 'reward' else 'tool my_tools:refund'}`")
    if args.env == "tool":
        calls = [_object(text, "--call") for text in args.call]
        env_id = args.env_id or ("ToolCalls-v0" if args.world else "")
        if env_id:
            check_env_id(env_id)
        state = _object(args.state, "--state")
        found, options = hooks.TOOLS.resolve(args.name), {"calls": calls, "state": state, "env_id": env_id, **env_kwargs(args)}
        tools = found if isinstance(found, list | tuple) else [found]
        return (result for tool in tools for result in _apart(lambda tool=tool: iter_tool_checks(tool, **options), getattr(tool, "name", args.name)))
    return _reward_checks(args)


def _apart(checks: Callable[[], Iterable[Any]], name: str) -> Iterator[Any]:
    """Yield the results of checks that run in a child process: a tool that ends its process has failed one."""
    from agentgym.check import CheckResult

    forked = multiprocessing.get_context("fork")
    results, sender = forked.Pipe(duplex=False)
    child = forked.Process(target=_send, args=(checks, sender))
    child.start()
    sender.close()
    last = "the first rule"
    while True:
        try:
            result = results.recv()
        except EOFError:
            child.join()
            how = f"exit code {child.exitcode}" if (child.exitcode or 0) >= 0 else f"signal {-(child.exitcode or 0)}"
            detail = f"it ended the process ({how}) in what comes after {last}; a run would end with it: raise ToolError, or use agentgym.tools.isolated"
            yield CheckResult(f"{name}: leaves the process alone", False, detail)
            return
        if result is None:
            return
        if isinstance(result, Exception):
            raise result
        last = f"{result.name!r}"
        yield result


def _send(checks: Callable[[], Iterable[Any]], results: Any) -> None:
    try:
        for result in checks():
            results.send(result)
    except AgentGymError as error:
        results.send(error)
    results.send(None)


def _reward_checks(args: argparse.Namespace) -> Iterable[Any]:
    """Check a reward on records, on the environment named, or on the first whose tasks it can score."""
    from agentgym.check import iter_reward_checks
    from agentgym.check.episodes import fits
    from agentgym.envs import ENVIRONMENTS
    from agentgym.named import named_object
    from agentgym.rewards.registering import is_own
    from agentgym.rollout.logs import read_logs

    reward: Any = named_object(args.name, "reward") if is_own(args.name) else args.name
    if args.records is not None:
        return iter_reward_checks(reward, records=list(read_logs(args.records)))
    kwargs = env_kwargs(args)
    if args.env_id is not None:
        check_env_id(args.env_id)
        return iter_reward_checks(reward, args.env_id, **kwargs)
    ids = [i for i in sorted(ENVIRONMENTS, key=lambda i: i != "SearchQA-v0") if fits(reward, i, **kwargs)]
    return iter_reward_checks(reward, ids[0] if ids else "SearchQA-v0", **kwargs)


def _object(text: str, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ConfigError(f"{flag} {text!r}: write a JSON object, e.g. {flag} '{{\"order_id\": \"#W23\"}}'")
    return value
