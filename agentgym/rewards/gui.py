"""The outcome of tasks in a graphical interface."""

from typing import Any

from agentgym.rewards.answers import gold_texts, robust_em
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.events import last, status
from agentgym.rewards.states import StateAssert, assertions_hold, unfinished
from agentgym.task import Gold
from agentgym.typed import equal
from agentgym.types import Score


class GuiSuccess(Component):
    """State check × [closed as asked] × [answer right, if the task asks for one].

    The state check is, by what gold holds, the final state or the weighed share of assertions about it; without
    either, the environment's own check (event "success" of the last turn, 0..1, for devices whose state is no JSON).
    The policy must close the episode itself, with the status that gold names (complete, unless it says infeasible).

    Source: AndroidWorld (`is_successful` and the agent's own declaration). Composite tasks are graded there and here.
    """

    name = "gui_success"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.assertions|gold.final_state|events.success", "events.state|events.success"})

    def complaint(self, gold: Gold) -> str:
        """Refuse assertions that cannot be checked."""
        return StateAssert().complaint(gold)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        if reason := unfinished(view):
            return Score("trajectory", 0.0, reason=reason)
        stated = status(view.turns)
        if stated and stated != (view.gold.finish or "complete"):
            return Score("trajectory", 0.0, reason=f"closed with status {stated!r}")
        if view.gold.answers and not robust_em(view.answer or "", gold_texts(view.gold)):
            return Score("trajectory", 0.0, reason="another answer")
        return self._check(view)

    def _check(self, view: EpisodeView) -> Score:
        gold = view.gold
        if gold.final_state is None and not gold.assertions:
            given = last(view.turns[-1:], "success")
            if not isinstance(given, (bool, int, float)):
                return Score("trajectory", None, valid=False, reason="the record holds no event success")
            return Score("trajectory", min(max(float(given), 0.0), 1.0), reason="the environment's check")
        if view.state is None:
            return Score("trajectory", None, valid=False, reason="the record holds no state (ToolEnv.scored_state)")
        if gold.final_state is not None and not equal(view.state, gold.final_state):
            return Score("trajectory", 0.0, reason="another state")
        raw, failed = assertions_hold(view)
        return Score("trajectory", raw, reason=f"{len(failed)} assertions failed", evidence=tuple(failed))


gui_success = GuiSuccess()
