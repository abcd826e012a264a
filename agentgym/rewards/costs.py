"""What a policy pays for: turns, calls, bad actions, forged environment text; and the flag of a clean episode."""

from typing import Any

from agentgym.rewards.component import Component, EpisodeView
from agentgym.types import Score, Turn

SERVICE_CODES = frozenset(("E_SERVICE",))
"""Codes of failed calls that are no fault of the policy."""

OBSERVED_UNIT = 1_000
"""Characters of an observation that cost 1."""

_FREE = Score("turn", 0.0)
_ONE = Score("turn", -1.0)


def policy_error(turn: Turn) -> str:
    """Return the code of the first error of the policy's making in a turn; empty for none."""
    if turn.error_code:
        return turn.error_code
    for result in turn.results:
        if result.code and result.code not in SERVICE_CODES:
            return result.code
    return ""


class AllValid(Component):
    """1 if no turn had an error of the policy's making. Padding with valid turns cannot raise it."""

    name = "all_valid"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        for turn in view.turns:
            if code := policy_error(turn):
                return Score("trajectory", 0.0, reason=f"{code} in turn {turn.index}")
        return Score("trajectory", 1.0)


class _TurnCost(Component):
    scope = "turn"
    range = (-1.0, 0.0)
    supply = "cost"


class StepCost(_TurnCost):
    """−1 per turn."""

    name = "step_cost"

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the last turn."""
        return _ONE


class CallCost(_TurnCost):
    """−1 per call that was run, successful or not."""

    name = "call_cost"
    range = (float("-inf"), 0.0)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the last turn."""
        calls = len(view.turns[-1].results)
        if calls <= 1:
            return _ONE if calls else _FREE
        return Score("turn", -float(calls), reason=f"{calls} calls")


class ObservationCost(_TurnCost):
    """−1 per thousand characters that the environment answered: what a long context costs to read."""

    name = "obs_cost"
    range = (float("-inf"), 0.0)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the last turn."""
        shown = sum(len(message.text) for message in view.turns[-1].messages)
        return Score("turn", -shown / OBSERVED_UNIT, reason=f"{shown} characters") if shown else _FREE


class InvalidAction(_TurnCost):
    """−1 for a turn with an error of the policy's making: a bad action or a failed call."""

    name = "invalid_action"

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the last turn."""
        code = policy_error(view.turns[-1])
        return Score("turn", -1.0, reason=code) if code else _FREE


class Forgery(Component):
    """−1 the first time that the policy wrote what only the environment may write (E_RESERVED)."""

    name = "forgery"
    scope = "turn"
    range = (-1.0, 0.0)
    supply = "once"

    def start(self, view: EpisodeView) -> dict[str, bool]:
        """Return the latch."""
        return {"paid": False}

    def score(self, view: EpisodeView, state: dict[str, bool]) -> Score:
        """Score the last turn."""
        if state["paid"] or view.turns[-1].error_code != "E_RESERVED":
            return _FREE
        state["paid"] = True
        return Score("turn", -1.0, reason="E_RESERVED")


all_valid = AllValid()
step_cost = StepCost()
call_cost = CallCost()
obs_cost = ObservationCost()
invalid_action = InvalidAction()
forgery = Forgery()
