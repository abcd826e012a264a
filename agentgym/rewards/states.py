"""Outcomes that look at the state an episode leaves behind, never at what the policy says about it.

The state is what the environment shows to rewards (`ToolEnv.scored_state`); a record keeps it, so that a stored
episode scores the same without its environment.
"""

from typing import Any

from agentgym import statement, typed
from agentgym.gold import Assertion
from agentgym.judges.rules import import_function
from agentgym.rewards.changes import Path, leaves
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.events import status
from agentgym.task import Gold
from agentgym.types import JSON, Score

CLOSED = frozenset(("answered", "finished", "gave_up"))
"""Ends by the policy's own word; an episode that a limit cut off has no outcome to speak of."""
_GONE: Any = object()


def unfinished(view: EpisodeView) -> str:
    """Return why the episode counts as not closed by the policy; empty if it is closed as gold asks."""
    if view.end_reason not in CLOSED:
        return f"not closed by the policy ({view.end_reason or 'still running'})"
    wanted = view.gold.finish
    if wanted and status(view.turns) != wanted:
        return f"closed with status {status(view.turns) or 'none'!r}"
    return ""


class _StateOutcome(Component):
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode: 0 unless the policy closed it as gold asks."""
        if reason := unfinished(view):
            return Score("trajectory", 0.0, reason=reason)
        if view.state is None:
            return Score("trajectory", None, valid=False, reason="the record holds no state (ToolEnv.scored_state)")
        return self.judge_state(view)

    def judge_state(self, view: EpisodeView) -> Score:
        """Score a closed episode with a state."""
        raise NotImplementedError


class StateMatch(_StateOutcome):
    """[final state = gold state], the whole state, typed.

    Gold is a state or its `typed.digest`. What was changed and changed back does not show (minefields see it). An
    episode that a limit cut off is 0, so that doing nothing is right only where the policy says so.

    Source: τ-bench's database reward (there, hashes of a replay of the calls; here, the state itself).
    """

    name = "state_match"
    needs = frozenset({"gold.final_state", "events.state"})
    failure_max = 0.0

    def judge_state(self, view: EpisodeView) -> Score:
        """Compare."""
        gold = view.gold.final_state
        right = typed.digest(view.state) == gold if isinstance(gold, str) else typed.equal(view.state, gold)
        return Score("trajectory", float(right), reason="match" if right else "another state")


class StatePartial(_StateOutcome):
    """Share of wrong leaves put right: max(0, fixed − newly wrong) / leaves that differ between first state and gold.

    Where none differ: 1 if nothing changed. The graded side of `state_match`; 1 exactly where that is 1.
    """

    name = "state_partial"
    needs = frozenset({"gold.final_state", "events.state"})

    def complaint(self, gold: Gold) -> str:
        """Refuse a digest, which has no leaves."""
        if isinstance(gold.final_state, str):
            return "its final_state is a digest, and a share of right leaves needs the state itself; give the state"
        return ""

    def judge_state(self, view: EpisodeView) -> Score:
        """Compare leaf by leaf."""
        return _partial(view.initial_state, view.state, view.gold.final_state)


def _partial(before: JSON, after: JSON, gold: JSON) -> Score:
    first, last, wanted = dict(leaves(before)), dict(leaves(after)), dict(leaves(gold))
    places = dict.fromkeys((*first, *last, *wanted))
    to_fix = [p for p in places if not _same(first, wanted, p)]
    fixed = sum(_same(last, wanted, p) for p in to_fix)
    broken = sum(_same(first, wanted, p) and not _same(last, wanted, p) for p in places)
    raw = max(0.0, (fixed - broken) / len(to_fix)) if to_fix else float(not broken)
    parts = {"to_fix": float(len(to_fix)), "fixed": float(fixed), "broken": float(broken)}
    return Score("trajectory", raw, reason=f"{fixed} of {len(to_fix)} leaves fixed, {broken} broken", parts=parts)


def _same(a: dict[Path, JSON], b: dict[Path, JSON], place: Path) -> bool:
    one, other = a.get(place, _GONE), b.get(place, _GONE)
    return one is other or (one is not _GONE and other is not _GONE and typed.equal(one, other))


class StateAssert(_StateOutcome):
    """Σ w·[assertion] / Σ w over statements about the final state. Graded: success means that all hold.

    Source: τ²-bench's environment assertions (there, all or nothing).
    """

    name = "state_assert"
    needs = frozenset({"gold.assertions", "events.state"})

    def complaint(self, gold: Gold) -> str:
        """Refuse programs that cannot be imported."""
        for assertion in gold.assertions:
            if assertion.program:
                import_function(assertion.program, "assertion", of_data=True)
        return ""

    def judge_state(self, view: EpisodeView) -> Score:
        """Check every assertion."""
        raw, failed = assertions_hold(view)
        return Score("trajectory", raw, reason=f"{len(failed)} of {len(view.gold.assertions)} failed", evidence=tuple(failed))


def assertions_hold(view: EpisodeView) -> tuple[float, list[str]]:
    """Return the weighed share of gold's assertions that hold of the state, and those that do not, as text."""
    right, total, failed = 0.0, 0.0, []
    for assertion in view.gold.assertions:
        total += assertion.weight
        if _holds(assertion, view.state):
            right += assertion.weight
        else:
            failed.append(assertion.program or f"{assertion.path} {assertion.op} {assertion.value!r:.200}")
    return (1.0 if not failed else right / total), failed


def already_hold(gold: Gold, state: JSON) -> list[str]:
    """Return the assertions that hold of a state already, as text: a task whose first state fulfils all asks nothing."""
    return [a.program or a.path for a in gold.assertions if _holds(a, state)]


def _holds(assertion: Assertion, state: JSON) -> bool:
    if not assertion.program:
        return statement.holds(state, assertion.path, assertion.op, assertion.value)
    program = import_function(assertion.program, "assertion", of_data=True)
    try:
        return bool(program(state))
    except Exception:  # noqa: BLE001 - the state lacks what the program looks for: the policy's doing, so it fails
        return False


state_match = StateMatch()
state_partial = StatePartial()
state_assert = StateAssert()
