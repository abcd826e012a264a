"""Branches: what they share with their parent, what they draw anew, and what they cost."""

from dataclasses import replace
from typing import Any

import pytest

from agentgym.errors import ConfigError
from agentgym.rollout import EnvPool
from agentgym.rollout.branch import BranchConfig, Node, branch_metrics, priority, run_branched
from agentgym.rollout.record import to_line
from agentgym.types import Group, Trajectory


def run(pool: EnvPool, policy: Any, n_tasks: int = 3, group_size: int = 3, **branch: Any) -> list[Group]:
    tasks = list(pool.first.tasks("dev")[:n_tasks])
    options = {"group_size": group_size, "key": (5, 1)}
    return run_branched(pool, policy, tasks, branch=BranchConfig(**branch), **options)


def split(groups: list[Group]) -> tuple[dict[str, Trajectory], list[Group]]:
    every = {t.id: t for g in groups for t in g.trajectories}
    return every, [g for g in groups if g.trajectories[0].parent is not None]


def test_every_turn_that_an_episode_outlives_is_continued(pool, policy):
    groups = run(pool, policy, mode="turns", continuations=2)
    every, branches = split(groups)
    roots = [t for t in every.values() if t.parent is None]
    assert len(roots) == 9
    places = {(t.id, k) for t in roots for k in range(1, len(t.turns))}
    assert {g.trajectories[0].parent for g in branches} == places
    for group in branches:
        assert len(group.trajectories) == 2
        for branch in group.trajectories:
            assert branch.group_id == group.id
            parent = every[branch.parent[0]]
            n = branch.parent[1]
            shared = [replace(t, entropies=()) for t in parent.turns[:n]]
            assert [replace(t, entropies=()) for t in branch.turns[:n]] == shared
            (segment,) = branch.segments
            assert [s.turn for s in segment.spans] == list(range(n, len(branch.turns)))
            first = next(s.start for s in parent.segments[0].spans if s.turn == n)
            assert segment.spans[0].start == first
            assert segment.ids[:first] == parent.segments[0].ids[:first]
            assert not any(segment.mask[:first])
            assert sum(segment.mask) == sum(len(t.action) for t in branch.own_turns)
    assert branch_metrics(groups)["branch/completions"] == sum(len(t.own_turns) for g in branches for t in g.trajectories)


def test_continuations_differ_and_do_not_depend_on_concurrency(pool, policy):
    tasks = list(pool.first.tasks("dev")[:3])
    branch = BranchConfig("turns", continuations=6)
    found = [
        run_branched(pool, policy, tasks, branch=branch, group_size=2, key=(5, 1), concurrency=n) for n in (0, 1, 4)
    ]
    assert [[to_line(t) for g in groups for t in g.trajectories] for groups in found[1:]] == [
        [to_line(t) for g in found[0] for t in g.trajectories]
    ] * 2
    _, branches = split(found[0])
    assert any(len({tuple(t.action for t in b.own_turns) for b in g.trajectories}) > 1 for g in branches)


def test_the_roots_are_those_of_a_run_without_branches(pool, policy):
    plain = run(pool, policy, mode="none")
    assert all(t.parent is None for g in plain for t in g.trajectories)
    for mode in ("turns", "tree"):
        assert run(pool, policy, mode=mode)[:3] == plain


def test_a_share_is_drawn_for_each_turn_alone(pool, policy):
    _, all_ = split(run(pool, policy, mode="turns", continuations=1))
    _, some = split(run(pool, policy, mode="turns", continuations=1, share=0.5))
    _, none = split(run(pool, policy, mode="turns", continuations=1, share=0.0))
    assert none == []
    assert 0 < len(some) < len(all_)
    assert {g.id for g in some} < {g.id for g in all_}


def test_a_tree_stays_in_its_budget_and_branches_from_branches(pool, policy):
    budget = 60
    groups = run(pool, policy, n_tasks=2, mode="tree", continuations=2, budget=budget, entropy_weight=0.0)
    every, branches = split(groups)
    spent: dict[str, int] = {}
    for group in branches:
        spent[group.task_id] = spent.get(group.task_id, 0) + sum(len(t.own_turns) for t in group.trajectories)
    assert set(spent) == {t.task_id for t in every.values()}
    assert all(0 < n <= budget for n in spent.values())
    deep = [t for g in branches for t in g.trajectories if every[t.parent[0]].parent is not None]
    assert deep
    assert all(t.first_turn > every[t.parent[0]].first_turn for t in deep)
    assert len({g.trajectories[0].parent for g in branches}) == len(branches)


def test_the_frontier_prefers_what_is_undecided_and_where_the_policy_wavers():
    record = Trajectory("a", "e", "t", (), ())

    def node(values: list[float], entropy: float) -> Node:
        return Node(0, record, 1, b"", (), entropy, (), values)

    totals = [0.0, 1.0]
    undecided, won = node([0.0, 1.0], 0.1), node([1.0, 1.0, 1.0, 1.0], 0.4)
    assert priority(undecided, totals, 0.4, 0.0) == pytest.approx(1.0)
    assert priority(won, totals, 0.4, 0.0) == pytest.approx(4 * 0.9 * 0.1)
    assert priority(won, totals, 0.4, 1.0) == 1.0 > priority(undecided, totals, 0.4, 1.0)
    assert priority(won, [1.0, 1.0], 0.0, 0.5) == 0.5  # nothing is known yet


def test_a_lost_episode_is_continued_nowhere(pool, policy):
    policy.error_member = 0
    every, branches = split(run(pool, policy, group_size=2, mode="turns", continuations=1))
    assert branches
    assert all(every[g.trajectories[0].parent[0]].in_statistics for g in branches)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "turn"}, "branch.mode is 'turn'; did you mean 'turns'"),
        ({"continuations": 0}, "branch.continuations is 0; allowed: 1 or more"),
        ({"share": 1.5}, "branch.share is 1.5; allowed: 0 to 1"),
        ({"entropy_weight": float("nan")}, "branch.entropy_weight is nan"),
    ],
)
def test_wrong_settings_say_what_is_allowed(options, says):
    with pytest.raises(ConfigError, match=says):
        BranchConfig(**options)


def test_an_environment_without_snapshots_says_so(pool, policy, monkeypatch):
    monkeypatch.setattr(pool.first, "can_snapshot", False)
    with pytest.raises(ConfigError, match="SearchQA-v0 cannot take snapshots"):
        run(pool, policy, mode="tree")
