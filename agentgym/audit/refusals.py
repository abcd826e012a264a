"""What a suite must refuse and what it must accept: rewards, tasks, values, operators; each with its reason."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentgym import schema
from agentgym.audit.scripts import RECORDS
from agentgym.errors import AgentGymError
from agentgym.rewards import Cap, Component, EpisodeView, Suite, build_suite
from agentgym.rewards.answers import AnswerF1, answer_em
from agentgym.rewards.checklist import Checklist
from agentgym.rewards.checklist_reward import ChecklistReward
from agentgym.rewards.costs import all_valid, step_cost
from agentgym.rewards.expression import Expression
from agentgym.rewards.intervals import Known, span, times
from agentgym.rewards.nodes import Schedule, Shaped
from agentgym.rewards.retrieval import retrieval_gain
from agentgym.rewards.steps import min_shares, product_shares
from agentgym.seeding import stream
from agentgym.task import Answer, Gold, Task
from agentgym.types import Score, Trajectory

EVENTS = ("documents", "citations", "triples", "kept", "state")
"""What the probed records hold."""


def fits(suite: Suite, task: Task) -> bool:
    """Whether a suite can score a task of the records."""
    try:
        suite.check(task, EVENTS)
    except AgentGymError:
        return False
    return True


BADLY: tuple[tuple[str, Any], ...] = (
    ("name", ""), ("scope", "episode"), ("supply", "gift"), ("range", (1.0, 0.0)), ("range", 3),
    ("supply", "unbounded"), ("supply", "cost"), ("scope", "turn"), ("range", (float("nan"), 1.0)), ("needs", frozenset({"gold.anwers"})),
)  # fmt: skip


def declared(**attributes: Any) -> Expression:
    """Return a suite of a component with other declarations: what a suite must refuse."""
    usual = {"name": "declared", "scope": "trajectory", "range": (0.0, 1.0), "supply": "terminal"}
    made = type("Declared", (Component,), {**usual, **attributes})()
    return made + 0.1 * answer_em


def _gold(*answers: Answer, mode: str = "any") -> Task:
    return Task("probe", "q", Gold(answers=answers, answer_mode=mode))  # pyright: ignore[reportArgumentType]


GONE = Answer("?!")
UNFIT: tuple[tuple[str, Task], ...] = (
    ("an answer of which nothing is left", _gold(GONE)),
    ("two answers of which nothing is left", _gold(GONE, GONE)),
    ("a set with an answer of which nothing is left", _gold(Answer("a"), GONE, mode="all")),
    ("no answer", _gold()),
)
"""Tasks that `answer_em` must refuse."""


def _raised(scope: Any, supply: str, values: Sequence[float], limits: tuple[float, float]) -> list[float]:
    """Return the raw values of a component that gives these values turn by turn, as the suite lets them count."""
    turns = [replace(RECORDS["loop"].turns[0], index=n) for n in range(len(values))]
    made = type("Given", (Component,), {
        "name": "given", "scope": scope, "supply": supply, "range": limits,
        "score": lambda self, view, state: Score(scope, values[min(len(view.turns), len(values)) - 1]),
    })()  # fmt: skip
    done = Suite(Cap(1.0 * made, -9.0, 9.0) + answer_em, success=answer_em).rescore(replace(RECORDS["loop"], turns=tuple(turns)))
    return [round(t.scores["given"].raw or 0.0, 9) for t in done.turns]


CLIPPED: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...] = (
    ("once", (0.7, 0.7, 0.7), (0.7, 0.3, 0.0)),
    ("potential", (-0.8, -0.8, 0.5, 3.0), (-0.8, -0.2, 0.0, 2.0)),
    ("cost", (-3.0, 0.0, -0.5), (-1.0, 0.0, -0.5)),
)
"""supply, what a component with the range −1 .. 1 gives, what may count of it."""


REFUSED: tuple[tuple[str, Any], ...] = (
    ("an unknown name", "answer_ex"),
    ("a cap that does not hold 0", "answer_em + Cap(retrieval_gain, 0.1, 0.2)"),
    ("a cap over both scopes", "Cap(answer_em + retrieval_gain, 0, 1)"),
    ("a score paid twice", "retrieval_gain + Gate(answer_em, retrieval_gain)"),
    ("a number that is none", "answer_em + 1e999 * all_valid"),
    ("a clip upside down", "answer_em + Clip(all_valid, 0.5, 0.1)"),
    ("no expression", 5),
    ("a shaped cost", "answer_em + Shaped(step_cost)"),
    ("a shaping inside a cap", "answer_em + Cap(Shaped(retrieval_gain), -1, 1)"),
    ("a product of one", "answer_em + Product(all_valid)"),
    ("once at the end", "answer_em + Once(all_valid)"),
    ("a gate by a turn score", "Gate(retrieval_gain, answer_em)"),
    ("a norm of a turn score", "answer_em + MaxNorm(retrieval_gain)"),
    ("a condition that is none", "answer_em + OnlyIf(2, all_valid)"),
    ("a gamma above 1", "answer_em + Shaped(retrieval_gain, 2.0)"),
    ("a gamma of 0", "answer_em + Shaped(retrieval_gain, 0.0)"),
    ("a condition by a turn score", "answer_em + OnlyIf(1, all_valid, retrieval_gain)"),
    ("a condition by a sum", "answer_em + OnlyIf(1, all_valid, answer_em + all_valid)"),
    ("a clip of turns without 0", "answer_em + Cap(Clip(retrieval_gain, 0.1, 0.2), 0, 1)"),
    ("a mean of the end", "answer_em + Mean(all_valid)"),
    ("a schedule without points", "answer_em + Schedule(all_valid, [])"),
    ("a schedule that runs back", "answer_em + Schedule(all_valid, [[0.5, 1], [0.2, 0]])"),
    ("a schedule outside 0 to 1", "answer_em + Schedule(all_valid, [[0, 1], [2, 0]])"),
    ("a norm of a cost", "answer_em + MaxNorm(self_aligned)"),
    ("an unbounded gain", "answer_em + Clip(retrieval_gain, 0.0, 1.0)"),
    ("a file that is not there", "no_such_reward.toml"),
    ("an unknown key", {"outcome": "answer_em", "terms": [{"use": "all_valid", "wait": 1}]}),
    ("no outcome at trajectory scope", {"outcome": "retrieval_gain", "terms": [{"use": "all_valid"}]}),
    *((f"a component with {what}", declared(**{what: value})) for what, value in BADLY),
)


ACCEPTED: tuple[tuple[Any, str], ...] = (
    ("  search ", "answer_em"),
    ({"outcome": "answer_f1", "terms": [{"use": "all_valid", "weight": 0.1}]}, "answer_f1"),
    ("all_valid", "all_valid"),
    ("0.5 * answer_f1 + 0.1 * all_valid", "answer_f1"),
    ("1 - 0.5 * answer_cover", "answer_cover"),
    ("answer_f1 + answer_em", "answer_em"),
    (AnswerF1, "answer_f1"),
    (answer_em, "answer_em"),
)
"""Rewards with the outcome that decides success where none is named."""


class _Ends(Component):
    """Says which end it sees, turn by turn and at the end."""

    name, scope, range, supply = "ends", "trajectory", (0.0, 1.0), "terminal"

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Return a score whose reason is what the view shows of the end."""
        return Score("trajectory", 1.0, reason=f"{view.end_reason}|{view.answer}|{','.join(view.citations)}|{view.progress}")


