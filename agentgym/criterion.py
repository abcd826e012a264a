"""One yes-no statement of a checklist, as plain data: what tasks, settings and code all write down.

`check` refuses lists that mean nothing (a cycle, an id nobody has, weights of zero) when they are made, so that a
file names the line and no episode is scored 0 for its checklist's fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agentgym import linear_regex, statement, typed
from agentgym.errors import AgentGymError, ConfigError, DataError, suggestion
from agentgym.types import JSON

Focus = Literal["calls", "results", "reply", "thought", "state", "answer"]
MATCHERS = (
    "call",
    "result",
    "reply",
    "reply_regex",
    "reply_number",
    "no_call",
    "state",
    "order",
    "cited",
    "max_calls",
)
"""The keys that make a rule; each rule has exactly one."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One statement. A rule is decided by one matcher, a program by a function, a judge by a model that quotes."""

    id: str
    kind: Literal["rule", "program", "judge"] = "rule"

    # ---- rules: exactly one of these keys, with what belongs to it
    call: str = ""
    """A successful call of this tool with the arguments `args`."""
    args: dict[str, JSON] = field(default_factory=dict)
    """Arguments that a call must have, compared as JSON (true is not 1, 1 is 1.0, "1" is not 1); others are free."""
    compare: dict[str, str] = field(default_factory=dict)
    """Per argument how it is compared, e.g. {"amount": "number(0.005)"} (`agentgym.typed.MODES`)."""
    times: int = 1
    """How often the call has to be made."""
    before: str = ""
    """The call counts only while no call of this tool was made."""
    result: str = ""
    """A successful result of this tool that `contains` a text, or whose value at `path` fits `op` and `value`."""
    contains: str = ""
    path: str = ""
    """Keys joined by points, as in gold assertions: "orders.#W23.status"."""
    op: str = "eq"
    value: JSON = None
    reply: str = ""
    """A reply to the user that holds this text as a run of words."""
    reply_regex: str = ""
    """A reply that this pattern matches somewhere (linear time: no back references, no look-around)."""
    reply_number: float | None = None
    """A reply that names this number, among at most a few others."""
    no_call: str = ""
    """No call of this tool until the end of the user turn (of the episode, for turn "any")."""
    state: str = ""
    """The value at this path of the state fits `op` and `value`."""
    order: tuple[str, ...] = ()
    """Two tools: the first was called successfully before the second, and both were called."""
    cited: str = ""
    """The final answer cites this document, and a result had shown it."""
    max_calls: int | None = None
    """No more calls than this until the end of the user turn (of the episode, for turn "any")."""

    # ---- programs
    program: str = ""
    """"module:function"; it is given the `EpisodeView` after the turn and returns whether the statement holds."""

    # ---- judges
    question: str = ""
    """The statement in words."""
    condition: str = ""
    """When exactly it passes."""
    focus: Focus = "reply"
    """The channel that the judge reads: taken from events, so nothing typed can pass for a result."""
    polarity: Literal["present", "absent"] = "present"
    """absent: the statement says that something is not there; decided at the end of the user turn."""
    evidence: tuple[str, ...] = ()
    """Reference snippets for the judge."""
    fail_examples: tuple[str, ...] = ()
    channel_max_chars: int = 16_000
    """The judge reads this much of the channel."""

    # ---- what it counts for
    weight: float = 1.0
    """Relative to the others of its user turn."""
    critical: bool = False
    """Unmet at the end of its user turn, or at its deadline, it ends the episode (critical_unmet)."""
    never: bool = False
    """A minefield: when it holds once, the whole checklist is worth 0. It has no weight."""
    after: tuple[str, ...] = ()
    """Ids of criteria that must have been met at an earlier turn."""
    turn: int | Literal["any"] = "any"
    """The user turn to which it belongs, from 0."""
    deadline: int = 0
    """Last turn at which it can be met, counted from 1 within its user turn (within the episode for "any"); 0: none."""

    @property
    def matcher(self) -> str:
        """The key that makes it a rule; empty for programs and judges."""
        return next((name for name in MATCHERS if _is_set(getattr(self, name))), "")

    @property
    def at_end(self) -> bool:
        """Whether it can only be decided at the end: it says that something did not happen."""
        return not self.never and (self.matcher in ("no_call", "max_calls") or self.polarity == "absent")

    def __post_init__(self) -> None:
        """Raise ConfigError for a criterion that says nothing, or two things."""
        problem = _problem(self)
        if problem:
            raise ConfigError(f"criterion {self.id!r}: {problem}")


