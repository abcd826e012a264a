"""Evaluation and records: what is counted, what is refused, what survives broken files."""

import asyncio
import gzip
import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from agentgym.errors import ConfigError, DataError
from agentgym.rollout import (
    EnvPool,
    EvalConfig,
    compare,
    earlier_result,
    evaluate,
    read_trajectories,
    run_groups,
    summarize,
    write_trajectories,
)
from agentgym.rollout.evaluate import measures_of
from agentgym.rollout.record import TrajectoryWriter, to_line


def _tasks(pool: EnvPool, n: int) -> list:
    return list(pool.first.tasks("dev")[:n])


def test_faults_are_counted_and_are_in_no_mean(pool, policy):
    policy.error_member = 1
    result, groups = evaluate(pool, policy, _tasks(pool, 4), EvalConfig(samples=2))
    assert (result.n_tasks, result.n_episodes, result.n_faults) == (4, 8, 4)
    assert result.faults == {"service_error: the service is down": 4}
    good = [t for g in groups for t in g.trajectories if t.in_statistics]
    assert result.measures["success"].mean == sum(t.success for t in good) / 4
    assert 2 not in result.pass_at
    policy.error_member = 0
    only, _ = evaluate(pool, policy, _tasks(pool, 2), EvalConfig(samples=1))
    assert only.measures == {}
    assert only.n_faults == only.n_episodes


def test_measures_are_means_over_tasks_of_means_over_samples(pool, policy):
    groups = run_groups(pool, policy, _tasks(pool, 5), group_size=4, key=(3, 0))
    result = summarize(groups, 4)
    for group in groups:
        rows = [measures_of(t) for t in group.trajectories]
        assert result.per_task[group.task_id]["turns"] == pytest.approx(sum(r["turns"] for r in rows) / 4)
    assert result.measures["turns"].mean == pytest.approx(sum(r["turns"] for r in result.per_task.values()) / 5)
    assert result.pass_at[1].mean == pytest.approx(result.measures["success"].mean)
    assert result.pass_at[1].mean <= result.pass_at[2].mean <= result.pass_at[4].mean
    three = [replace(g, trajectories=g.trajectories[:3]) for g in groups]
    assert set(summarize(three, 3).pass_at) == {1, 2, 3}, "the number of samples that was asked for is shown"
    assert sum(row["tasks"] for row in result.by_kind.values()) == 5
    row = groups[0].trajectories[0]
    bare = measures_of(replace(row, gold=None))
    assert set(bare) == {"success", "reward", "turns", "calls", "invalid", "answered"}
    told = measures_of(replace(row, gold={"answers": [{"text": "7"}], "communicate": [{"text": "7"}]}))
    assert set(told) == set(bare), "a reply that must tell something is no short answer"
    assert "em" in measures_of(replace(row, gold={"answers": [{"text": "7"}]}))


def test_a_result_is_plain_json_whatever_the_tasks_are_called(pool, policy):
    (group,) = run_groups(pool, policy, _tasks(pool, 1), group_size=1, key=(3, 0))
    named = replace(group, task_id="NaN Infinity")
    result = summarize([named], 1)
    result.by_kind["none"] = {"recall": math.nan}
    body = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(body["per_task"]) == ["NaN Infinity"]
    assert body["by_kind"]["none"]["recall"] is None


def test_what_cannot_be_evaluated_is_refused(pool, policy, tmp_path):
    with pytest.raises(ConfigError, match="no tasks"):
        evaluate(pool, policy, [])
    with pytest.raises(ConfigError, match="samples is 0"):
        evaluate(pool, policy, _tasks(pool, 1), EvalConfig(samples=0))
    with pytest.raises(ConfigError, match="concurrency is -1"):
        evaluate(pool, policy, _tasks(pool, 1), EvalConfig(concurrency=-1))
    with pytest.raises(ConfigError, match="no task in common"):
        compare({"a": {"success": 1.0}}, {"b": {"success": 1.0}})
    with pytest.raises(DataError, match=r"result\.json: no such file"):
        earlier_result(tmp_path)
    with pytest.raises(ConfigError, match=r"takes no argument 'wrld'.*did you mean 'world'"):
        EnvPool("SearchQA-v0", wrld="synthetic:closed")


def test_it_runs_in_a_notebook(pool, policy):
    async def cell() -> float:
        result, _ = evaluate(pool, policy, _tasks(pool, 2))
        return result.measures["turns"].mean

    assert asyncio.run(cell()) == evaluate(pool, policy, _tasks(pool, 2))[0].measures["turns"].mean


def test_faulty_episodes_run_again_on_resume(pool, policy, tmp_path):
    policy.error_member = 1
    first, _ = evaluate(pool, policy, _tasks(pool, 3), EvalConfig(samples=2), out=tmp_path)
    policy.error_member = None
    batches = len(policy.batches)
    # how many run at once is no setting of the result
    second, _ = evaluate(pool, policy, _tasks(pool, 3), EvalConfig(samples=2, concurrency=3), out=tmp_path)
    assert (first.n_faults, second.n_faults) == (3, 0)
    assert policy.batches[batches] == 3, "only the faulty ones start"
    whole, _ = evaluate(pool, policy, _tasks(pool, 3), EvalConfig(samples=2))
    assert second == whole


# ---- records


def test_a_half_written_last_line_is_left_out_and_other_damage_is_named(pool, policy, tmp_path: Path):
    (group,) = run_groups(pool, policy, _tasks(pool, 1), group_size=3, key=(5, 0))
    path = tmp_path / "t.jsonl"
    write_trajectories(path, group.trajectories)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (1, 10, len(lines[2]) - 1):
        path.write_bytes(lines[0] + lines[1] + lines[2][:cut])
        lost = cut < len(lines[2]) - 1
        with pytest.warns(UserWarning, match=r"t\.jsonl:3: the last line is cut .* 2 whole") if lost else nullcontext():
            assert len(list(read_trajectories(path))) == (2 if lost else 3)
        with TrajectoryWriter(path) as writer:
            writer.write(group.trajectories[2])
        assert path.read_bytes() == whole
    path.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    with pytest.raises(DataError, match=r"t\.jsonl:2: not valid JSON"):
        list(read_trajectories(path))
    for bad, message in (
        (b"\xff\xfe\n", "not UTF-8"),
        (b'{"schema_version": 99}\n', "schema_version is 99"),
        (b"[1]\n", "no trajectory of ours"),
        (b"[" * 100_000 + b"\n", "nested too deeply"),
        (lines[0].replace(b'"turns"', b'"trns"'), "did you mean 'turns'"),
    ):
        path.write_bytes(lines[0] + bad)
        with pytest.raises(DataError, match=message):
            list(read_trajectories(path))


def test_packed_records_are_read(pool, policy, tmp_path: Path):
    (group,) = run_groups(pool, policy, _tasks(pool, 1), group_size=2, key=(5, 0))
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress("".join(to_line(t) + "\n" for t in group.trajectories).encode()))
    assert list(read_trajectories(path)) == list(read_trajectories(str(path))) == list(group.trajectories)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"t\.jsonl\.gz"):
        list(read_trajectories(path))
