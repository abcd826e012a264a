"""What components declare and what tasks offer: every combination is accepted or refused by rule, and what is accepted scores.

The rules are written here a second time, from the text of the protocol (`rewards.component`), not from its checks.
"""

import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

from agentgym import hooks, schema
from agentgym.audit.refusals import declared, fits
from agentgym.audit.scripts import FULL, RECORDS, STATE
from agentgym.audit.services import LexicalJudge, LexicalScorer
from agentgym.errors import AgentGymError, ConfigError, DataError
from agentgym.rewards import Component, EpisodeView, Suite
from agentgym.rewards.answers import answer_em
from agentgym.rewards.costs import step_cost
from agentgym.rewards.expression import Cap, Gate
from agentgym.rewards.judged import JudgedCitationRubric, JudgedNuggetCoverage
from agentgym.rewards.nodes import Clip, MaxNorm, Mean, Min, Once, OnlyIf, Product, Schedule, Shaped
from agentgym.rewards.registering import component_named
from agentgym.rewards.retrieval import retrieval_gain
from agentgym.task import Answer, Gold, Rubric, Task
from agentgym.types import JSON, Score

SCOPES = ("turn", "trajectory")
SUPPLIES = ("potential", "once", "cost", "terminal", "unbounded")
RANGES = ((0.0, 1.0), (-1.0, 0.0), (-1.0, 1.0), (0.5, 1.0), (-1.0, -0.5), (0.0, 0.0), (1.0, 0.0), (math.nan, 1.0), (0.0, math.nan))