def _scheduled() -> list[float]:
    """Return what a valid episode earns under a weight that grows from 0: in the middle of a training, at its start, at its end."""
    suite = Suite(answer_em + Schedule(0.1 * all_valid, [[0.0, 0.0], [1.0, 1.0]]), success=answer_em)
    record = RECORDS["no answer"]
    return [suite.rescore(replace(record, info={"progress": progress})).reward for progress in (0.5, 0.0, 1.0)]


def _shaped(lo: float, hi: float) -> Expression:
    """Return a potential between bounds that hold 0, shaped with a gamma below 1."""
    return Shaped(Cap(retrieval_gain, lo, hi), 0.5)


def _shares() -> str:
    """Return what is wrong with how products and minima are shared out: the shares must add up to the change."""
    rng = stream("audit", "shares")
    for n in (1, 2, 3, 4):
        before, after = rng.uniform(-1.0, 1.0, n).tolist(), rng.uniform(-1.0, 1.0, n).tolist()
        change = [b - a for a, b in zip(before, after, strict=True)]
        for shares, whole in ((product_shares, math.prod), (min_shares, min)):
            paid = sum(s * c for s, c in zip(shares(before, change), change, strict=True))
            if abs(paid - (whole(after) - whole(before))) > 1e-9:
                return f"{shares.__name__} of {n} factors add up to {paid}, not {whole(after) - whole(before)}"
    return ""


def _tool(name: str) -> Suite:
    return build_suite(ChecklistReward(Checklist("tools").rule("only", call=name)))


