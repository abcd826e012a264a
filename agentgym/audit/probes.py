"""Scripted records with known scores: every built-in component and node must give what `probes.json` holds.

The records are typed events by hand, each made to tell right from nearly right: other writing, other order, failed
calls, repeated queries, unread citations, thoughts before evidence. Components that need the gold of other families
(state, traces, widgets) have no record here.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from agentgym import hooks, schema
from agentgym.audit.players import completed
from agentgym.audit.report import Finding, finding
from agentgym.audit.scripts import RECORDS
from agentgym.audit.services import SERVICES, LexicalScorer
from agentgym.errors import AgentGymError, ServiceError
from agentgym.judges.protocol import abstention
from agentgym.rewards import Cap, Component, Suite, answer_scores, build_suite
from agentgym.rewards.answers import AnswerF1, answer_em
from agentgym.rewards.expression import Expression
from agentgym.rewards.scoring import attributed
from agentgym.task import Answer, Gold, Task
from agentgym.types import JSON, Score, Trajectory

PATH = Path(__file__).with_name("probes.json")
MEASURES = "answer_scores"
EVENTS = ("documents", "citations", "triples", "kept")
FORMS = ("answer, ", "only answers", "number ", "number, ", "short ", "yes-no ", "all ")
"""Records that differ in the answer alone: for components that read it."""
EXPRESSIONS = (
    "answer_em + Cap(0.2 * retrieval_gain, -0.1, 0.1)",
    "answer_em + Cap(0.5 * retrieval_gain + 0.3 * query_novelty, -0.2, 0.3) + 0.25",
    "answer_em + Cap(0.01 * step_cost + 0.01 * call_cost + 0.1 * invalid_action + 1.0 * forgery, -0.3, 0.0)",
    "2 * answer_em - 0.5 * all_valid",
    "answer_em + Gate(answer_em, 0.3 * citation_rubric)",
    "Gate(answer_em, info_density, 1)",
    "Gate(answer_f1, 0.5 * retrieval_gain + 0.1 * all_valid, 0.7)",
    "answer_em + OnlyIf(0, Cap(0.3 * retrieval_gain, 0.0, 0.3))",
    "answer_em + OnlyIf(1, 0.2 * retrieval_gain)",
    "answer_em + OnlyIf(0, 0.3 * MaxNorm(entity_match))",
    "answer_em + 0.5 * Product(answer_f1, all_valid)",
    "answer_em + Product(retrieval_gain, all_valid)",
    "answer_em + Min(answer_f1, citation_rubric)",
    "answer_em + Min(answer_f1, retrieval_gain)",
    "answer_em + 0.3 * Once(retrieval_gain)",
    "answer_em + 0.2 * Mean(invalid_action)",
    "answer_em + Cap(Clip(0.4 * retrieval_gain, -0.1, 0.1), -0.2, 0.2)",
    "0.5 * (answer_f1 + 0.4 * Clip(answer_em, 0.2, 0.8))",
    "answer_em + 0.4 * Shaped(retrieval_gain)",
    "answer_em + Cap(information_gain, -0.4, 0.4)",
    "answer_cover + 0.3 * citation_precision",
    "answer_em + Schedule(0.4 * all_valid, [[0, 0.5], [0.5, 1], [1, 0.2]])",
    "answer_em + Cap(Schedule(0.4 * retrieval_gain, [1, 0]), -0.2, 0.2)",
    "answer_em + Cap(0.3 * Clip(step_cost, -0.5, 0), -0.4, 0)",
    "answer_em - 0.4 * Shaped(forgery)",
    "answer_em + 0.4 * Shaped(0.5 * forgery + retrieval_gain)",
    "answer_em + 0.2 * Product(Schedule(all_valid, [0.2, 1]), answer_f1)",
    "answer_em + Clip(Schedule(all_valid, [[0, 0.1], [0.4, 0.9], [1, 0.3]]), 0, 0.5)",
    "answer_em + Gate(answer_f1, Schedule(0.2 * retrieval_gain, [0.1, 0.7]))",
    "0.3 * Once(forgery) + answer_em",
    "answer_em + 0.2 * MaxNorm(citation_rubric) - 0.1",
    "1 - answer_f1",
    "answer_em + Cap(Product(retrieval_gain, retrieval_gain), -0.5, 0.5)",
    "Min(answer_em, all_valid, answer_f1)",
    "answer_em + 0.3 * Min(retrieval_gain, path_potential)",
    "answer_em + 0.3 * Product(retrieval_gain, path_potential)",
    "answer_em + 0.3 * Shaped(path_potential)",
    "answer_em + Cap(0.4 * path_potential + 0.1 * step_cost, -0.05, 0.2)",
    "OnlyIf(1, 0.5 * retrieval_gain + 0.1 * step_cost, answer_f1) + answer_em",
)
"""One expression a node or more, over components that the records feed."""


def check_components(suite: Suite) -> list[Finding]:
    """Score all records with every built-in component, every expression and every named suite.

    Only what the suite under audit has replaced by a component of its own is left out.
    """
    expected = json.loads(PATH.read_text(encoding="utf-8"))
    own = {n for n, c in suite.components.items() if not type(c).__module__.startswith("agentgym.rewards")}
    count = 0
    for name, recorded in expected.items():
        if name in own:
            continue
        count += 1
        try:
            scores = measures() if name == MEASURES else probe(name)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
            scores = {"error": f"{type(error).__name__}: {error}"}
        problem = next((f"{key} is {scores.get(key)}, known is {value}" for key, value in recorded.items()
                        if scores.get(key) != value), "")  # fmt: skip
        if problem:
            component = name if name in hooks.COMPONENTS.names() else ""
            return [finding("hack-resistant", f"known scores: {name}", problem, component)]
    note = f"{count} components and expressions on {len(RECORDS)} records"
    return [
        finding("hack-resistant", "scorers give the known scores", "", note=note),
        finding("hack-resistant", "rewards that cannot hold are refused", _refusals()),
    ]


def measures() -> dict[str, JSON]:
    """Return what tables of answers show for every form of the answer."""
    rows = {n: r for n, r in RECORDS.items() if n.startswith(FORMS)}
    return {n: {k: _number(v) for k, v in answer_scores(r.answer, r.gold["answers"]).items()} for n, r in rows.items()}


def probes_text() -> str:
    """Return the text of probes.json with all scores taken anew; the caller writes it and reads the diff."""
    table: dict[str, JSON] = {}
    table[MEASURES] = measures()
    for name in (*hooks.COMPONENTS.names(), *EXPRESSIONS, *hooks.SUITES.names()):
        try:
            scores = probe(name)
        except (AgentGymError, TypeError):  # it needs an argument
            continue
        if len(scores) > 1:
            table[name] = scores
    rows = (f"{json.dumps(name)}: {json.dumps(scores, sort_keys=True)}" for name, scores in sorted(table.items()))
    return "{\n" + ",\n".join(rows) + "\n}\n"


@cache
def probe(name: str) -> dict[str, JSON]:
    """Return bounds and scores of a component, expression or suite over all records that it can score.

    A record gives [success, total, digest of all values]; expressions are not asked about forms of answers.
    """
    suite = _suite(name)
    bounds = suite.bounds(), suite.bounds(0.5)
    found: dict[str, JSON] = {"bounds": [[_number(v) for v in (*b.success, *b.failure, b.margin)] for b in bounds]}
    for label, (record, task) in _records().items():
        if label.startswith(FORMS) and not (name in hooks.COMPONENTS.names() and "gold.answers" in suite.needs):
            continue
        if not _fits(suite, task):
            continue
        found[label] = _summary(suite, record)
    if suite.deferred or suite.group_transforms:
        found["as one group"] = _group(suite, {**SERVICES})
        found["as one group, services down"] = _group(suite, dict.fromkeys(SERVICES, _Down()))
        found["as one group, no numbers"] = _group(suite, {**SERVICES, "scorer": LexicalScorer(float("nan"))})
    found["form"] = _hex([suite.is_causal, suite.is_scheduled, repr(suite.expression)])
    return found


class _Down:
    """A service that fails."""

    def score(self, *_: Any) -> Any:
        raise ServiceError("down")

    def judge(self, requests: Any) -> Any:
        return [abstention("service", "down") for _ in requests]


def _group(suite: Suite, services: dict[str, Any]) -> JSON:
    """Return the totals of records that are siblings, in one digest each."""
    labels = [n for n, (_, task) in _records().items() if n.startswith(("thinks", "cites", "answer, p", "service")) and _fits(suite, task)]
    members = [replace(suite.rescore(_records()[n][0]), group_id="g") for n in labels]
    done = suite.complete(members, **services)
    return [[_number(r.total) for r in done], _hex([[r.in_loss, r.in_statistics, r.success, sorted(r.scores)] for r in done])]


def _fits(suite: Suite, task: Task) -> bool:
    try:
        suite.check(task, EVENTS)
    except AgentGymError:
        return False
    return True


def _hex(value: JSON) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()


def _summary(suite: Suite, record: Trajectory) -> JSON:
    scores = list(_scores(suite, record))
    return [*scores[:2], _hex(scores)]


@cache
def _records() -> dict[str, tuple[Trajectory, Task]]:
    return {n: (r, Task("probe", r.question, schema.from_json(Gold, r.gold or {}))) for n, r in RECORDS.items()}


@cache
def _suite(name: str) -> Suite:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a component alone separates nothing
        return build_suite(name)


def _scores(suite: Suite, record: Trajectory) -> Iterator[JSON]:
    """Yield success, then every non-zero value by place, then the split of what was paid late."""
    done = completed(suite, [suite.rescore(record)])[0]
    yield done.success
    yield _number(done.total)
    for n, turn in enumerate(done.turns):
        for name, s in turn.scores.items():
            if s.raw or s.value or not s.valid or s.reason:
                yield [n, name, _number(s.raw), _number(s.weight), _number(s.value), s.reason, _rounded(s.parts), *s.evidence]
    for name, s in done.scores.items():
        yield [name, _number(s.raw), _number(s.weight), _number(s.value), s.reason, _rounded(s.parts), *s.evidence]
    yield [done.in_loss, done.in_statistics, done.reward_spec]
    for name, shares in attributed(done).items():
        yield [name, *(_number(v) for v in shares)]
    if suite.deferred or suite.name in hooks.SUITES.names():
        again = suite.rescore(done)
        yield [_number(again.total - done.total), again.success, [_number(t.reward) for t in again.turns]]


def _number(value: float | None) -> JSON:
    return None if value is None else round(value, 9) + 0.0 if abs(value) < 1e12 else str(value)


def _rounded(parts: dict[str, float]) -> dict[str, JSON]:
    return {k: _number(v) for k, v in sorted(parts.items()) if not k.startswith(("before", "after", "tokens"))}


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


def _refusals() -> str:
    """Return the first reward, task or value that is accepted and must not be, or refused and must not be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for supply, given, counted in CLIPPED:
            limits = (-1.0, 0.0) if supply == "cost" else (-1.0, 1.0)
            if (got := _raised("turn", supply, given, limits)) != list(counted):
                return f"of {given} a {supply} of range {limits} counts {got}, not {list(counted)}"
    outcome = build_suite("answer_em + 0.1 * all_valid")
    for what, task in UNFIT:
        if _fits(outcome, task):
            return f"answer_em accepts a task with {what}"
    if not _fits(outcome, _gold(GONE, Answer("a"))):
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
            suite.check(next(iter(_records().values()))[1], EVENTS)
        except AgentGymError:
            continue
        except Exception as error:  # noqa: BLE001 (any other exception is the finding)
            return f"{what}: {type(error).__name__} instead of an error of agentgym: {error}"
        return f"{what} is accepted: {spec!r}"
    return ""