def check_declarations() -> str:
    """Return the first declaration, gold or stop that is taken otherwise than the protocol says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for check in (_declared, _offered, _schedules, _children, _named_alike, _stops, _without, _unasked, _asked_once):
            if problem := next((p for p in check() if p), ""):
                return problem
    return ""


def _allowed(scope: str, supply: str, lo: float, hi: float) -> bool:
    if not lo <= hi or (supply == "cost" and hi > 0.0):
        return False
    if scope == "trajectory":
        return supply != "unbounded"
    return supply != "terminal" and (supply not in ("potential", "once") or lo <= 0.0 <= hi)


def _declared() -> Iterator[str]:
    for scope, supply, limits in itertools.product(SCOPES, SUPPLIES, RANGES):
        try:
            Suite(declared(scope=scope, supply=supply, range=limits), success=answer_em, allow_unbounded=True)
            taken = True
        except ConfigError:
            taken = False
        if taken is not _allowed(scope, supply, *limits):
            yield f"a component of {scope} scope, supply {supply} and range {limits} is {'accepted' if taken else 'refused'}"


def _schedules() -> Iterator[str]:
    """Give points of progress in and out of order, alone and with weights that are no numbers."""
    for xs in (*itertools.product((-0.1, 0.0, 0.3, 1.0, 1.2), repeat=2), *itertools.product((0.0, 0.3, 0.6, 1.0), repeat=3), (0.0,), (0.5,), ()):
        for odd in (1.0, math.inf):
            points = [[x, odd if n == len(xs) - 1 else 0.5] for n, x in enumerate(xs)]
            rising = bool(xs) and xs[0] >= 0.0 and xs[-1] <= 1.0 and all(a < b for a, b in itertools.pairwise(xs))
            yield _taken(f"a schedule over {points}", lambda points=points: Schedule(answer_em, points), rising and math.isfinite(odd))
    for given, fine in (([1, 0], True), ((0.5, 0.5), True), ([1], False), ([1, 0, 1], False), (5, False), ("ab", False), ([None, 1], False), ([[0, 1], 1], False), ([[0, 1, 2]], False)):
        yield _taken(f"a schedule of {given!r}", lambda given=given: Schedule(answer_em, given), fine)  # pyright: ignore[reportArgumentType]


def _children() -> Iterator[str]:
    """Give every node what is no expression in every place of one, and limits that are no numbers."""
    turn, end = retrieval_gain, answer_em
    nodes: dict[str, Callable[[Any], Any]] = {
        "Cap": lambda x: Cap(x, -1, 1), "Clip": lambda x: Clip(x, -1, 1), "Once": Once, "Mean": Mean, "Gate": lambda x: Gate(end, x), "by of Gate": lambda x: Gate(x, turn),
        "OnlyIf": lambda x: OnlyIf(1, x), "by of OnlyIf": lambda x: OnlyIf(1, turn, x), "Shaped": Shaped, "Schedule": lambda x: Schedule(x, [0, 1]), "MaxNorm": MaxNorm,
        "first of Product": lambda x: Product(x, end), "second of Min": lambda x: Min(end, x), "Suite": lambda x: Suite(x),
        "lo of Cap": lambda x: Cap(turn, math.nan, 1), "hi of Clip": lambda x: Clip(turn, 0, math.nan), "base of Gate": lambda x: Gate(end, turn, math.inf),
        "outcome of OnlyIf": lambda x: OnlyIf(True, turn), "gamma of Shaped": lambda x: Shaped(turn, math.nan), "Weight": lambda x: math.inf * turn,
    }  # fmt: skip
    for name, node in nodes.items():
        for child in ("answer_em", dict, object()):
            yield _taken(f"{name} given {child!r:.30}", lambda node=node, child=child: node(child), False)


def _named_alike() -> Iterator[str]:
    twin = declared(name="twin")
    yield _taken("one component twice", lambda: Suite(twin + 0.5 * twin, success=answer_em), True)
    for scope in SCOPES:
        other = {"scope": scope, "supply": "once" if scope == "turn" else "terminal"}
        yield _taken(f"two components of one name at {scope} scope", lambda other=other: Suite(declared(name="twin", **other) + declared(name="twin", **other), success=answer_em), False)
    yield _taken("another answer_em", lambda: Suite(declared(name="answer_em"), success=answer_em), False)


def _taken(what: str, make: Callable[[], Any], wanted: bool) -> str:
    try:
        make()
        taken = True
    except AgentGymError:
        taken = False
    except Exception as error:  # noqa: BLE001 (any other exception is the finding)
        return f"{what}: {type(error).__name__} instead of an error of agentgym: {error}"
    return "" if taken is wanted else f"{what} is {'accepted' if taken else 'refused'}"


# ---- what tasks and environments offer


def _offered() -> Iterator[str]:
    """Ask for every field of gold and every kind of event, alone and as alternatives."""
    full = replace(FULL, final_state={"done": True})
    for field in fields(Gold):
        default = isinstance(field.default, str) or field.name == "final_state"  # an empty final state is a state
        empty = replace(full, **{field.name: field.default if default else type(getattr(full, field.name))()})
        task = Task("probe", "q", empty)
        there = bool(getattr(empty, field.name))
        for needs, wanted in ((f"gold.{field.name}", there), (f"gold.{field.name}|events.none", there), (f"events.state|gold.{field.name}", True), ("scorer", True)):
            suite = Suite(declared(needs=frozenset({needs})), success=answer_em)
            if field.name != "answers" and fits(suite, task) is not wanted:
                yield f"a task whose gold {field.name} is {getattr(empty, field.name)!r:.40} {'does not meet' if wanted else 'meets'} the need {needs!r}"


@cache
def golds() -> dict[str, Gold]:
    """Return gold that lacks something, or says something that cannot be scored; by what it is."""
    full = replace(FULL, final_state=STATE.final_state)
    table = {"full": full, "nothing": Gold(), "answers alone": Gold(answers=FULL.answers), "yes": Gold(answers=(Answer("yes"),))}
    for field in ("answers", "entities", "doc_ids", "path", "path_doc_ids", "rubrics", "nuggets"):
        table[f"without {field}"] = replace(full, **{field: ()})
        table[f"only {field}"] = replace(Gold(answers=FULL.answers), **{field: getattr(full, field)})
    table["neither answers nor entities"] = replace(full, answers=(), entities=())
    for what, rubrics in (
        ("an unknown slot", (Rubric("r", "<E7> was born in <E0>"),)), ("no slot of the answer", (Rubric("r", "<E1> directed it"),)), ("no weight", (Rubric("r", "<E0>", 0.0),)),
        ("a negative weight", (Rubric("r", "<E0>", 2.0), Rubric("s", "<E1>", -1.0))), ("the answer's slot", (Rubric("r", "<E0> is a harbour town"),)),
    ):  # fmt: skip
        table[f"rubrics with {what}"] = replace(full, rubrics=rubrics)
        table[f"rubrics with {what}, no entities"] = replace(full, rubrics=rubrics, entities=(), path=())
    for what, answers in (("blank", (Answer("?!"),)), ("yes and blank", (Answer("yes"), Answer("?!"))), ("number", (Answer("12", (), "number"),))):
        table[f"{what} answers, no documents"] = replace(full, answers=answers, doc_ids=())
        table[f"{what} answers"] = replace(full, answers=answers)
    return table


@cache
def incomplete() -> dict[str, JSON]:
    """Return per built-in component a digest of which gold it takes, what it complains of, and what it then scores."""
    table: dict[str, JSON] = {}
    for name in hooks.COMPONENTS.names():
        try:
            component = component_named(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                suite = Suite(1.0 * component, success=component if component.scope == "trajectory" else answer_em, allow_unbounded=True)
        except (AgentGymError, TypeError):  # it needs an argument
            continue
        rows: list[JSON] = []
        for what, gold in golds().items():
            taken = fits(suite, Task("probe", "q", gold))
            rows.append([what, bool(component.complaint(gold)), taken])
            if taken:
                for label in ("cites one", "no answer", "both hops at once"):
                    done = suite.rescore(replace(RECORDS[label], gold=schema.to_json(gold)))
                    every = [*(t.scores for t in done.turns), done.scores]
                    rows.append([[s.raw if s.raw is None else round(s.raw, 9) + 0.0, s.valid, s.reason] for scores in every for _, s in sorted(scores.items())])
        table[name] = hashlib.blake2b(json.dumps(rows, default=str).encode(), digest_size=5).hexdigest()
    return table


# ---- stops, records


class _Stops(Component):
    """Wants the episode to end when it has been asked a number of times."""

    name, scope, range, supply = "stops", "turn", (-1.0, 0.0), "cost"

    def __init__(self, name: str, after: int) -> None:
        self.name, self.after = name, after

    def start(self, view: EpisodeView) -> dict[str, int]:
        """Count from 0."""
        return {"asked": 0}

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Cost nothing."""
        return Score("turn", 0.0)

    def stop(self, view: EpisodeView, state: Any) -> str:
        """Say who stopped, and after how many turns."""
        state["asked"] += 1
        return f"{self.name} {len(view.turns)}" if state["asked"] >= self.after else ""


