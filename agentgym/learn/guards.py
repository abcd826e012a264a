"""Guards: what a run that stopped learning looks like in its metrics, and what to try."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from agentgym.errors import ConfigError
from agentgym.types import JSON

AFTER_A_STOP = (
    "begin a new run with a lower train.lr from an earlier checkpoint (sft.steps=0 "
    "policy=hf:RUN/checkpoints/NAME/model)"
)


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """When to warn and when to stop."""

    stop: bool = True
    """Stop a run that can no longer learn; false turns every stop into a warning."""
    patience: int = 20
    """Consecutive dead steps that stop the run. Dead: no success, and no tool call that worked or nearly only bad
    actions."""
    fault_patience: int = 3
    """Consecutive steps that stop the run when service faults took every episode, or no update had a finite gradient."""
    max_error_rate: float = 0.95
    """Share of turns with a bad action above which a step without success counts as dead."""
    entropy_floor: float = 0.02
    """Mean entropy per action token in nats below which a warning is given (no exploration is left)."""
    max_zero_variance: float = 0.9
    """Share of groups without any advantage above which a warning is given (nothing to learn from)."""
    max_fault_share: float = 0.2
    """Share of episodes lost to service faults above which a warning is given."""
    max_abstain_rate: float = 0.02
    """Share of a step's questions that the judge gave no answer to above which a warning is given."""
    max_logprob_gap: float = 0.5
    """Largest difference in nats between a rollout's log-probability and the learner's before the first update of a
    step above which a warning is given (rounding is below 1e-4 in float32)."""

    def __post_init__(self) -> None:
        """Refuse a patience that would stop a run before its first step."""
        if self.patience < 1 or self.fault_patience < 1:
            raise ConfigError(
                f"patience = {self.patience} and fault_patience = {self.fault_patience} must be 1 or more; "
                "stop = false switches stopping off"
            )


class Guards:
    """Counts consecutive bad steps. Its state is plain data, so a resumed run stops where an unbroken one would."""

    def __init__(self, config: GuardConfig) -> None:
        """Start with nothing seen."""
        self.config = config
        self.dead_steps = 0
        self.faulty_steps = 0
        self.nonfinite_steps = 0
        self.n_checked = 0
        self.warned_at: dict[str, int] = {}

    def check(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """Count one step and return what is new to say about it.

        A kind of warning is repeated after `patience` steps at the earliest; why a run stops is always said.
        """
        c = self.config
        self.n_checked += 1
        nothing = metrics["fault_share"] >= 1.0
        dead = metrics["success"] == 0 and (metrics["tool_use_rate"] == 0 or metrics["error_rate"] > c.max_error_rate)
        self.faulty_steps = self.faulty_steps + 1 if nothing else 0
        if not nothing:  # a step of faults says nothing about the policy
            self.dead_steps = self.dead_steps + 1 if dead else 0
            all_skipped = 0 < metrics["n_updates"] <= metrics["skipped_updates"]
            self.nonfinite_steps = self.nonfinite_steps + 1 if all_skipped else 0
        found = {} if nothing else _warnings(c, metrics)
        if metrics["fault_share"] > c.max_fault_share:
            found["faults"] = (
                f"{metrics['fault_share']:.0%} of the episodes were lost to faults of a service or environment and are "
                "in no statistic: look at the trajectories' `error`"
            )
        if (rate := metrics.get("judge/abstain_rate", 0.0)) > c.max_abstain_rate:
            found["judge"] = (
                f"the judge gave no answer to {rate:.0%} of what it was asked; the episodes that hang on it are in no "
                "statistic: look at its service, its limits (judge.options.limits) and the trajectories' `error`"
            )
        fresh = [kind for kind in found if self.n_checked - self.warned_at.get(kind, -c.patience) >= c.patience]
        self.warned_at |= dict.fromkeys(fresh, self.n_checked)
        reason = self.stop_reason()
        return tuple(found[kind] for kind in fresh) + ((reason,) if reason else ())

    def stop_reason(self) -> str:
        """Return why the run cannot learn any more, or an empty string."""
        c = self.config
        if self.faulty_steps >= c.fault_patience:
            return (
                f"no episode of the last {self.faulty_steps} steps could be used: all ended in a fault of a service or "
                "of the environment. The first `error` in trajectories.jsonl names it; resume once it is repaired"
            )
        if self.nonfinite_steps >= c.fault_patience:
            return (
                f"no update of the last {self.nonfinite_steps} steps had a finite gradient: check the policy's "
                f"logprobs for -inf, and {AFTER_A_STOP}"
            )
        if self.dead_steps >= c.patience:
            return (
                f"the policy is dead: {self.dead_steps} steps in a row without a success, with no tool call that "
                f"worked or more than {c.max_error_rate:.0%} bad actions. From there no reward can tell one action "
                "from another. Try a longer warm start (sft.steps, more demonstrations), turn-level credit "
                f"(credit.turn_weight above 0), or {AFTER_A_STOP}; guards.patience moves this limit"
            )
        return ""

    def state(self) -> dict[str, JSON]:
        """Return the counters as plain data."""
        return {
            "dead": self.dead_steps,
            "faulty": self.faulty_steps,
            "nonfinite": self.nonfinite_steps,
            "checked": self.n_checked,
            "warned_at": dict(self.warned_at),
        }

    def restore(self, state: Mapping[str, JSON]) -> None:
        """Take over counters that `state` returned."""
        self.dead_steps, self.faulty_steps = int(state["dead"]), int(state["faulty"])
        self.nonfinite_steps, self.n_checked = int(state["nonfinite"]), int(state["checked"])
        self.warned_at = {str(kind): int(n) for kind, n in state["warned_at"].items()}


def _warnings(c: GuardConfig, m: Mapping[str, float]) -> dict[str, str]:
    """Return what is worth a warning, by kind."""
    found = {}
    if m["entropy"] < c.entropy_floor:
        found["entropy"] = (
            f"entropy {m['entropy']:.4f} nats per token is below {c.entropy_floor}: the policy hardly explores; "
            "a lower train.lr or a KL term (loss.kl_coef) keeps it wider"
        )
    if m["answer_rate"] == 0:
        found["answers"] = (
            "no episode gave an answer: check the turn and token limits, and that the reward favours ending"
        )
    if m["error_rate"] > c.max_error_rate:
        found["errors"] = f"{m['error_rate']:.0%} of the actions were bad: the policy has lost the format of its calls"
    if m["zero_variance_share"] > c.max_zero_variance:
        found["variance"] = (
            f"{m['zero_variance_share']:.0%} of the groups carry no advantage: tasks are too easy or too hard, or the "
            "group is too small"
        )
    if m["logprob_gap"] > c.max_logprob_gap:
        found["gap"] = (
            f"log-probabilities of rollout and learner differ by up to {m['logprob_gap']:.3f}: the sampler's weights, "
            "temperature or precision are not the learner's"
        )
    if m.get("nonfinite_tokens", 0) > 0:
        found["tokens"] = (
            f"{m['nonfinite_tokens']:.0f} action token(s) left out of the loss because a log-probability was not "
            "finite: check the policy's weights, and what its sampler records"
        )
    if m["skipped_updates"] > 0:
        found["skipped"] = f"{m['skipped_updates']:.0f} update(s) skipped because the gradient was not finite"
    if m.get("margin", math.inf) <= 0:
        found["margin"] = (
            f"with turn scores weighed by w = {m['w']:.3g} the suite's margin is {m['margin']:.3g}: an episode without "
            "success can outscore one with; lower credit.turn_weight or the weights of the turn components"
        )
    return found
