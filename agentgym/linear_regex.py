"""Regular expressions in linear time: a pattern of gold meets text of a policy, so no pattern may be slow.

Python's own matcher backtracks: "(a+)+b" on forty letters a takes minutes. Here the parsed pattern becomes a
machine whose states advance together, one step per character. What needs backtracking (back references, look-
around, possessive and atomic groups) is refused with a message.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from re import _constants as ops  # pyright: ignore[reportAttributeAccessIssue]
from re import _parser as parser  # pyright: ignore[reportAttributeAccessIssue]
from typing import Any

from agentgym.errors import ConfigError

MAX_STATES = 1_000
"""Larger machines (counted repeats are written out) are refused when the pattern is read."""
MAX_CHARS = 4_096
"""Longer text matches nothing."""

Test = Callable[[str], bool]


def fullmatch(pattern: str, text: str) -> bool:
    """Whether the whole text matches the pattern, in time linear in the text. Flags: (?i), (?s), (?m) in front.

    Raises:
        ConfigError: the pattern cannot be read, needs backtracking, or is too large.
    """
    machine = _machine(pattern)
    return len(text) <= MAX_CHARS and machine.run(text)


def search(pattern: str, text: str) -> bool:
    """Whether some part of the text matches the pattern (see `fullmatch`)."""
    machine = _machine(pattern)
    return len(text) <= MAX_CHARS and machine.run(text, anywhere=True)


@lru_cache(maxsize=512)
def _machine(pattern: str) -> "_Machine":
    try:
        re.compile(pattern)
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"pattern {pattern!r:.200} is no regular expression: {error}") from None
    try:
        return _Machine(tree, pattern)
    except RecursionError:
        raise ConfigError(f"pattern {pattern!r:.200} is nested too deeply") from None


class _Machine:
    """States 0..n: each either reads one character by a test, or moves on for free (edges, perhaps with a condition)."""

    def __init__(self, tree: Any, pattern: str) -> None:
        self.pattern = pattern
        self.flags = tree.state.flags
        self.reads: list[tuple[Test, int] | None] = []
        self.free: list[list[tuple[int, Any]]] = []
        self.start = self._state()
        self.end = self._sequence(tree, self.start)

    def run(self, text: str, *, anywhere: bool = False) -> bool:
        """Advance all states together."""
        states = self._closed({self.start}, text, 0)
        for i, char in enumerate(text):
            if anywhere and self.end in states:
                return True
            reached = {row[1] for s in states if (row := self.reads[s]) is not None and row[0](char)}
            if anywhere:
                reached.add(self.start)
            if not reached:
                return False
            states = self._closed(reached, text, i + 1)
        return self.end in states

    def _closed(self, states: set[int], text: str, at: int) -> set[int]:
        todo = list(states)
        while todo:
            for target, condition in self.free[todo.pop()]:
                if target not in states and (condition is None or self._holds(condition, text, at)):
                    states.add(target)
                    todo.append(target)
        return states

    def _holds(self, condition: Any, text: str, at: int) -> bool:
        if condition in (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING):
            multiline = condition is ops.AT_BEGINNING and self.flags & re.MULTILINE
            return at == 0 or bool(multiline and text[at - 1] == "\n")
        if condition in (ops.AT_END, ops.AT_END_STRING):
            if at == len(text):
                return True
            if condition is ops.AT_END_STRING or text[at] != "\n":
                return False
            return bool(self.flags & re.MULTILINE) or at == len(text) - 1
        before, after = at > 0 and _word(text[at - 1]), at < len(text) and _word(text[at])
        return (before != after) == (condition is ops.AT_BOUNDARY)

    # ---- building

    def _state(self) -> int:
        if len(self.reads) >= MAX_STATES:
            raise ConfigError(f"pattern {self.pattern!r:.200} is too large; allowed: {MAX_STATES} states")
        self.reads.append(None)
        self.free.append([])
        return len(self.reads) - 1

    def _sequence(self, items: Any, start: int) -> int:
        for op, argument in items:
            start = self._item(op, argument, start)
        return start

    def _item(self, op: Any, argument: Any, start: int) -> int:
        if op is ops.AT:
            return self._link(start, argument)
        if op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            least, most, items = argument
            return self._repeat(least, most, items, start)
        if op is ops.SUBPATTERN:
            _, added, removed, items = argument
            if added or removed:
                raise self._refusal("flags inside a group")
            return self._sequence(items, start)
        if op is ops.BRANCH:
            end = self._state()
            for items in argument[1]:
                self.free[self._sequence(items, self._link(start))].append((end, None))
            return end
        return self._read(start, self._test(op, argument))

    def _link(self, start: int, condition: Any = None) -> int:
        state = self._state()
        self.free[start].append((state, condition))
        return state

    def _read(self, start: int, test: Test) -> int:
        state, end = self._link(start), self._state()
        self.reads[state] = (test, end)
        return end

    def _repeat(self, least: int, most: int, items: Any, start: int) -> int:
        for _ in range(least):
            start = self._sequence(items, start)
        if most is ops.MAXREPEAT:
            loop = self._link(start)
            self.free[self._sequence(items, self._link(loop))].append((loop, None))
            return self._link(loop)
        end = self._state()
        self.free[start].append((end, None))
        for _ in range(most - least):
            start = self._sequence(items, self._link(start))
            self.free[start].append((end, None))
        return end

    def _test(self, op: Any, argument: Any) -> Test:
        ignore_case = bool(self.flags & re.IGNORECASE)
        if op in (ops.LITERAL, ops.NOT_LITERAL):
            wanted, want = _folded(chr(argument)) if ignore_case else chr(argument), op is ops.LITERAL
            return lambda c: ((_folded(c) if ignore_case else c) == wanted) == want
        if op is ops.ANY:
            return (lambda c: True) if self.flags & re.DOTALL else (lambda c: c != "\n")
        if op is ops.IN:
            return self._class(argument, ignore_case)
        raise self._refusal(str(op).lower())

    def _class(self, items: Any, ignore_case: bool) -> Test:
        negated, tests = False, []
        for op, argument in items:
            if op is ops.NEGATE:
                negated = True
            elif op is ops.RANGE:
                tests.append(lambda c, a=argument: a[0] <= ord(c) <= a[1])
            elif op is ops.CATEGORY:
                tests.append(_CATEGORIES[argument])
            else:
                tests.append(lambda c, a=argument: ord(c) == a)
        if ignore_case:
            return lambda c: any(test(v) for test in tests for v in (c, c.lower(), c.upper()) if len(v) == 1) != negated
        return lambda c: any(test(c) for test in tests) != negated

    def _refusal(self, what: str) -> ConfigError:
        return ConfigError(
            f"pattern {self.pattern!r:.200}: {what} cannot be matched in linear time; allowed are characters, classes,"
            " groups, alternatives, repeats, anchors and word borders"
        )


def _folded(char: str) -> str:
    return char.lower()


def _word(char: str) -> bool:
    return char.isalnum() or char == "_"


_CATEGORIES: dict[Any, Test] = {
    ops.CATEGORY_DIGIT: str.isdecimal,
    ops.CATEGORY_NOT_DIGIT: lambda c: not c.isdecimal(),
    ops.CATEGORY_SPACE: str.isspace,
    ops.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    ops.CATEGORY_WORD: _word,
    ops.CATEGORY_NOT_WORD: lambda c: not _word(c),
}