def check(criteria: Sequence[Criterion], where: str = "checklist", error: type[AgentGymError] = DataError) -> None:
    """Refuse a list that means nothing.

    Raises:
        AgentGymError: of class `error`, naming `where`, the ids, what is allowed.
    """
    ids = [c.id for c in criteria]
    if not any(not c.never for c in criteria):
        raise error(f"{where} has no criteria that could be met; add at least one that is not a minefield (never)")
    doubled = sorted({id_ for id_ in ids if ids.count(id_) > 1})
    if doubled:
        raise error(f"{where}: the ids {_listed(doubled)} are used more than once; ids are unique")
    minefields = {c.id for c in criteria if c.never}
    for criterion in criteria:
        others = [id_ for id_ in ids if id_ != criterion.id]
        for id_ in criterion.after:
            if id_ not in ids:
                raise error(f"{where}: {criterion.id!r} is after {id_!r}, which does not exist{suggestion(id_, others)}")
            if id_ in minefields:
                raise error(f"{where}: {criterion.id!r} is after the minefield {id_!r}, which must never happen")
    _acyclic(criteria, where, error)
    _weights(criteria, where, error)


def _acyclic(criteria: Sequence[Criterion], where: str, error: type[AgentGymError]) -> None:
    left = {c.id: c.after for c in criteria}
    while left:
        ready = [id_ for id_, before in left.items() if not any(b in left for b in before)]
        if not ready:
            raise error(f"{where}: `after` goes round in a circle among {_listed(_circle(left))}")
        for id_ in ready:
            del left[id_]


def _circle(left: dict[str, tuple[str, ...]]) -> list[str]:
    """Return one circle of a graph in which every node has a successor."""
    trail: list[str] = []
    node = next(iter(left))
    while node not in trail:
        trail.append(node)
        node = next(b for b in left[node] if b in left)
    return trail[trail.index(node) :]


def _weights(criteria: Sequence[Criterion], where: str, error: type[AgentGymError]) -> None:
    scored = [c for c in criteria if not c.never]
    bad = [c.id for c in scored if not 0.0 < c.weight < float("inf")]
    if bad:
        values = ", ".join(f"{c.id!r}: {c.weight:g}" for c in scored if c.id in bad)
        raise error(f"{where}: weights must be numbers above 0 ({values}); they are normalised per user turn")


def _problem(c: Criterion) -> str:
    if not c.id or c.id != c.id.strip():
        return "the id must be a non-empty text without outer blanks"
    given = [name for name in MATCHERS if _is_set(getattr(c, name))]
    if c.kind == "rule":
        return _rule_problem(c, given) or _shared_problem(c)
    if given:
        return f"a {c.kind} takes no {given[0]!r}; that key makes a rule"
    if c.kind == "judge" and not c.question:
        return "a judge needs a question: one statement that holds or not"
    return _shared_problem(c)


def _rule_problem(c: Criterion, given: list[str]) -> str:
    if len(given) != 1:
        found = f"has {_listed(given)}" if given else "has none"
        return f"a rule needs exactly one of {', '.join(MATCHERS)}; it {found}"
    if c.program or c.question:
        return f"a rule takes no {'program' if c.program else 'question'}; set kind to say what it is"
    belongs = {"call": ("args", "compare", "before"), "result": ("contains", "path"), "no_call": ("args", "compare")}
    for name in ("args", "compare", "before", "contains", "path"):
        if getattr(c, name) and name not in belongs.get(given[0], ()):
            return f"{name!r} does not belong to a rule about {given[0]!r}"
    if given[0] == "result" and bool(c.contains) == bool(c.path):
        return "a rule about a result needs either contains= or path= (with op and value)"
    if given[0] == "order" and len(c.order) != 2:
        return f"order names two tools, got {list(c.order)!r}"
    if c.times < 1 or (c.max_calls is not None and c.max_calls < 0):
        return "times is 1 or more, max_calls 0 or more"
    stray = sorted(set(c.compare) - set(c.args))
    if stray:
        return f"compare names {stray[0]!r}, which args does not have{suggestion(stray[0], c.args)}"
    for mode in c.compare.values():
        typed.comparison(mode)
    if c.reply_regex:
        linear_regex.search(c.reply_regex, "")
    if c.state or c.path:
        statement.check(c.state or c.path, c.op)
    return ""


def _shared_problem(c: Criterion) -> str:
    if isinstance(c.turn, int) and c.turn < 0:
        return f"turn is {c.turn}; allowed: 0, 1, … or 'any'"
    if c.deadline < 0 or c.channel_max_chars < 1:
        return "deadline is 0 (none) or more, channel_max_chars 1 or more"
    if c.never and (c.critical or c.after or c.polarity == "absent" or c.matcher in ("no_call", "order")):
        return "a minefield (never) is a plain statement: not critical, after nothing, about something that happens"
    if c.id in c.after:
        return "it is after itself"
    return ""


def _is_set(value: object) -> bool:
    return value is not None and value != "" and value != ()


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(repr(id_) for id_ in ids)