def _after(task: Task, *, events: Sequence[str] | None = None, tools: Sequence[str] | None = None) -> Callable[[Suite], None]:
    return lambda suite: suite.check(task, events, tools)


FULL_TASK = Task("probe", RECORDS["no answer"].question, schema.from_json(Gold, RECORDS["no answer"].gold or {}))
MEETINGS: tuple[tuple[str, Callable[[], Suite], Callable[[Suite], None], bool], ...] = (
    ("any events", lambda: build_suite("retrieval_gain + answer_em"), _after(FULL_TASK), True),
    ("no events", lambda: build_suite("retrieval_gain + answer_em"), _after(FULL_TASK, events=()), False),
    ("other events", lambda: build_suite("path_potential + answer_em"), _after(FULL_TASK, events=("documents",)), False),
    ("its events", lambda: build_suite("path_potential + answer_em"), _after(FULL_TASK, events=("kept",)), True),
    ("a tool that is there", lambda: _tool("search"), _after(FULL_TASK, tools=("search", "open")), True),
    ("a tool that is not there", lambda: _tool("serch"), _after(FULL_TASK, tools=("search", "open")), False),
    ("any tool", lambda: _tool("serch"), _after(FULL_TASK), True),
    ("a gold without rubrics", lambda: build_suite("citation_rubric + answer_em"), _after(_gold(Answer("a"))), False),
)
"""What a suite is asked about, and whether it must fit."""


def _weight(progress: float) -> float:
    return math.nan if progress == 0.0 else 1.0


WRONG_CODE: tuple[tuple[str, Callable[[], Any]], ...] = (
    ("a weight that is a text", lambda: answer_em * "2"),  # pyright: ignore
    ("a weight that is true", lambda: True * answer_em),
    ("an expression times another", lambda: answer_em * all_valid),  # pyright: ignore
    ("a term that is a text", lambda: answer_em + "all_valid"),  # pyright: ignore
    ("a text and a term", lambda: "all_valid" + answer_em),  # pyright: ignore
    ("none minus a term", lambda: None - answer_em),  # pyright: ignore
    ("a term that is true", lambda: answer_em + True),
    ("true and a term", lambda: True + answer_em),
    ("false and a term", lambda: False + answer_em),
    ("a schedule that begins with no number", lambda: Schedule(all_valid, _weight)),
    ("a schedule that ends with no number", lambda: Schedule(all_valid, lambda p: math.inf if p == 1.0 else 0.5)),
    ("a schedule that gives a truth value", lambda: Schedule(all_valid, lambda p: True)),
    ("a class that is no component", lambda: build_suite(dict)),
    ("a function that wants something", lambda: build_suite(lambda view: 1.0)),
    ("a cap that is no expression", lambda: Cap("answer_em", 0, 1)),  # pyright: ignore
    ("a success that is not known", lambda: Suite(answer_em + 0.1 * all_valid, success="answer_ex")),
    ("a success per turn", lambda: Suite(answer_em + retrieval_gain, success="retrieval_gain")),
    ("a gain without end", lambda: Suite(answer_em - 1.0 * step_cost, success=answer_em)),
    ("a gain without end alone", lambda: Suite(-1.0 * step_cost, success=answer_em)),
)
"""Code that must raise an error of agentgym; where Python itself refuses an operator, TypeError."""
OPERATORS = frozenset(("a weight that is a text", "a weight that is true", "an expression times another", "a term that is a text", "a text and a term", "none minus a term", "a term that is true", "true and a term", "false and a term"))  # fmt: skip
CODE: tuple[tuple[Callable[[], Any], str], ...] = (
    (lambda: sum([answer_em, all_valid]), "answer_em + all_valid"),
    (lambda: 2 * answer_em * 3, "6.0*answer_em"),
    (lambda: 1 + answer_em, "1.0 + answer_em"),
    (lambda: 1 - (answer_em + all_valid), "1.0 + -1.0 * (answer_em + all_valid)"),
    (lambda: -all_valid * -1, "1.0*all_valid"),
    (lambda: Suite(all_valid + 0.1 * step_cost, success="answer_f1").outcome.name, "answer_f1"),
    (lambda: Suite(all_valid + 0.1 * step_cost, success="all_valid").outcome.name, "all_valid"),
    (lambda: Suite(answer_em - 1.0 * step_cost, success=answer_em, allow_unbounded=True).bounds().success[1], "inf"),
    (lambda: build_suite(lambda: build_suite("search")).name, "search"),
    (lambda: Schedule(all_valid, lambda p: 0.5 + p).at(0.5), "1.0"),
    (lambda: Suite(answer_em + Schedule(0.5 * all_valid, lambda p: 4 * p * (1 - p)), success=answer_em).bounds().success[1], "1.5"),
    (lambda: Suite(answer_em + Schedule(0.5 * all_valid, lambda p: -4 * p * (1 - p)), success=answer_em).bounds().margin, "0.5"),
    (lambda: Schedule(all_valid, [[0.2, 1.0], [0.6, 3.0]]).at(0.4), "2.0"),
    (lambda: Schedule(all_valid, [[0.2, 1.0], [0.6, 3.0]]).at(0.9), "3.0"),
    (lambda: Schedule(all_valid, [[0.2, 1.0], [0.6, 3.0]]).at(0.1), "1.0"),
    (lambda: _scheduled(), "[0.05, 0.0, 0.1]"),
    (lambda: 0.0 + answer_em, "0.0 + answer_em"),
    (lambda: times((-math.inf, 1.0), (0.0, 2.0)), "(-inf, 2.0)"),
    (lambda: times((0.0, 2.0), (-math.inf, 1.0)), "(-inf, 2.0)"),
    (lambda: span(_shaped(0.0, 1.0), Known()).turn, "(-inf, 0.0)"),
    (lambda: span(_shaped(-1.0, 0.0), Known()).turn, "(0.0, inf)"),
    (lambda: build_suite("answer_em + 0.1 * citation_rubric_judged").deferred, "('citation_rubric_judged',)"),
    (lambda: build_suite(answer_em + 0.1 * ChecklistReward(Checklist("own").rule("only", call="search"))).deferred, "()"),
)
"""Code with what it must give, written out."""