def _stops() -> Iterator[str]:
    record = RECORDS["long"]
    for afters, wanted in (((3, 2), "second 2"), ((2, 2), "first 2"), ((2, 5), "first 2"), ((9, 9), "")):
        first, second = _Stops("first", afters[0]), _Stops("second", afters[1])
        suite = Suite(answer_em + 0.1 * step_cost * 0.1 + retrieval_gain * 0.0 + first + second, success=answer_em, allow_unbounded=True)
        view = EpisodeView(record.question, schema.from_json(Gold, record.gold or {}), record.prompt)
        state, told = suite.start(view), ""
        for n in range(4):
            view.turns = record.turns[: n + 1]
            suite.score_turn(view, state)
            told = told or suite.stop(view, state)
        if told != wanted:
            yield f"components that stop after {afters} turns end the episode with {told!r}, not with {wanted!r}"
    if (said := Suite(answer_em + 0.1 * retrieval_gain).stop(EpisodeView("q", FULL), Suite(answer_em).blank())) != "":
        yield f"a suite without components that stop says {said!r}"


def _without() -> Iterator[str]:
    """Ask a suite for what a record or a call does not have: it must say so by the right error, and name what is missing."""
    suite = Suite(answer_em + 0.3 * retrieval_gain)
    asked, normed = Suite(answer_em + 0.1 * component_named("information_gain")), Suite(answer_em + 0.1 * MaxNorm(component_named("citation_rubric")))
    calls: tuple[tuple[str, type[AgentGymError], str, Callable[[], Any]], ...] = (
        ("a record without gold", DataError, "no gold", lambda: suite.rescore(replace(RECORDS["cites one"], gold=None))),
        ("a record with gold of another form", DataError, "gold", lambda: suite.rescore(replace(RECORDS["cites one"], gold={"answers": 5}))),
        ("a record of another suite", ConfigError, "rescore", lambda: normed.transform_groups([suite.rescore(RECORDS["cites one"])])),
        ("no service", ConfigError, "scorer", lambda: asked.complete([asked.rescore(RECORDS["cites one"])])),
        ("a suite of a number", ConfigError, "expression", lambda: Suite(1.0)),  # pyright: ignore[reportArgumentType]
        ("progress of 2", ConfigError, "progress", lambda: suite.at(2.0)),
        ("progress below 0", ConfigError, "progress", lambda: suite.at(-0.1)),
    )  # fmt: skip
    for what, kind, word, call in calls:
        try:
            call()
        except kind as error:
            if word not in str(error):
                yield f"{what}: the error does not speak of {word!r}: {error}"
            continue
        except Exception as error:  # noqa: BLE001 (any other exception is the finding)
            yield f"{what}: {type(error).__name__} instead of {kind.__name__}: {error}"
            continue
        yield f"{what} is accepted"
    for expression in (answer_em + 0.3 * retrieval_gain, 2.0 * answer_em):
        unnamed = Suite(expression)
        if unnamed.name != repr(expression) or unnamed.rescore(RECORDS["cites one"]).reward_spec != repr(expression):
            yield f"a suite without a name is called {unnamed.name!r} in its records, not {expression!r}"


