"""`agentgym eval`: evaluate a policy, or compare two evaluations."""

import argparse
import json
import sys
from pathlib import Path

from agentgym.cli.options import (
    add_env_arguments,
    add_policy_arguments,
    check_env_id,
    env_kwargs,
    existing_path,
    make_policy,
)
from agentgym.cli.parser import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_env_arguments(parser)
    add_policy_arguments(parser, default="scripted")
    parser.add_argument("--samples", type=whole_number(1), default=1, help="episodes per task (pass@k)")
    parser.add_argument("--limit", type=whole_number(1), help="only the first N tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concurrency", type=whole_number(0), default=32, help="episodes at once; 0 is all")
    parser.add_argument("--out", type=Path, help="folder for records and result; a stopped evaluation resumes there")
    parser.add_argument("--compare", type=existing_path, metavar="OUT", help="compare with this earlier --out, task by task")
    parser.add_argument("--fail-under", type=float, help="exit code 1 if success is lower")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from agentgym.rollout import EnvPool, EvalConfig, SamplingConfig, compare, earlier_result, evaluate
    from agentgym.view import comparison_table, evaluation_table, progress_line

    check_env_id(args.env)
    earlier = earlier_result(args.compare) if args.compare is not None else {}
    kwargs = env_kwargs(args)
    pool = EnvPool(args.env, **kwargs)
    tasks = pool.first.tasks()[: args.limit] if args.limit else pool.first.tasks()
    policy = make_policy(args.policy, args.policy_arg)
    sampling = SamplingConfig(args.temperature, args.max_tokens, oracle_noise=args.noise)
    config = EvalConfig(args.samples, args.seed, args.concurrency, sampling)
    settings = {"env": args.env, "env_kwargs": kwargs, "policy": args.policy, "policy_args": args.policy_arg}
    progress = None if args.quiet else progress_line(len(tasks) * args.samples)
    result, _ = evaluate(pool, policy, tasks, config, out=args.out, settings=settings, progress=progress)
    body = result.to_json()
    if args.compare is not None:
        body["comparison"] = compare(earlier, result.per_task)
    if args.json:
        sys.stdout.write(json.dumps(body) + "\n")
    else:
        sys.stdout.write(evaluation_table(result, title=f"{args.env} · {args.policy}"))
        if args.compare is not None:
            sys.stdout.write(comparison_table(body["comparison"], str(args.compare), "this run"))
    if result.n_faults:
        sys.stderr.write(f"{result.n_faults} episodes ended by a fault and are in no mean: {result.faults}\n")
    if result.n_faults == result.n_episodes:
        return 3
    return int(args.fail_under is not None and result.measures["success"].mean < args.fail_under)
