"""Same inputs, same outcomes: seeds, replays from records, snapshots, other instances."""

import json
from collections.abc import Callable, Iterator, Sequence

from agentgym import schema
from agentgym.audit.players import advance, begin, oracle
from agentgym.audit.report import Finding, run_checks
from agentgym.env import ToolEnv
from agentgym.rollout.record import to_line
from agentgym.seeding import stream
from agentgym.task import Task
from agentgym.types import Trajectory

SECTION = "reproducible"


def check_reproduction(
    env: ToolEnv, tasks: Sequence[Task], records: Sequence[Trajectory], make: Callable[[], ToolEnv]
) -> list[Finding]:
    """Repeat episodes in every way that must give the same record."""
    return run_checks(
        (
            (SECTION, "same seed, same episode", lambda: (_seeded(env, make(), seed) for seed in range(4))),
            (SECTION, "another seed, another episode", lambda: _varied(env)),
            (SECTION, "a recorded episode replays from its actions", lambda: (_replayed(make(), t, r) for t, r in zip(tasks, records, strict=False))),
            (SECTION, "snapshot and restore at every turn", lambda: (p for t in tasks[:3] for p in _snapshots(env, make(), t))),
            (SECTION, "a record survives its file", lambda: (_stored(r) for r in records[:6])),
            (SECTION, "tasks are found by their ids, in a fixed order", lambda: _tasks(env, make())),
        )
    )


def _seeded(env: ToolEnv, other: ToolEnv, seed: int) -> str:
    first_, second = _line(env, seed), _line(other, seed)
    return "" if first_ == second else f"seed {seed} gave two different records"


def _line(env: ToolEnv, seed: int) -> str:
    options = {"progress": 1.0} if env.suite.is_scheduled else None
    env.reset(seed=seed, options=options)
    rng = stream(seed, "audit")
    while not env.ended:
        env.step(env.oracle_action(rng, 0.5))
    return to_line(env.trajectory)


def _varied(env: ToolEnv) -> Iterator[str]:
    options = {"progress": 1.0} if env.suite.is_scheduled else None
    seen = {env.reset(seed=seed, options=options)[1]["task_id"] for seed in range(12)}
    if len(seen) < 4 and len(env.tasks()) > 12:
        yield f"12 seeds gave {len(seen)} different tasks"
    env.reset(seed=1, options=options)
    drawn = {env.reset(options=options)[1]["task_id"] for _ in range(12)}
    if len(drawn) < 4 and len(env.tasks()) > 12:
        yield f"12 resets after one seed gave {len(drawn)} different tasks"


def _replayed(env: ToolEnv, task: Task, record: Trajectory) -> str:
    player = begin(env, task, record.seed)
    for turn in record.turns:
        if env.ended:
            return f"task {task.id}: the replay ended after {player.turn} of {len(record.turns)} turns"
        advance(player, turn.action)
    again = env.trajectory
    for name in ("question", "prompt", "turns", "answer", "citations", "end_reason", "terminated", "truncated", "success"):
        one, two = getattr(record, name), getattr(again, name)
        if name == "turns":
            one, two = [_bare(record), _bare(again)]
        if one != two:
            return f"task {task.id}: the replay differs in {name}"
    return ""


def _bare(record: Trajectory) -> list[object]:
    """Return the turns without what a service fills later."""
    return [
        (t.action, t.calls, t.results, t.error_code, t.error, t.messages, t.dropped_chars, t.state_hash_before,
         t.state_hash_after, t.changes, t.thought,
         sorted((n, s.raw, s.reason) for n, s in t.scores.items() if s.raw is not None and not s.parts))
        for t in record.turns
    ]  # fmt: skip


def _snapshots(env: ToolEnv, other: ToolEnv, task: Task) -> Iterator[str]:
    if not env.can_snapshot:
        return
    player, states, script = begin(env, task, (7,)), [], oracle(0.5, 5)
    while not env.ended:
        states.append(env.snapshot())
        advance(player, script(player))
    states.append(env.snapshot())
    actions, expected = [t.action for t in env.trajectory.turns], _plain(env.trajectory)
    for turn, state in enumerate(states):
        for instance in (env, other):
            instance.restore(state)
            if instance.snapshot() != state:
                yield f"task {task.id}, turn {turn}: the snapshot of a restored episode differs"
            if instance.n_turns != turn or instance.ended != (turn == len(actions)):
                yield f"task {task.id}, turn {turn}: restored with {instance.n_turns} turns, ended {instance.ended}"
            for action in actions[turn:]:
                instance.step(action)
            if _plain(instance.trajectory) != expected:
                yield f"task {task.id}, turn {turn}: the restored episode went another way"
    begin(env, task)
    env.end("max_tokens")
    state, expected = env.snapshot(), _plain(env.trajectory)
    other.restore(state)
    if _plain(other.trajectory) != expected:
        yield f"task {task.id}: an episode closed from outside is restored otherwise"


def _plain(record: Trajectory) -> str:
    """Return the record as text, stored scores of earlier turns included."""
    return json.dumps(schema.to_json(record), sort_keys=True)


def _stored(record: Trajectory) -> str:
    again = schema.from_json(Trajectory, json.loads(json.dumps(schema.to_json(record))))
    return "" if again == record else f"task {record.task_id}: the record read back from JSON is another one"


def _tasks(env: ToolEnv, other: ToolEnv) -> Iterator[str]:
    here, there = env.tasks(), other.tasks()
    count = min(len(here), 30)
    if len(here) != len(there) or [here[n].id for n in range(count)] != [there[n].id for n in range(count)]:
        yield "two instances list different tasks"
    ids = [here[n].id for n in range(count)]
    if len(set(ids)) != count:
        yield "two tasks have one id"
    for n in range(min(count, 5)):
        if env.source.by_id(ids[n]) != here[n]:
            yield f"task {ids[n]} is another one when it is asked for by id"
