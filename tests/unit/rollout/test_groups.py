"""The one driver: keyed results, the ledger, faults that stay inside their sibling."""

import asyncio
import json

import pytest

from agentgym import schema
from agentgym.rollout import EnvPool, Request, SamplingConfig, run_groups
from agentgym.rollout.batcher import Batcher
from agentgym.rollout.groups import run_groups_async
from agentgym.rollout.record import read_trajectories, to_chat, to_line, without_gold, write_trajectories
from agentgym.types import Group, Trajectory


def _tasks(pool: EnvPool, n: int) -> list:
    return list(pool.first.tasks("dev")[:n])


def _flat(groups: list[Group]) -> list[Trajectory]:
    return [t for g in groups for t in g.trajectories]


def test_results_do_not_depend_on_concurrency(pool, policy):
    lines = []
    for concurrency in (0, 1, 5):
        groups = run_groups(pool, policy, _tasks(pool, 6), group_size=3, key=(7, 2), concurrency=concurrency)
        lines.append([to_line(t) for t in _flat(groups)])
    assert lines[0] == lines[1] == lines[2]
    assert len(set(lines[0])) == 18


def test_all_live_episodes_are_batched_together(pool, policy):
    run_groups(pool, policy, _tasks(pool, 5), group_size=4, key=(0, 0))
    assert policy.batches[0] == 20
    assert sorted(policy.batches, reverse=True) == policy.batches
    assert len(policy.released) == 20


def test_the_ledger_holds_what_was_sampled_and_nothing_else(pool, policy):
    (group,) = run_groups(pool, policy, _tasks(pool, 1), group_size=2, key=(1, 0))
    for trajectory in group.trajectories:
        (segment,) = trajectory.segments
        assert len(segment.ids) == len(segment.mask) == len(segment.logprobs)
        sampled = ["".join(chr(i) for i in segment.ids[s.start : s.end]) for s in segment.spans]
        assert sampled == [t.action for t in trajectory.turns]
        assert sum(segment.mask) == sum(s.end - s.start for s in segment.spans)
        text = "".join(chr(i) for i in segment.ids)
        for message in (m for t in trajectory.turns[:-1] for m in t.messages):
            assert message.text in text


def test_drift_is_an_error_of_that_episode(pool, policy):
    policy.break_context = True
    (group,) = run_groups(pool, policy, _tasks(pool, 1), group_size=2, key=(1, 0))
    for trajectory in group.trajectories:
        assert trajectory.end_reason == "env_error"
        assert "the sampler saw" in trajectory.error
        assert not trajectory.in_loss
        assert not trajectory.in_statistics


def test_a_failed_service_marks_its_sibling_alone(pool, policy):
    policy.error_member = 1
    (group,) = run_groups(pool, policy, _tasks(pool, 1), group_size=3, key=(1, 0))
    assert [t.end_reason == "service_error" for t in group.trajectories] == [False, True, False]
    assert group.trajectories[1].error == "the service is down"
    assert [t.in_loss for t in group.trajectories] == [True, False, True]


def test_a_full_context_truncates_and_stays_in_the_loss(pool, policy):
    start = len(policy.renderer.start(pool.first.prompt(_tasks(pool, 1)[0]), ()))
    sampling = SamplingConfig(max_context=start + 30, max_tokens=100)
    (group,) = run_groups(pool, policy, _tasks(pool, 1), group_size=1, key=(3, 0), sampling=sampling)
    (trajectory,) = group.trajectories
    assert trajectory.end_reason == "max_tokens"
    assert trajectory.truncated
    assert trajectory.in_loss
    assert trajectory.in_statistics


def test_records_round_trip_and_rescore_without_the_environment(pool, policy, tmp_path):
    records = _flat(run_groups(pool, policy, _tasks(pool, 6), group_size=2, key=(4, 0)))
    write_trajectories(tmp_path / "t.jsonl", records)
    back = list(read_trajectories(tmp_path / "t.jsonl"))
    assert back == records
    for record in back:
        again = pool.first.suite.rescore(record)
        assert again.total == record.total
        assert [t.scores for t in again.turns] == [t.scores for t in record.turns]


def test_exported_chat_ends_with_an_action_and_holds_no_gold(pool, policy):
    record = run_groups(pool, policy, _tasks(pool, 1), group_size=1, key=(4, 1))[0].trajectories[0]
    chat = to_chat(record)
    assert chat["messages"][-1]["role"] == "assistant"
    assert "gold" not in json.dumps(chat)
    assert without_gold(record).gold is None
    assert schema.to_json(record)["gold"]
    assert pytest.approx(chat["reward"]) == record.total


def test_a_record_that_cannot_be_kept_ends_the_other_episodes(pool, policy):
    kept = []

    def keep(record):
        kept.append(record)
        raise OSError("no space left")

    async def run():
        with pytest.raises(OSError, match="no space"):
            await run_groups_async(pool, policy, _tasks(pool, 6), group_size=2, key=(7, 0), concurrency=2, max_wait_s=0.01, on_trajectory=keep)
        asked = len(policy.batches)
        await asyncio.sleep(0.2)
        assert (len(kept), len(policy.batches)) == (1, asked), "nothing goes on behind the caller's back"

    asyncio.run(run())


def test_the_policy_is_not_asked_for_episodes_that_were_given_up(pool, policy):
    async def run():
        batcher = Batcher(policy, max_wait_s=0.05)
        batcher.enter(2)
        asking = asyncio.ensure_future(batcher.act(Request("a", (), (), (), key=(0, 0))))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.sleep(0.1)

    asyncio.run(run())
    assert policy.batches == []
