"""Rules of checklists: does a statement hold at one moment of an episode? Pure functions over events.

A matcher returns the evidence (channel, quote) or None. It reads only what was carried out: calls and replies that
succeeded, results that tools returned, documents that were shown.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentgym import typed
from agentgym.criterion import Criterion
from agentgym.judges.grounding import locate
from agentgym.linear_regex import MAX_CHARS, search
from agentgym.rewards.channels import REPLY_TOOLS, call_text, channel_text, result_text
from agentgym.rewards.component import EpisodeView
from agentgym.rewards.events import succeeded
from agentgym.rewards.normalize import robust, robust_document
from agentgym.statement import holds
from agentgym.types import ToolCall, ToolResult, Turn

MAX_NUMBERS = 8
"""A reply that names more numbers than this names none in particular."""
_NUMBER = re.compile(r"[-−]?\d[\d,]{0,40}(?:\.\d{1,20})?")


@dataclass(frozen=True, slots=True)
class Moment:
    """One turn of an episode, and where it stands in the dialogue."""

    view: EpisodeView
    """As it was after the turn."""
    index: int
    """Of the turn, from 0."""
    user_turn: int
    """The user turn that it belongs to, from 0."""
    start: int
    """Index of the first turn of that user turn."""
    ends: bool
    """The user turn ends here: the word goes back to the user, or the episode is over."""

    @property
    def turn(self) -> Turn:
        """The turn itself."""
        return self.view.turns[self.index]

    @property
    def over(self) -> bool:
        """Whether the episode ended with this turn."""
        return bool(self.view.end_reason)

    def scope(self, criterion: Criterion) -> Sequence[Turn]:
        """Return the turns that a criterion looks at: those of its user turn so far, or all so far."""
        start = 0 if criterion.turn == "any" else self.start
        return self.view.turns[start : self.index + 1]

    def step(self, criterion: Criterion) -> int:
        """Return the number of the turn that deadlines count, from 1."""
        return self.index + 1 - (0 if criterion.turn == "any" else self.start)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a statement holds: a part of one channel of one turn."""

    channel: str
    quote: str
    start: int = 0
    end: int = 0
    """[start, end) of the quote in the channel's text; 0, 0 where the quote is a record and no text."""


def match(criterion: Criterion, moment: Moment) -> Evidence | None:
    """Return the evidence that a rule holds at a moment, or None."""
    return _MATCHERS[criterion.matcher](criterion, moment)


def _call(criterion: Criterion, moment: Moment) -> Evidence | None:
    count, last, blocked = 0, None, False
    for position, call, _ in _calls(moment.scope(criterion)):
        if blocked:
            break
        if fits(call, criterion.call, criterion):
            count += 1
            last = call if position == len(moment.scope(criterion)) - 1 else last
        blocked = bool(criterion.before) and call.name == criterion.before
    # The call that completes the count must be made in this turn: a statement is met where it comes true.
    return Evidence("calls", call_text(last)) if last is not None and count >= criterion.times else None


def fits(call: ToolCall, name: str, criterion: Criterion) -> bool:
    """Whether a call is one of the tool with the arguments that the criterion names."""
    if call.name != name:
        return False
    for argument, wanted in criterion.args.items():
        if argument not in call.arguments:
            return False
        if not typed.matches(call.arguments[argument], wanted, criterion.compare.get(argument, "exact")):
            return False
    return True


def _result(criterion: Criterion, moment: Moment) -> Evidence | None:
    for _, result in succeeded(moment.turn):
        if result.name != criterion.result:
            continue
        text = result_text(result)
        if criterion.contains:
            if _holds_words(text, criterion.contains):
                return Evidence("results", criterion.contains)
        elif holds(result.data, criterion.path, criterion.op, criterion.value):
            return Evidence("results", f"{criterion.path} {criterion.op} {criterion.value!r}")
    return None


def _reply(criterion: Criterion, moment: Moment) -> Evidence | None:
    text = channel_text("reply", moment.turn)
    if not _holds_words(text, criterion.reply):
        return None
    start, end = locate(criterion.reply, text) or (0, 0)
    return Evidence("reply", text[start:end] or criterion.reply, start, end)


def _reply_regex(criterion: Criterion, moment: Moment) -> Evidence | None:
    text = channel_text("reply", moment.turn)[:MAX_CHARS]
    return (
        Evidence("reply", text[:200], 0, min(len(text), 200)) if text and search(criterion.reply_regex, text) else None
    )


def _reply_number(criterion: Criterion, moment: Moment) -> Evidence | None:
    text = channel_text("reply", moment.turn)[: criterion.channel_max_chars]
    found = list(_NUMBER.finditer(text))
    if len(found) > MAX_NUMBERS:
        return None
    for number in found:
        value = float(number.group().replace(",", "").replace("−", "-"))
        if abs(value - (criterion.reply_number or 0.0)) <= 1e-9 * max(1.0, abs(value)):
            return Evidence("reply", number.group(), number.start(), number.end())
    return None


def _no_call(criterion: Criterion, moment: Moment) -> Evidence | None:
    made = any(fits(call, criterion.no_call, criterion) for _, call, _ in _calls(moment.scope(criterion)))
    return None if made else Evidence("calls", "")


def _max_calls(criterion: Criterion, moment: Moment) -> Evidence | None:
    n = sum(1 for _ in _spending(moment.scope(criterion)))
    limit = criterion.max_calls or 0
    # As a minefield the limit is a statement that must not come true: too many calls.
    exceeded = n > limit
    return Evidence("calls", f"{n} calls") if exceeded == criterion.never else None


def _state(criterion: Criterion, moment: Moment) -> Evidence | None:
    if not holds(moment.view.state, criterion.state, criterion.op, criterion.value):
        return None
    return Evidence("state", f"{criterion.state} {criterion.op} {criterion.value!r}")


def _order(criterion: Criterion, moment: Moment) -> Evidence | None:
    first, second = criterion.order
    seen_first = False
    for _, call, _ in _calls(moment.scope(criterion)):
        if call.name == second:
            return Evidence("calls", f"{first} before {second}") if seen_first else None
        seen_first = seen_first or call.name == first
    return None


def _cited(criterion: Criterion, moment: Moment) -> Evidence | None:
    view = moment.view
    if view.answer is None or criterion.cited not in view.citations:
        return None
    shown = any(d.id == criterion.cited for t in view.turns for r in t.results if r.ok for d in r.documents)
    return Evidence("answer", criterion.cited) if shown else None


_MATCHERS: dict[str, Callable[[Criterion, Moment], Evidence | None]] = {
    "call": _call,
    "result": _result,
    "reply": _reply,
    "reply_regex": _reply_regex,
    "reply_number": _reply_number,
    "no_call": _no_call,
    "state": _state,
    "order": _order,
    "cited": _cited,
    "max_calls": _max_calls,
}


def _calls(turns: Sequence[Turn]) -> Iterator[tuple[int, ToolCall, ToolResult]]:
    """Yield (position of the turn, call, result) of all calls that were carried out."""
    for position, turn in enumerate(turns):
        for call, result in succeeded(turn):
            yield position, call, result


def _spending(turns: Sequence[Turn]) -> Iterator[ToolCall]:
    """Yield the calls that count against a limit: all that were made, failed ones too, but no words to the user."""
    for turn in turns:
        for call in turn.calls:
            if call.name not in REPLY_TOOLS:
                yield call


def _holds_words(text: str, words: str) -> bool:
    wanted = robust(words)
    return bool(wanted) and f" {wanted} " in robust_document(text)
