"""`agentgym play`: one episode, every turn with its scores."""

import argparse
import sys

from agentgym.cli.options import (
    add_env_arguments,
    add_policy_arguments,
    check_env_id,
    env_kwargs,
    make_policy,
    sampling_config,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_env_arguments(parser)
    add_policy_arguments(parser, default="scripted")
    parser.add_argument("--seed", type=int, default=0, help="chooses the task and keys all sampling")
    parser.add_argument("--task", help="task id; otherwise one is drawn")


def run(args: argparse.Namespace) -> int:
    """Run one episode and print it."""
    from agentgym.rollout import EnvPool, run_groups
    from agentgym.rollout.record import to_line, without_gold
    from agentgym.seeding import stream
    from agentgym.view import episode_text

    check_env_id(args.env)
    pool = EnvPool(args.env, **env_kwargs(args))
    source, split = pool.first.source, pool.first.split
    task = source.by_id(args.task) if args.task else source.sample(split, stream(args.seed, "play"))
    pool.first.check_task(task)
    policy = make_policy(args.policy, args.policy_arg)
    sampling = sampling_config(args, policy)
    (group,) = run_groups(pool, policy, [task], group_size=1, key=(args.seed, 0), sampling=sampling)
    record = group.trajectories[0]
    sys.stdout.write(to_line(without_gold(record)) + "\n" if args.json else episode_text(record))
    if pool.first.suite.deferred and record.in_statistics:
        names = ", ".join(pool.first.suite.deferred)
        sys.stderr.write(f"note: play asks no judge and no scorer, so these scores stay open and count 0: {names}\n")
    if not record.in_statistics:
        sys.stderr.write(f"the episode ended by a fault: {record.end_reason}: {record.error}\n")
        return 3
    return 0
