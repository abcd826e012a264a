"""How much a call resembles a gold call, and the one-step component over it (`call_match`).

A call is what the dialect parsed and nothing else: calls inside a thought or in trailing prose are none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agentgym import typed
from agentgym.errors import ConfigError
from agentgym.rewards.assignment import optimal
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.events import TALK
from agentgym.rewards.states import unfinished
from agentgym.task import Gold
from agentgym.types import JSON, Score, ToolCall

Fit = Callable[[JSON], bool]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A gold call, ready to be compared."""

    id: str
    name: str
    fits: dict[str, Fit]
    """Per argument whether a given value is right."""
    may_miss: frozenset[str]
    """Arguments that may be left out."""
    optional: bool
    after: tuple[str, ...]
    turn: int

    def overlap(self, call: ToolCall) -> tuple[float, int, int] | None:
        """Return (Jaccard index of the argument names, right values, arguments of gold); None for another tool.

        An argument that may be missing belongs to gold only where the call has it.
        """
        if call.name != self.name:
            return None
        given = call.arguments
        wanted = {name for name in self.fits if name in given or name not in self.may_miss}
        either = wanted | given.keys()
        names = len(wanted & given.keys()) / len(either) if either else 1.0
        right = sum(name in given and self.fits[name](given[name]) for name in wanted)
        return names, right, len(wanted)


def wanted_calls(gold: Gold) -> list[Wanted]:
    """Return the calls of gold's trace with their compare modes and accepted values."""
    return [
        Wanted(
            id=call.id,
            name=call.name,
            fits=_fits(call.arguments, call.compare, gold.accepted_args.get(call.id, {})),
            may_miss=frozenset(_may_miss(call.arguments, gold.accepted_args.get(call.id, {}))),
            optional=call.optional,
            after=call.after,
            turn=call.turn or 0,
        )
        for call in gold.trace
    ]


def call_similarity(call: ToolCall, wanted: Wanted) -> float:
    """Return (1 + J + right values) / (2 + arguments of gold), in (0, 1]; 0 for another tool.

    J is the Jaccard index of the argument names.

    Source: MatchTIR's tool-call similarity. Deviation: values are compared by JSON type (there, true equals 1) and
    by gold's compare modes.
    """
    overlap = wanted.overlap(call)
    if overlap is None:
        return 0.0
    names, right, parameters = overlap
    return (1.0 + names + right) / (2.0 + parameters)


def call_score(calls: Sequence[ToolCall], wanted: Sequence[Wanted]) -> float:
    """Return ToolRL's match of a list of calls with a list of gold calls, on 0..1.

    s / d with s = J(tool names) + sum over paired calls of [J(argument names) + right values] and
    d = 1 + sum over gold calls of (1 + arguments); J is the Jaccard index of multisets. Each call is paired at most
    once and only with a gold call of its tool.

    Source: ToolRL's correctness reward, which maps it to −3..3. Deviations: values are compared by JSON type; the
    pairing is the best one (there, gold call after gold call takes its best), so the order of gold says nothing.
    """
    table = [[wanted_call.overlap(call) for wanted_call in wanted] for call in calls]
    gains = np.array([[0.0 if cell is None else cell[0] + cell[1] + 1e-6 for cell in row] for row in table])
    pairs = {g: p for p, g in optimal(gains.reshape(len(calls), len(wanted)))}
    total, most = _multiset_jaccard([c.name for c in calls], [w.name for w in wanted]), 1.0
    for g, wanted_call in enumerate(wanted):
        cell = table[pairs[g]][g] if g in pairs else None
        names, right, parameters = cell or (0.0, 0, len(wanted_call.fits.keys() - wanted_call.may_miss))
        total += names + right
        most += 1.0 + parameters
    return total / most


@dataclass(slots=True)
class CallState:
    """Which turns are still to be paid."""

    wanted: dict[int, list[Wanted]] = field(default_factory=dict)
    turns: int = 1


