"""What a step's rollouts look like in numbers; plain Python over trajectories, no torch."""

from collections.abc import Iterable, Sequence

from agentgym.rollout.branch import branch_metrics
from agentgym.types import Group, ToolResult, Trajectory

TIMING_PREFIX = "time/"
"""Metrics that measure the machine; all others repeat exactly when a run is repeated on one thread."""

_GAVE_ANSWER = ("answered", "finished")


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Return the means of a step's episodes.

    Episodes outside the statistics (service faults) are left out of every mean and counted in `fault_share`.

    Returns:
        success, reward (total), reward/<component> (contribution per episode), turns, action_tokens (per episode),
        entropy (nats per action token), answer_rate, truncated_share, error_rate (share of turns that were bad
        actions or whose calls all failed), tool_use_rate (share of episodes with a call that worked before the final
        turn), fault_share, n_episodes; with branches (which are in none of these) also those of `branch_metrics`.
    """
    everything = [t for g in groups for t in g.trajectories if t.parent is None]
    kept = [t for t in everything if t.in_statistics]
    turns = [turn for t in kept for turn in t.turns]
    metrics = {
        "success": _mean(t.success for t in kept),
        "reward": _mean(t.total for t in kept),
        "turns": _mean(len(t.turns) for t in kept),
        "action_tokens": _mean(action_tokens(t) for t in kept),
        "entropy": entropy(kept),
        "answer_rate": _mean(t.end_reason in _GAVE_ANSWER for t in kept),
        "truncated_share": _mean(t.truncated for t in kept),
        "error_rate": _mean(bool(turn.error_code) or _all_failed(turn.results) for turn in turns),
        "tool_use_rate": _mean(_used_tool(t) for t in kept),
        "fault_share": 1.0 - len(kept) / len(everything) if everything else 1.0,
        "n_episodes": float(len(everything)),
    }
    return metrics | component_means(kept) | branch_metrics(groups)


def component_means(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Return reward/<component>: the mean contribution per episode of every component that scored anywhere."""
    sums: dict[str, float] = {}
    for trajectory in trajectories:
        for scores in (trajectory.scores, *(turn.scores for turn in trajectory.turns)):
            for name, score in scores.items():
                sums[name] = sums.get(name, 0.0) + (score.value if score.valid and not score.deferred else 0.0)
    return {f"reward/{name}": sums[name] / len(trajectories) for name in sorted(sums)}


def action_tokens(trajectory: Trajectory) -> int:
    """Return the number of sampled tokens of all segments."""
    return sum(sum(segment.mask) for segment in trajectory.segments)


def mean_action_tokens(trajectories: Sequence[Trajectory]) -> float:
    """Return the mean action tokens of the episodes in the loss; 0 without any."""
    return _mean(action_tokens(t) for t in trajectories if t.in_loss)


def entropy(trajectories: Sequence[Trajectory]) -> float:
    """Return the mean entropy per action token in nats.

    Recorded entropies are used where every turn of the batch has them; otherwise the mean of -logprob of the sampled
    tokens, which has the same expectation.
    """
    turns = [turn for t in trajectories for turn in t.turns]
    if turns and all(turn.entropies for turn in turns):
        return _mean(value for turn in turns for value in turn.entropies)
    return _mean(
        -logprob
        for t in trajectories
        for segment in t.segments
        for logprob, sampled in zip(segment.logprobs, segment.mask, strict=True)
        if sampled
    )


def _used_tool(trajectory: Trajectory) -> bool:
    # The turn that ends an episode by itself is the answer: answering at once is no tool use.
    before = trajectory.turns[:-1] if trajectory.terminated else trajectory.turns
    return any(result.ok for turn in before for result in turn.results)


def _all_failed(results: Sequence[ToolResult]) -> bool:
    return bool(results) and not any(result.ok for result in results)


def _mean(values: Iterable[float]) -> float:
    numbers = [float(v) for v in values]
    return sum(numbers) / len(numbers) if numbers else 0.0
