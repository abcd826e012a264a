"""Branches: continuations of an episode from a snapshot in its middle, as groups of siblings of their own.

What the siblings of such a group share is the turns before the branch; those belong to the parent and are neither
scored nor trained again (`Trajectory.parent`). Mode "turns" measures how an episode's prospects change turn by turn
(recipe `counterfactual`); mode "tree" spends a budget of completions where the most is open (any recipe).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentgym.episode import canonical
from agentgym.errors import ConfigError, suggestion
from agentgym.rollout.episode import SamplingConfig, Start
from agentgym.rollout.groups import EnvPool, Job, run_groups_async, run_jobs
from agentgym.rollout.policy import Policy
from agentgym.seeding import stream
from agentgym.task import Task
from agentgym.tools.waiting import run_waiting
from agentgym.types import Group, Trajectory

MODES = ("none", "turns", "tree")


@dataclass(frozen=True, slots=True)
class BranchConfig:
    """Which snapshots are continued, and how often."""

    mode: Literal["none", "turns", "tree"] = "none"
    """none; turns: from the turns of every episode, to measure what each turn changed; tree: from the most promising
    turns of each task's tree, until its budget is spent."""
    continuations: int = 4
    """Episodes from each snapshot: the members of one group."""
    share: float = 1.0
    """Mode turns: chance of each turn to be branched after it, drawn for each alone. Choosing by what happens later in
    the episode would bias the measured values."""
    budget: int = 64
    """Mode tree: completions (turns sampled) for the branches of a task, at most; no branch begins that might exceed it."""
    entropy_weight: float = 0.5
    """Mode tree: weight of the next turn's token entropy in choosing a snapshot, in [0, 1]; the rest is how undecided
    its value is."""

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.mode not in MODES:
            allowed = ", ".join(MODES)
            raise ConfigError(f"branch.mode is {self.mode!r}{suggestion(self.mode, MODES)}; allowed: {allowed}")
        for name in ("continuations", "budget"):
            if getattr(self, name) < 1:
                raise ConfigError(f"branch.{name} is {getattr(self, name)}; allowed: 1 or more")
        for name in ("share", "entropy_weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"branch.{name} is {getattr(self, name)}; allowed: 0 to 1")


@dataclass(slots=True, eq=False)
class Node:
    """A snapshot that may be continued: the first `turn` turns of an episode."""

    task: int
    record: Trajectory
    turn: int
    snapshot: bytes
    ids: tuple[int, ...]
    entropy: float
    """Mean token entropy of the turn that the record took here, natural log; 0 where none was recorded."""
    path: "tuple[Node, ...]"
    """The nodes before it, its parents' included."""
    values: list[float] = field(default_factory=list)
    """Total rewards of the finished episodes that went through it."""
    expanded: bool = False


@dataclass(slots=True)
class _Tree:
    """The open snapshots of one task."""

    nodes: list[Node]
    left: int
    """Completions that may still be sampled."""
    totals: list[float]
    """Total rewards of all its finished episodes."""


async def run_branched_async(
    pool: EnvPool,
    policy: Policy,
    tasks: Sequence[Task],
    *,
    branch: BranchConfig,
    group_size: int,
    key: tuple[int, int],
    sampling: SamplingConfig | None = None,
    **options: Any,
) -> list[Group]:
    """Run `group_size` episodes of every task, then branches from their snapshots.

    Args:
        pool: Where environments come from; they must be able to take snapshots.
        policy: Who acts.
        tasks: One group each.
        branch: What is continued.
        group_size: Siblings per group of whole episodes.
        key: (run seed, step).
        sampling: Temperature and token limits.
        options: concurrency, max_wait_s, progress, on_trajectory: see `run_groups_async`.

    Returns:
        The groups of the tasks in order, then one group for each snapshot that was continued.

    Raises:
        ConfigError: The environment cannot take snapshots.
    """
    if branch.mode != "none" and not pool.first.can_snapshot:
        raise ConfigError(
            f"branch.mode = {branch.mode!r}: {pool.env_id} cannot take snapshots (it holds a live process); set "
            "branch.mode = 'none'"
        )
    shots: dict[tuple[int, ...], dict[int, bytes]] = {}
    roots = await run_groups_async(
        pool, policy, tasks, group_size=group_size, key=key, sampling=sampling, **options,
        keeper=(lambda g, m: shots.setdefault((*key, g, m), {}).__setitem__) if branch.mode != "none" else None,
    )  # fmt: skip
    runner = _Runner(pool, policy, tasks, branch, shots, sampling=sampling, **options)
    if branch.mode == "turns":
        return roots + await runner.turns(roots)
    return roots + (await runner.tree(roots) if branch.mode == "tree" else [])


def run_branched(pool: EnvPool, policy: Policy, tasks: Sequence[Task], **options: Any) -> list[Group]:
    """Run `run_branched_async` to its end."""
    return run_waiting(run_branched_async(pool, policy, tasks, **options))


def rekeyed(snapshot: bytes, key: Sequence[int]) -> bytes:
    """Return a snapshot with another key: what is random in the environment from here on is drawn anew."""
    return canonical({**json.loads(snapshot), "key": list(key)}).encode()


class _Runner:
    """Runs branches for one step."""

    def __init__(
        self, pool: EnvPool, policy: Policy, tasks: Sequence[Task], branch: BranchConfig,
        shots: dict[tuple[int, ...], dict[int, bytes]], **options: Any,
    ) -> None:  # fmt: skip
        self.pool, self.policy, self.tasks, self.branch = pool, policy, tasks, branch
        self.shots, self.options = shots, options

    async def turns(self, roots: Sequence[Group]) -> list[Group]:
        """Continue every snapshot, or a random share of them that does not look at what came after."""
        nodes = [n for g, group in enumerate(roots) for t in group.trajectories for n in self._nodes(g, t, ())]
        share = self.branch.share
        chosen = [n for n in nodes if share >= 1.0 or stream(*n.record.seed, n.turn, "branch").random() < share]
        return await self._expand(chosen)

    async def tree(self, roots: Sequence[Group]) -> list[Group]:
        """Continue the best snapshot of every task in turn, until none of them fits into its budget."""
        trees = [_Tree([], self.branch.budget, []) for _ in roots]
        for g, group in enumerate(roots):
            for record in group.trajectories:
                self._add(trees[g], record, self._nodes(g, record, ()))
        found: list[Group] = []
        while chosen := [node for tree in trees if (node := self._best(tree)) is not None]:
            groups = await self._expand(chosen)
            for node, group in zip(chosen, groups, strict=True):
                tree = trees[node.task]
                for record in group.trajectories:
                    tree.left -= max(0, len(record.turns) - node.turn)
                    self._add(tree, record, self._nodes(node.task, record, (*node.path, node)), node)
            found += groups
        return found

    async def _expand(self, nodes: Sequence[Node]) -> list[Group]:
        """Run the continuations of some snapshots, one group each."""
        jobs: list[Job] = []
        n = self.branch.continuations
        for node in nodes:
            node.expanded = True
            parent = node.record
            for i in range(n):
                key = (*parent.seed, node.turn, i)
                start = Start(rekeyed(node.snapshot, key), node.ids, (parent.id, node.turn))
                kept = self.shots.setdefault(key, {}).__setitem__ if self.branch.mode == "tree" else None
                jobs.append(Job(self.tasks[node.task], key, _group_id(node), start, kept))
        records = [_own(t) for t in await run_jobs(self.pool, self.policy, jobs, **self.options)]
        return [
            Group(_group_id(node), node.record.task_id, tuple(records[n * i : n * i + n])) for i, node in enumerate(nodes)
        ]

    def _nodes(self, task: int, record: Trajectory, path: tuple[Node, ...]) -> list[Node]:
        """Return the snapshots of an episode from which it sampled another turn."""
        if not record.in_statistics:
            return []
        contexts = {span.turn: segment.ids[: span.start] for segment in record.segments for span in segment.spans}
        nodes: list[Node] = []
        for turn, snapshot in sorted(self.shots.pop(record.seed, {}).items()):
            if turn >= len(record.turns) or (record.segments and turn not in contexts):
                continue
            entropies = record.turns[turn].entropies
            entropy = sum(entropies) / len(entropies) if entropies else 0.0
            nodes.append(Node(task, record, turn, snapshot, contexts.get(turn, ()), entropy, (*path, *nodes)))
        return nodes

    def _add(self, tree: _Tree, record: Trajectory, nodes: Sequence[Node], parent: Node | None = None) -> None:
        if not record.in_statistics:
            return
        tree.totals.append(record.total)
        tree.nodes += nodes
        for node in (*nodes, *((*parent.path, parent) if parent is not None else ())):
            node.values.append(record.total)

    def _best(self, tree: _Tree) -> Node | None:
        """Return the open snapshot with the highest priority whose worst cost the budget still holds."""
        limits = self.tasks[tree.nodes[0].task].limits or self.pool.first.limits if tree.nodes else None
        if limits is None:
            return None
        n, left = self.branch.continuations, tree.left
        open_ = [x for x in tree.nodes if not x.expanded and n * (limits.max_turns - x.turn) <= left]
        if not open_:
            return None
        most = max(node.entropy for node in open_)
        return max(open_, key=lambda node: priority(node, tree.totals, most, self.branch.entropy_weight))


def priority(node: Node, totals: Sequence[float], most_entropy: float, entropy_weight: float) -> float:
    """Return how much a snapshot is worth continuing, in [0, 1].

    (1 - w) 4 v (1 - v) + w entropy / greatest entropy, v the mean total reward of the episodes through it, drawn
    towards the task's mean by one more episode, on a scale from the task's least total (0) to its greatest (1). Where
    all totals of a task are equal nothing is known yet and every value counts as undecided.
    """
    low, high = min(totals), max(totals)
    mean = (sum(node.values) + sum(totals) / len(totals)) / (len(node.values) + 1)
    v = (mean - low) / (high - low) if high > low else 0.5
    entropy = node.entropy / most_entropy if most_entropy > 0 else 0.0
    return (1 - entropy_weight) * 4 * v * (1 - v) + entropy_weight * entropy


def branch_metrics(groups: Iterable[Group]) -> dict[str, float]:
    """Return branch/groups, branch/episodes and branch/completions (turns that branches sampled); empty without any."""
    branches = [[t for t in g.trajectories if t.parent is not None] for g in groups]
    found = [members for members in branches if members]
    if not found:
        return {}
    return {
        "branch/groups": float(len(found)),
        "branch/episodes": float(sum(map(len, found))),
        "branch/completions": float(sum(len(t.turns) - t.first_turn for members in found for t in members)),
    }


def _group_id(node: Node) -> str:
    return f"{'/'.join(map(str, node.record.seed))}@{node.turn}"


def _own(record: Trajectory) -> Trajectory:
    """Take a branch that sampled nothing out of the loss: it says what came of the turns before it, no more."""
    return replace(record, in_loss=False) if record.in_loss and len(record.turns) <= record.first_turn else record