def _code() -> str:
    """Return the first line of code that does not do what it must."""
    for what, made in WRONG_CODE:
        try:
            made()
        except AgentGymError:
            continue
        except TypeError as error:
            if what in OPERATORS:
                continue
            return f"{what}: TypeError instead of an error of agentgym: {error}"
        return f"{what} is accepted"
    for n, (made, wanted) in enumerate(CODE):
        if _same(str(made()), wanted):
            continue
        return f"line {n} of CODE gives {made()!r}, not {wanted!r}"
    for what, made, meet, fine in MEETINGS:
        try:
            meet(made())
            fits_ = True
        except AgentGymError:
            fits_ = False
        if fits_ is not fine:
            return f"a suite that is asked about {what} {'fits' if fits_ else 'does not fit'}"
    return ""


def _same(given: str, wanted: str) -> bool:
    return "".join(given.split()) == "".join(wanted.split())


def _ends() -> str:
    """Return the first record whose end reaches the scores in another way than it was recorded."""
    suite = Suite(answer_em + _Ends(), success=answer_em)
    for label in ("cut by tokens", "service fault", "loop", "cites one", "no turn", "forged thrice"):
        record = RECORDS[label]
        wanted = f"{record.end_reason}|{record.answer}|{','.join(record.citations)}|{record.info['progress']}"
        if (got := suite.rescore(record).scores["ends"].reason) != wanted:
            return f"record {label!r}: scores see {got!r}, recorded is {wanted!r}"
    return ""


def refusals(records: Mapping[str, tuple[Trajectory, Task]]) -> str:
    """Return the first reward, task or value that is accepted and must not be, or refused and must not be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for supply, given, counted in CLIPPED:
            limits = (-1.0, 0.0) if supply == "cost" else (-1.0, 1.0)
            if (got := _raised("turn", supply, given, limits)) != list(counted):
                return f"of {given} a {supply} of range {limits} counts {got}, not {list(counted)}"
    outcome = build_suite("answer_em + 0.1 * all_valid")
    for what, task in UNFIT:
        if fits(outcome, task):
            return f"answer_em accepts a task with {what}"
    if not fits(outcome, _gold(GONE, Answer("a"))):
        return "answer_em refuses a task with one answer that is left"
    for spec, outcome in ACCEPTED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            suite = build_suite(spec)
        if suite.outcome.name != outcome:
            return f"the success of {spec!r} is decided by {suite.outcome.name}, not by {outcome}"
    for what, spec in REFUSED:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                suite = build_suite(spec)
            suite.check(next(iter(records.values()))[1], EVENTS)
        except AgentGymError:
            continue
        except Exception as error:  # noqa: BLE001 (any other exception is the finding)
            return f"{what}: {type(error).__name__} instead of an error of agentgym: {error}"
        return f"{what} is accepted: {spec!r}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _code() or _shares() or _ends()
