"""`agentgym eval`: evaluate a policy, or compare two evaluations."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym.cli.options import (
    add_env_arguments,
    add_judge_arguments,
    add_policy_arguments,
    check_env_id,
    env_kwargs,
    existing_path,
    judge_config,
    make_policy,
    sampling_config,
)
from agentgym.cli.parser import whole_number
from agentgym.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_env_arguments(parser, optional=True)
    add_policy_arguments(parser, default="scripted")
    add_judge_arguments(parser)
    parser.add_argument("--samples", type=whole_number(1), default=1, help="episodes per task (pass@k)")
    parser.add_argument("--limit", type=whole_number(1), help="only the first N tasks")
    parser.add_argument("--seed", type=int, default=0, help="keys all sampling")
    parser.add_argument("--concurrency", type=whole_number(0), default=32, help="episodes at once; 0 is all")
    parser.add_argument("--out", type=Path, help="folder for records and result; a stopped evaluation resumes there")
    parser.add_argument(
        "--compare", type=existing_path, nargs="+", default=[], metavar="OUT",
        help="compare with this earlier --out, task by task; without ENV: two finished ones with each other",
    )  # fmt: skip
    parser.add_argument("--fail-under", type=float, help="exit code 1 if success is lower")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from agentgym.rollout import (
        EnvPool,
        EvalConfig,
        compare,
        earlier_result,
        evaluate,
        refuse_unscorable,
        unknown_gold,
    )
    from agentgym.view import comparison_table, evaluation_table, progress_line

    if args.env is None:
        return _compare_finished(args)
    if len(args.compare) > 1:
        raise ConfigError("--compare takes one folder beside an environment; two only without one")
    check_env_id(args.env)
    earlier = earlier_result(args.compare[0]) if args.compare else {}
    kwargs = env_kwargs(args)
    pool = EnvPool(args.env, **kwargs)
    tasks = pool.first.tasks()[: args.limit] if args.limit else pool.first.tasks()
    refuse_unscorable(pool.first, tasks)
    policy = make_policy(args.policy, args.policy_arg)
    config = EvalConfig(args.samples, args.seed, args.concurrency, sampling_config(args, policy))
    judging = judge_config(args)
    services = _services(pool.first.suite, policy, judging, tasks)
    settings = {"env": args.env, "env_kwargs": kwargs, "policy": args.policy, "policy_args": args.policy_arg}
    if services.judge is not None:
        settings["judge"] = judging
    if args.out is not None and (contents := _contents(kwargs)):
        settings["sha256"] = contents
    if unknown := unknown_gold(pool.first, tasks):
        sys.stderr.write(
            f"warning: {len(unknown)} of {len(tasks)} tasks name gold passages that the corpus does not hold "
            f"(the first is {unknown[0]!r}): their recall cannot reach 1; do questions and index belong together?\n"
        )
    progress = None if args.quiet else progress_line(len(tasks) * args.samples)
    options: dict[str, Any] = {"out": args.out, "settings": settings, "progress": progress, "services": services}
    options["kept"] = progress.keep if progress is not None else None
    result, _ = evaluate(pool, policy, tasks, config, **options)
    body = result.to_json()
    if args.compare:
        body["comparison"] = compare(earlier, result.per_task)
    if args.json:
        sys.stdout.write(json.dumps(body) + "\n")
    else:
        sys.stdout.write(evaluation_table(result, title=_title(args, pool.first.split)))
        if args.compare:
            sys.stdout.write(comparison_table(body["comparison"], _name(args.compare[0]), "this run"))
    for note in services.notes():
        sys.stderr.write(f"warning: {note}\n")
    if result.services:
        asked, abstained = (result.services.get(f"judge/{name}", 0.0) for name in ("requests", "abstained"))
        sys.stderr.write(f"the judge was asked {asked:.0f} times and abstained {abstained:.0f} times\n")
    if result.n_faults:
        sys.stderr.write(_faults(result.n_faults, result.faults))
    if result.n_faults == result.n_episodes:
        return 3
    return int(args.fail_under is not None and result.measures["success"].mean < args.fail_under)


def _services(suite: Any, policy: Any, judging: Any, tasks: Any) -> Any:
    """Return what fills the scores that the rollouts leave open; the policy's own probabilities where it has them."""
    from agentgym.rewards import Scorer
    from agentgym.rollout import Services, check_scorer, judge_for

    scorer = policy if isinstance(policy, Scorer) else None
    check_scorer(suite, scorer, "--policy hf")
    judge = judge_for(suite, judging, tasks, "--judge endpoint --judge-arg base_url=http://127.0.0.1:8000/v1")
    if judging is not None and judge is None:
        sys.stderr.write(f"warning: no component of the reward {suite.name} asks a judge; --judge is not used\n")
    return Services(suite, scorer=scorer, judge=judge)


def _compare_finished(args: argparse.Namespace) -> int:
    """Compare two finished evaluations without running anything."""
    from agentgym.rollout import compare, earlier_result
    from agentgym.view import comparison_table

    if len(args.compare) != 2:
        raise ConfigError(
            "eval needs an environment id, e.g. SearchQA-v0, or two finished evaluations: --compare EARLIER LATER"
        )
    table = compare(*(earlier_result(path) for path in args.compare))
    if args.json:
        sys.stdout.write(json.dumps({"comparison": table}) + "\n")
    else:
        sys.stdout.write(comparison_table(table, *map(_name, args.compare)))
    return 0


def _faults(n: int, faults: Mapping[str, int]) -> str:
    """Return how many episodes ended by a fault, and the most frequent faults."""
    common = sorted(faults.items(), key=lambda fault: -fault[1])
    lines = [f"{n} episodes were lost to faults and are in no mean:", *(f"  {times} × {text}" for text, times in common[:3])]
    if len(common) > 3:
        lines.append(f"  and {len(common) - 3} other faults; --json and --out hold all of them")
    return "\n".join(lines) + "\n"


def _title(args: argparse.Namespace, split: str) -> str:
    """Return what was evaluated; question files have but one split, which is not named."""
    return f"{args.env} · {args.policy}" + (f" · split {split}" if split != "all" else "")


def _name(path: Path) -> str:
    """Return what a table calls an evaluation: its folder."""
    path = path.resolve()
    return path.name if path.is_dir() else path.parent.name


def _contents(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Return checksums of question file, index, and reward and tools of one's own: no evaluation resumes over other ones."""
    from agentgym.named import source_file
    from agentgym.retrieval.manifest import NAME

    found = {}
    for name in ("reward", "tools"):
        given = kwargs.get(name, ())
        files = (source_file(text) for text in ([given] if isinstance(given, str) else given) if isinstance(text, str))
        if codes := [file.read_bytes() for file in files if file is not None and file.is_file()]:
            found[name] = hashlib.sha256(b"".join(codes)).hexdigest()
    for name in ("tasks", "index"):
        path = Path(str(kwargs[name])) if name in kwargs else None
        if path is not None and path.is_dir():  # an index: its manifest holds the checksums of all files
            path /= NAME
        if path is not None and path.is_file():
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
