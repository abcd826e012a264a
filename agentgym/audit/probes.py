"""Scripted records with known scores: every built-in component and node must give what `probes.json` holds.

The records are typed events by hand, each made to tell right from nearly right: other writing, other order, failed
calls, repeated queries, unread citations, thoughts before evidence. Components that need the gold of other families
(state, traces, widgets) have no record here.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from agentgym import hooks, schema
from agentgym.audit import algebra
from agentgym.audit.declarations import check_declarations, incomplete
from agentgym.audit.odd import odd_expressions
from agentgym.audit.players import completed
from agentgym.audit.refusals import fits, refusals
from agentgym.audit.report import Finding, finding
from agentgym.audit.scripts import RECORDS
from agentgym.audit.services import SERVICES, LexicalScorer
from agentgym.audit.wordings import wordings
from agentgym.errors import AgentGymError, ServiceError
from agentgym.judges.protocol import abstention
from agentgym.rewards import Suite, answer_scores, build_suite
from agentgym.rewards.scoring import attributed
from agentgym.task import Gold, Task
from agentgym.types import JSON, Trajectory

PATH = Path(__file__).with_name("probes.json")
MEASURES = "answer_scores"
TREES = "random expressions"
TABLES: dict[str, Callable[[], dict[str, JSON]]] = {
    "dialects": wordings,
    "odd components": odd_expressions,
    "incomplete gold": incomplete,
}
"""Tables that no reward under audit can change."""
TREE_RECORDS = ("thinks after", "cites twice", "costs beyond the cap", "looks and keeps", "cut by tokens")
"""The records that random expressions are scored on."""
FEW = (*TREE_RECORDS, "forged thrice", "service failed", "same hit again", "keeps and drops", "no turn", "answer at once", "keeps to the limit")
"""The records that expressions are scored on: what they read is probed component by component."""
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
    "answer_em + Schedule(0.3 * all_valid, [1, 0]) + Schedule(0.3 * answer_f1, [0, 1])",
    "answer_f1 + 0.3 * MaxNorm(answer_em)",
    "answer_em + 0.3 * MaxNorm(nugget_coverage_judged)",
    "answer_em + 0.2 * Shaped(information_gain)",
    "answer_em + Cap(Product(retrieval_gain, retrieval_gain), -0.5, 0.5)",
    "Min(answer_em, all_valid, answer_f1)",
    "answer_em + 0.3 * Min(retrieval_gain, path_potential)",
    "answer_em + 0.3 * Product(retrieval_gain, path_potential)",
    "answer_em + 0.3 * Shaped(path_potential)",
    "answer_em + Cap(0.4 * path_potential + 0.1 * step_cost, -0.05, 0.2)",
    "OnlyIf(1, 0.5 * retrieval_gain + 0.1 * step_cost, answer_f1) + answer_em",
    "answer_em + Clip(0.3 * all_valid - 0.3 * answer_f1, 0.1, 0.2)",
    "answer_em + Cap(0.2 * query_novelty, -0.1, 0) + 0.3 * Shaped(retrieval_gain) + Cap(0.1 * step_cost, -0.2, 0) + 0.2 * Shaped(path_potential)",
    "answer_em + Clip(all_valid - answer_f1 + 0.5 * answer_cover - 0.5 * answer_em, -0.4, -0.1)",
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
            scores = _known(name, frozenset(own))
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
            scores = {"error": f"{type(error).__name__}: {error}"}
        odd = (k for k, known in recorded.items() if scores.get(k) != known and (name != TREES or k in scores or not own))
        problem = next((f"{key} is {scores.get(key)}, known is {recorded[key]}" for key in odd), "")
        if problem:
            component = name if name in hooks.COMPONENTS.names() else ""
            return [finding("hack-resistant", f"known scores: {name}", problem, component)]
    note = f"{count} components and expressions on {len(RECORDS)} records"
    return [
        finding("hack-resistant", "scorers give the known scores", "", note=note),
        finding("hack-resistant", "rewards that cannot hold are refused", refusals(_records()) or check_declarations()),
    ]


def _known(name: str, own: frozenset[str]) -> dict[str, JSON]:
    if name in TABLES:
        return TABLES[name]()
    return measures() if name == MEASURES else expressions(own) if name == TREES else probe(name)


def measures() -> dict[str, JSON]:
    """Return what tables of answers show for every form of the answer."""
    rows = {n: r for n, r in RECORDS.items() if n.startswith(FORMS)}
    return {n: {k: _number(v) for k, v in answer_scores(r.answer, r.gold["answers"]).items()} for n, r in rows.items()}


@cache
def expressions(own: frozenset[str] = frozenset()) -> dict[str, JSON]:
    """Return the digests of random expressions; without those that hold a component which a suite replaced."""
    records = [RECORDS[label] for label in TREE_RECORDS]
    wanted = ((n, text, outcome) for n, (text, outcome) in enumerate(algebra.trees()))
    return {f"{n}: {text}": algebra.digest_of(text, outcome, records) for n, text, outcome in wanted
            if not any(name in text for name in own)}  # fmt: skip


def probes_text() -> str:
    """Return the text of probes.json with all scores taken anew; the caller writes it and reads the diff."""
    table: dict[str, JSON] = {}
    table[MEASURES] = measures()
    table[TREES] = expressions()
    table |= {name: made() for name, made in TABLES.items()}
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
        if name in EXPRESSIONS and label not in FEW:
            continue
        if label.startswith(FORMS) and not (name in hooks.COMPONENTS.names() and "gold.answers" in suite.needs):
            continue
        if not fits(suite, task):
            continue
        found[label] = _summary(suite, record)
    if suite.deferred or suite.group_transforms:
        found["as one group"] = _group(suite, {**SERVICES})
        found["as one group, services down"] = _group(suite, dict.fromkeys(SERVICES, _Down()))
        found["as one group, silent"] = _group(suite, {**SERVICES, "scorer": _Silent()})
        found["as one group, no numbers"] = _group(suite, {**SERVICES, "scorer": LexicalScorer(float("nan"))})
    declared = [[n, c.range, c.supply, c.is_outcome, c.reads_thought, c.failure_max, sorted(c.needs), sorted(c.tied.items())]
                for n, c in sorted(suite.components.items())]  # fmt: skip
    found["form"] = _hex([suite.is_causal, suite.is_scheduled, repr(suite.expression), declared])
    return found


class _Down:
    """A service that fails."""

    def score(self, *_: Any) -> Any:
        raise ServiceError("down")

    def judge(self, requests: Any) -> Any:
        return [abstention("service", "down") for _ in requests]


class _Silent:
    """A scorer that knows no token of what it is asked after the first."""

    def score(self, contexts: Any, prefix: str, targets: Any, suffix: str) -> Any:
        return [[-1.0] if n == 0 else [] for n, _ in enumerate(targets)]


def _group(suite: Suite, services: dict[str, Any]) -> JSON:
    """Return the totals of records that are siblings, in one digest each."""
    labels = [n for n, (_, task) in _records().items() if n.startswith(("thinks", "cites", "answer, p", "service")) and fits(suite, task)]
    members = [replace(suite.rescore(_records()[n][0]), group_id="g") for n in labels]
    done = suite.complete(members, **services)
    again = [suite.rescore(r) for r in done]
    return [[_number(r.total) for r in done], _hex([_number(m.total) for m in members]),
            _hex([[r.in_loss, r.in_statistics, r.success, r.error, sorted(r.scores)] for r in done]),
            _hex([[_number(r.total), r.success, r.error, [_number(t.reward) for t in r.turns]] for r in again])]  # fmt: skip


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
