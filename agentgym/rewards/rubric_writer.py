"""Writes checklists from gold: by rule from what the gold says, or by a model that is shown the gold.

The rules need no service and are exact: calls of the trace, statements about the state, facts to communicate,
minefields, documents to cite. A model phrases what rules cannot: it is given the question and the facts, and what it
writes is checked like any other checklist before it is used.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentgym import criterion as criteria_module
from agentgym import schema
from agentgym.criterion import Criterion
from agentgym.endpoint import Endpoint, read_chat
from agentgym.errors import AgentGymError, ConfigError
from agentgym.gold import Constraint
from agentgym.rewards.checklist import Checklist
from agentgym.task import Answer, Gold, Rubric, Task
from agentgym.types import JSON

MAX_CRITERIA = 12
_KEYS = ("id", "question", "condition", "focus", "fail_examples", "weight", "polarity")
_FORM = '{"criteria": [{"id": "…", "question": "…", "condition": "…", "focus": "reply", "weight": 1}]}'
_TASK = f"""Write a checklist for grading an assistant that solves the task below with tools. Each criterion is one \
statement that can be decided from one channel alone: calls (the tool calls), results (what tools returned), reply (what \
the user is told), answer (the final answer). It must be single-hop: about one fact, one call or one sentence. Never \
write conditions ("if …"): a criterion that may not arise is a free pass. At most {MAX_CRITERIA} criteria. Use only the \
facts given. Answer with one JSON object and nothing else, in this form: {_FORM}"""


def checklist_from_gold(task: Task, name: str = "") -> Checklist:
    """Return the checklist that a task's gold spells out, by rule.

    In this order: each call of the trace (after the calls that it comes after), each assertion about the state (after
    the last call), each fact to communicate (after everything before it), each document that states a fact of the
    path, as cited (where there is no trace), and each minefield. Nothing is critical.

    Raises:
        ConfigError: The gold has nothing to write a checklist of.
    """
    gold = task.gold
    rows: list[Criterion] = [_call(c) for c in gold.trace if not c.optional]
    required = {row.id for row in rows}
    rows = [replace(row, after=tuple(a for a in row.after if a in required)) for row in rows]
    calls = tuple(row.id for row in rows)
    for number, assertion in enumerate(gold.assertions, 1):
        if assertion.path:
            body: dict[str, Any] = {"state": assertion.path, "op": assertion.op, "value": assertion.value}
            rows.append(Criterion(f"state{number}", weight=assertion.weight or 1.0, **body))
    done = tuple(row.id for row in rows)
    rows += [_told(f"told{number}", fact, done) for number, fact in enumerate(gold.communicate, 1)]
    if not calls:
        rows += [Criterion(f"cited{number}", cited=id_) for number, id_ in enumerate(_path_documents(gold), 1)]
    for minefield in gold.minefields:
        if len(minefield.constraints) == 1:
            rows.append(_never(minefield.id, minefield.constraints[0]))
    if not any(not row.never for row in rows):
        raise ConfigError(
            f"task {task.id!r}: its gold has no trace, assertions, facts to communicate or path documents to write a"
            " checklist of; add one of them, or give a model the task (`write_checklist`)"
        )
    return Checklist(name or "written", rows, where=f"checklist of task {task.id!r}").check()


def rubrics_from_path(gold: Gold) -> tuple[Rubric, ...]:
    """Return one single-hop statement per triple of the path, with slots for what the question does not name.

    <E0> is the answer, <E1>, <E2>… the other entities with a hop above 0, as `Gold.rubrics` has them. For gold
    without sentences: relations are written out ("directed_by" is "directed by").
    """
    answers = [e for e in gold.entities if e.role == "answer"]
    hidden = [e for e in gold.entities if e.role != "answer" and e.hop > 0]
    slots = {e.id: f"<E{i}>" for i, e in enumerate([*answers[:1], *hidden], start=0 if answers else 1)}
    names = {e.id: e.name for e in gold.entities} | slots
    words = [(names.get(h, h), r.replace("_", " ").replace("/", " ").strip(), names.get(t, t)) for h, r, t in gold.path]
    return tuple(Rubric(f"r{i}", f"{head} {relation} {tail}") for i, (head, relation, tail) in enumerate(words, 1))


async def write_checklist(task: Task, endpoint: Endpoint, name: str = "") -> Checklist:
    """Return a checklist that a model wrote from a task's question and gold; rules are put before it.

    Raises:
        ServiceError: The endpoint gave no usable checklist in any attempt; the message says what was wrong.
    """
    messages = [{"role": "system", "content": _TASK}, {"role": "user", "content": _facts(task)}]
    body: dict[str, JSON] = {"model": endpoint.config.model, "messages": messages, "temperature": 0.0}

    def read(answer: JSON) -> list[Criterion]:
        return _written(read_chat(answer).text)

    written = await endpoint.post("/chat/completions", body, read, key=("rubrics", task.id))
    try:
        exact = list(checklist_from_gold(task).criteria)
    except ConfigError:
        exact = []
    taken = {c.id for c in exact}
    rows = exact + [c if c.id not in taken else replace(c, id=f"judged.{c.id}") for c in written]
    return Checklist(name or "written", rows, where=f"checklist of task {task.id!r}").check()


def _call(gold_call: Any) -> Criterion:
    return Criterion(
        gold_call.id, call=gold_call.name, args=gold_call.arguments, compare=gold_call.compare, after=gold_call.after
    )


def _told(id_: str, fact: Answer, after: Sequence[str]) -> Criterion:
    if fact.type == "number":
        try:
            return Criterion(id_, reply_number=float(fact.text.replace(",", "")), after=tuple(after))
        except ValueError:
            pass
    return Criterion(id_, reply=fact.text, after=tuple(after))


def _never(id_: str, constraint: Constraint) -> Criterion:
    if constraint.call:
        body: dict[str, Any] = {"call": constraint.call, "args": constraint.arguments, "compare": constraint.compare}
    else:
        body = {"state": constraint.path, "op": constraint.op, "value": constraint.value}
    return Criterion(id_, never=True, **body)


def _path_documents(gold: Gold) -> list[str]:
    return list(dict.fromkeys(gold.path_doc_ids or gold.doc_ids))


def _facts(task: Task) -> str:
    """Return what the model is told of a task: the question and the gold, without empty parts."""
    gold = schema.to_json(task.gold)
    kept = {
        k: v for k, v in gold.items() if k not in ("checklist", "regions", "actions", "crop_required", "final_state")
    }
    return f"Task: {task.question}\n\nFacts (JSON): {json.dumps(kept, ensure_ascii=False)}"


def _written(text: str) -> list[Criterion]:
    """Read a model's checklist. Raises ValueError, which the endpoint takes as a failed attempt."""
    body = text.rpartition("</think>")[2].strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        items = json.loads(body)["criteria"]
        if not isinstance(items, list) or not 0 < len(items) <= MAX_CRITERIA:
            raise ValueError(f"1 to {MAX_CRITERIA} criteria are needed")
        rows = []
        for item in items:
            stray = [key for key in item if key not in _KEYS]
            if stray:
                raise ValueError(f"unknown key {stray[0]!r}; allowed: {', '.join(_KEYS)}")
            if item.get("focus") in ("thought", "state"):
                raise ValueError(f"focus {item['focus']!r} is not for written criteria")
            rows.append(schema.from_json(Criterion, {**item, "kind": "judge"}, "criterion", error=ConfigError))
        criteria_module.check(rows, "the written checklist", ConfigError)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AgentGymError) as error:
        raise ValueError(f"no checklist: {type(error).__name__}: {error}") from None
    return rows