class _Counting(LexicalScorer):
    """Counts how often it is asked, and for how many targets."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def score(self, contexts: Any, prefix: str, targets: Any, suffix: str) -> list[list[float]]:
        """Answer, and note the number of targets."""
        self.asked.append(len(targets))
        return super().score(contexts, prefix, targets, suffix)


class _Questioned(LexicalJudge):
    """Counts the questions that it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def judge(self, requests: Any) -> Any:
        """Answer, and note the questions."""
        self.asked += requests
        return super().judge(requests)


def _asked_once() -> Iterator[str]:
    """Let two components ask a judge the same questions: each is asked once a batch."""
    for kind in (JudgedNuggetCoverage, JudgedCitationRubric):
        twin, judge = type("Twin", (kind,), {"name": "twin"})(), _Questioned()
        suite = Suite(answer_em + 0.1 * kind() + 0.1 * twin)
        suite.complete([suite.rescore(replace(RECORDS[n], id=n)) for n in ("cites twice",)], judge=judge)
        if not judge.asked or len(set(judge.asked)) != len(judge.asked):
            yield f"two components with the same questions ask the judge {len(judge.asked)}, {len(set(judge.asked))} of them different"


def _unasked() -> Iterator[str]:
    """Complete records of which some, none or all are open: a service is asked once, and for open scores alone."""
    for name in ("information_gain", "information_gain_log"):
        suite, service = Suite(answer_em + 0.1 * component_named(name)), _Counting()
        records = [suite.rescore(replace(RECORDS[n], id=n)) for n in ("cites one", "no answer")]
        done = suite.complete(records, scorer=service)
        if len(service.asked) != 1 or not service.asked[0]:
            yield f"{name} asks for {service.asked} targets, not once"
        mixed = [done[0], records[1], replace(records[0], in_loss=False, in_statistics=False)]
        again = _Counting()
        if suite.complete(mixed, scorer=again)[:2] != done or sum(again.asked) >= service.asked[0]:
            yield f"{name}: a batch with one open record asks for {again.asked} targets, or changes what is done"
        direct = _Counting()
        component: Any = suite.components[name]
        if component.complete([], direct) != [] or direct.asked:
            yield f"{name} asks the scorer for nothing at all: {direct.asked}"
        for what, batch in (("nothing", []), ("what is done", done), ("records without turns", [suite.rescore(RECORDS["no turn"])])):
            unasked = _Counting()
            suite.complete(batch, scorer=unasked)
            if unasked.asked:
                yield f"{name} asks the scorer about {what}: {unasked.asked}"