class CallMatch(Component):
    """lo + (hi − lo)·s/d of the calls that gold expects in a turn; once per turn that gold has calls for.

    Made for next-call prediction: the gold calls of turn k (`GoldCall.turn`, by default the first) meet the calls of
    the episode's turn k, and each such turn is an equal share. A text that is no action has no calls; turns that an
    ended episode never reached are paid as empty ones with its last turn, unless a limit that comes after that turn
    (max_tokens, time_limit) cut it: with lo below 0 such a cut is cheaper than going on. For long episodes see
    `trace_match`, where extra calls cost.

    Source: ToolRL (`call_score` has the formula and the deviations); lo=−3, hi=3 gives its numbers.
    """

    name = "call_match"
    scope = "turn"
    supply = "once"
    needs = frozenset({"gold.trace"})

    def __init__(self, lo: float = 0.0, hi: float = 1.0) -> None:
        """Set the value of no match and of a full match. Raises ConfigError where the first is the greater one."""
        if not lo <= hi:
            raise ConfigError(f"{self.name}: lo={lo!r} must not be above hi={hi!r}: no match is worth lo, a full one hi")
        self.lo, self.hi = lo, hi
        self.range = (min(lo, 0.0), max(hi, 0.0))

    def complaint(self, gold: Gold) -> str:
        """Refuse a trace without a call that must be made."""
        return nothing_to_match(gold)

    def start(self, view: EpisodeView) -> CallState:
        """Return the gold calls by turn."""
        state = CallState()
        for wanted in wanted_calls(view.gold):
            if not wanted.optional:
                state.wanted.setdefault(wanted.turn, []).append(wanted)
        state.turns = len(state.wanted)
        return state

    def score(self, view: EpisodeView, state: CallState) -> Score:
        """Score the last turn."""
        at = len(view.turns) - 1
        if at not in state.wanted and not (view.end_reason and state.wanted):
            return Score("turn", 0.0)
        raw, seen = 0.0, []
        if at in state.wanted:
            seen.append(call_score(view.turns[-1].calls, state.wanted.pop(at)))
        if view.end_reason:
            seen += [0.0] * len(state.wanted)
            state.wanted.clear()
        raw = sum(self.lo + (self.hi - self.lo) * share for share in seen) / state.turns
        return Score("turn", raw, reason=f"match {seen[0]:.3f}")


def nothing_to_match(gold: Gold) -> str:
    """Return the complaint about a trace of which every call is optional; empty for none."""
    if gold.trace and all(call.optional for call in gold.trace):
        ids = ", ".join(repr(call.id) for call in gold.trace)
        return f"all calls of its trace ({ids}) are optional, so there is nothing to match; make one required"
    return ""


def _fits(arguments: dict[str, JSON], compare: dict[str, str], accepted: dict[str, Any]) -> dict[str, Fit]:
    return {
        name: _fit(typed.comparison(compare.get(name, "exact")), _values(name, arguments, accepted))
        for name in dict.fromkeys((*arguments, *accepted))
    }


def _fit(matches: Callable[[JSON, JSON], bool], values: Sequence[JSON]) -> Fit:
    return lambda given: any(matches(given, value) for value in values)


def _values(name: str, arguments: dict[str, JSON], accepted: dict[str, Any]) -> list[JSON]:
    values = [value for value in accepted.get(name, ()) if value != ""]
    if name in arguments and (not values or not any(typed.equal(arguments[name], value) for value in values)):
        values.append(arguments[name])
    return values


def _may_miss(arguments: dict[str, JSON], accepted: dict[str, Any]) -> list[str]:
    return [name for name, values in accepted.items() if "" in values and arguments.get(name) != ""]


def _multiset_jaccard(a: list[str], b: list[str]) -> float:
    left, common = list(b), 0
    for item in a:
        if item in left:
            left.remove(item)
            common += 1
    either = len(a) + len(b) - common
    return common / either if either else 1.0


class ExactCalls(Component):
    """1 if the calls of the episode are gold's, one to one and in any order; with a gold without calls: if there are none.

    The yes-no outcome of single-turn tool sets. A call of gold that is optional may be made or left out; talking to the
    user and closing the episode are no calls, and a call counts as it was written, whatever came of it.

    Source: BFCL's check of a possible answer (`Gold.accepted_args` holds accepted values). Deviations: in `multiple`
    sets, too, calls beyond gold's count; types are JSON's.
    """

    name = "exact_calls"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    failure_max = 0.0
    needs = frozenset({"gold.trace|gold.final_state"})

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        if reason := unfinished(view):
            return Score("trajectory", 0.0, reason=reason)
        wanted = wanted_calls(view.gold)
        talk = TALK - {call.name for call in wanted}
        calls = [call for turn in view.turns for call in turn.calls if call.name not in talk]
        required = sum(not call.optional for call in wanted)
        fits = np.array([[exactly(call, w) * (1.0 + (not w.optional)) for w in wanted] for call in calls])
        pairs = [(p, g) for p, g in optimal(fits.reshape(len(calls), len(wanted))) if fits[p, g] > 0]
        found = sum(not wanted[g].optional for _, g in pairs)
        reason = f"{found} of {required} calls made, {len(calls) - len(pairs)} others"
        return Score("trajectory", float(found == required and len(pairs) == len(calls)), reason=reason)


def exactly(call: ToolCall, wanted: Wanted) -> bool:
    """Whether a call has the tool and every argument of a gold call, each with a value that fits, and no other."""
    overlap = wanted.overlap(call)
    return overlap is not None and overlap[0] == 1.0 and overlap[1] == overlap[2]


call_match = CallMatch()
exact_calls = ExactCalls()
