"""One row of a public question file -> one Task, by the fields that the row has.

The original layouts of HotpotQA, 2WikiMultihopQA, MuSiQue, NQ-open and FlashRAG, and plain question-answer rows,
share fields or use different ones, so no row needs to say which it is. Gold that a row does not have stays empty:
`meta["gold_unit"]` says what `gold.doc_ids` names ("passage", "sentence", "title", "paragraph" or "none").
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from agentgym.errors import DataError, suggestion
from agentgym.jsonl import id_text, json_type
from agentgym.task import Answer, Entity, Gold, Task
from agentgym.types import JSON, Passage

ANSWER_FIELDS = ("answer", "answers", "golden_answers")
_PLAIN = ("level", "source", "answerable")
"""Fields that go to `meta` as they are."""
_SENTENCE_SOURCES = ("ecm_sentences",)
"""Values of "source" whose gold passages are single sentences."""
_CHAINS = ("compositional", "inference")
"""Types of 2Wiki questions whose evidences form one chain."""
_OPTIONAL = (
    *("aliases", "answer_aliases", "context", "decomposition", "evidences", "evidences_id", "gold_passages", "hops"),
    *("level", "metadata", "paragraphs", "question_decomposition", "source", "supporting_facts", "type"),
)
"""Fields that a row may lack, so that a misspelt one would pass without a word."""
_STEP = re.compile(r"#(\d+)")
_MUSIQUE_KIND = re.compile(r"(\dhop\d?)__")

Row = dict[str, JSON]


def row_task(row: Row, where: str, source: str) -> Task:
    """Return the Task of a row; `where` (file:line) starts every error.

    Raises:
        DataError: a needed field is missing, or a field has another type than allowed.
    """
    task_id = _id(row, where)
    row = _with_metadata(row)
    question = text_field(row, "question", where)
    answers = _answers(row, where)
    doc_ids, unit = _documents(row, where)
    steps = _list(row, "decomposition" if "decomposition" in row else "question_decomposition", dict, where)
    triples = _list(row, "evidences", list, where)
    if steps:
        entities, path, path_docs = _from_steps(steps, answers[0], row, where)
    else:
        entities, path = _from_triples(triples, answers[0], row, where)
        path_docs = _docs_of_heads(path, entities, doc_ids, _titles(row, where))
    kind = _optional_text(row, "type", where)
    named = _MUSIQUE_KIND.match(task_id)
    return Task(
        id=task_id,
        question=question,
        gold=Gold(answers=answers, entities=entities, doc_ids=doc_ids, path=path, path_doc_ids=path_docs),
        split="all",
        kind=kind or (named.group(1) if named else ""),
        hops=_hops(row, kind, len(steps), bool(triples or "supporting_facts" in row), where),
        source=source,
        meta={name: row[name] for name in _PLAIN if name in row} | {"gold_unit": unit},
    )


def row_passages(row: Row, where: str) -> Iterator[Passage]:
    """Yield the passages that a row brings along, under the ids that its task's `gold.doc_ids` use."""
    row = _with_metadata(row)
    for paragraph in _list(row, "paragraphs", dict, where):
        yield _paragraph(paragraph, where)
    context = row.get("context")
    if isinstance(context, dict):  # the columns of a table instead of rows
        context = list(zip(*(_list(context, name, object, where) for name in ("title", "sentences")), strict=False))
    for entry in context if isinstance(context, list) else ():
        match entry:
            case [str(title), [*sentences]] | (str(title), [*sentences]):
                yield Passage(title, title, " ".join(str(s).strip() for s in sentences))
            case _:
                raise DataError(
                    f"{where}: an entry of field 'context' must be [title, [sentences]], found {entry!r:.80}"
                )


def _with_metadata(row: Row) -> Row:
    """Return a row joined with the data set's own fields, which FlashRAG keeps under "metadata"."""
    return {**row["metadata"], **row} if isinstance(row.get("metadata"), dict) else row


def misspelt(row: Row) -> dict[str, str]:
    """Return the fields that look like an optional field which the row lacks, with the name they come near to."""
    found = {}
    for name in row.keys() - {*_OPTIONAL, *ANSWER_FIELDS, "id", "_id", "question"}:
        near = difflib.get_close_matches(name, _OPTIONAL, n=1, cutoff=0.85)
        if near and near[0] not in row:
            found[name] = near[0]
    return found


def text_field(row: Row, name: str, where: str) -> str:
    """Return a field that must be a string with something in it."""
    if name not in row:
        raise DataError(f"{where}: field {name!r} is missing{suggestion(name, row)}; found {', '.join(row) or 'none'}")
    return _text(row[name], f"field {name!r}", where)


def _text(value: JSON, what: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: {what} must be a string, found {json_type(value)}: {value!r:.60}")
    if not value.strip():
        raise DataError(f"{where}: {what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: {what} holds half of a surrogate pair (\\ud800-\\udfff)") from None
    return value


def _optional_text(row: Row, name: str, where: str) -> str:
    return text_field(row, name, where) if row.get(name) not in (None, "") else ""


def _texts(value: JSON, what: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise DataError(f"{where}: {what} must be a list of strings, found {json_type(value)}: {value!r:.60}")
    return tuple(_text(item, f"item {i} of {what}", where) for i, item in enumerate(value, start=1))


def _list(row: Row, name: str, kind: type, where: str) -> list[Any]:
    value = row.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        items = "objects" if kind is dict else "lists"
        raise DataError(f"{where}: field {name!r} must be a list of {items}, found {value!r:.80}")
    return value


def _id(row: Row, where: str) -> str:
    value = row.get("id", row.get("_id"))
    if value is None:
        canonical = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return _text(id_text(value), "field 'id'", where)


def _answers(row: Row, where: str) -> tuple[Answer, ...]:
    given = [name for name in ANSWER_FIELDS if name in row]
    if not given:
        near = suggestion("answer", row)
        raise DataError(
            f"{where}: no answer{near}; give one of {', '.join(ANSWER_FIELDS)}; found {', '.join(row) or 'none'}"
        )
    name, value = given[0], row[given[0]]
    aliases = tuple(
        alias
        for field in ("aliases", "answer_aliases")
        for alias in _texts(row.get(field) or [], f"field {field!r}", where)
    )
    if isinstance(value, str) and name == "answer":
        return (Answer(_text(value, "field 'answer'", where), aliases),)
    if name == "answer" and not isinstance(value, list):
        raise DataError(
            f"{where}: field 'answer' must be a string or a list of strings, found {json_type(value)}: {value!r:.60}"
        )
    texts = _texts(value, f"field {name!r}", where)
    if not texts:
        raise DataError(f"{where}: field {name!r} is an empty list; at least one answer is needed")
    return (Answer(texts[0], aliases), *map(Answer, texts[1:]))


def _documents(row: Row, where: str) -> tuple[tuple[str, ...], str]:
    """Return the gold documents and what they are."""
    if "gold_passages" in row:
        given = row["gold_passages"]
        given = [id_text(item) for item in given] if isinstance(given, list) else given
        ids = tuple(dict.fromkeys(_texts(given, "field 'gold_passages'", where)))
        unit = "sentence" if row.get("source") in _SENTENCE_SOURCES else "passage"
        return ids, unit if ids else "none"
    support = [p for p in _list(row, "paragraphs", dict, where) if p.get("is_supporting")]
    if support:
        return tuple(dict.fromkeys(_paragraph(p, where).id for p in support)), "paragraph"
    titles = _titles(row, where)
    return titles, "title" if titles else "none"


def _titles(row: Row, where: str) -> tuple[str, ...]:
    """Return the distinct titles of the supporting facts in their order."""
    facts = row.get("supporting_facts") or []
    if isinstance(facts, dict):
        facts = [[title] for title in _list(facts, "title", object, where)]
    if not isinstance(facts, list) or not all(isinstance(f, list) and f and isinstance(f[0], str) for f in facts):
        raise DataError(f"{where}: field 'supporting_facts' must be a list of [title, sentence], found {facts!r:.80}")
    return tuple(dict.fromkeys(fact[0] for fact in facts))


def _paragraph(paragraph: Row, where: str) -> Passage:
    """Return a MuSiQue paragraph; titles repeat there, so the text joins the id."""
    title = text_field(paragraph, "title", where)
    text = text_field(paragraph, "paragraph_text", where)
    return Passage(f"{title}#{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}", title, text)


def _hops(row: Row, kind: str, n_steps: int, multi: bool, where: str) -> int:
    hops = row.get("hops")
    if hops is not None:
        if not isinstance(hops, int) or isinstance(hops, bool) or hops < 0:
            raise DataError(f"{where}: field 'hops' must be a whole number from 0, found {hops!r:.40}")
        return hops
    return n_steps or (4 if kind == "bridge_comparison" else 2 if multi else 0)


def _from_triples(
    triples: Sequence[Sequence[JSON]], answer: Answer, row: Row, where: str
) -> tuple[tuple[Entity, ...], tuple[tuple[str, str, str], ...]]:
    """Entities and path of 2Wiki evidences. A name is its own id, unless the row has `evidences_id`.

    In a chain, a head that nobody named before is the last tail under another name ("Kanye West", "Kanye"): it is
    found at the same hop.
    """
    chain = row.get("type") in _CHAINS
    ids = row.get("evidences_id")
    if not (
        isinstance(ids, list) and len(ids) == len(triples) and all(isinstance(t, list) and len(t) == 3 for t in ids)
    ):
        ids = triples
    names: dict[str, str] = {}
    hops: dict[str, int] = {}
    path = []
    for triple, keys in zip(triples, ids, strict=True):
        if len(triple) != 3:
            raise DataError(
                f"{where}: an entry of field 'evidences' must be [head, relation, tail], found {triple!r:.80}"
            )
        head, relation, tail = _texts(list(triple), "field 'evidences'", where)
        h, t = str(keys[0]), str(keys[2])
        names.setdefault(h, head)
        names.setdefault(t, tail)
        hops.setdefault(h, hops[path[-1][2]] if chain and path else 0)
        hops.setdefault(t, hops[h] + 1)
        path.append((h, relation, t))
    return tuple(_entity(i, names[i], hops[i], answer) for i in names), tuple(path)


def _entity(entity_id: str, name: str, hop: int, answer: Answer) -> Entity:
    same = {a.casefold() for a in (answer.text, *answer.aliases)}
    if name.casefold() in same:
        return Entity(entity_id, name, tuple(a for a in (answer.text, *answer.aliases) if a != name), hop, "answer")
    return Entity(entity_id, name, (), hop, "bridge" if hop else "start")


def _docs_of_heads(
    path: Sequence[tuple[str, str, str]], entities: Sequence[Entity], doc_ids: Sequence[str], titles: Sequence[str]
) -> tuple[str, ...]:
    """Return per triple the gold passage titled like its head; "" where none is."""
    names = {e.id: e.name for e in entities}
    by_title: dict[str, str] = {}
    if len(titles) == len(doc_ids):
        for title, doc_id in zip(titles, doc_ids, strict=True):
            for form in (title, title.partition(" (")[0]):
                by_title.setdefault(form.casefold(), doc_id)
    return tuple(by_title.get(names[head].casefold(), "") for head, _, _ in path)


def _from_steps(
    steps: Sequence[Row], answer: Answer, row: Row, where: str
) -> tuple[tuple[Entity, ...], tuple[tuple[str, str, str], ...], tuple[str, ...]]:
    """Entities and path of a MuSiQue decomposition.

    Step n finds entity "#n"; its relation is the step's own text. Its head is the entity that the text refers to
    last, the subject of "subject >> relation", or "" where the text names nothing on its own.
    """
    entities: list[Entity] = []
    path, hops = [], {"": 0}
    for n, step in enumerate(steps, start=1):
        text, found = text_field(step, "question", where), text_field(step, "answer", where)
        subject, arrow, relation = (part.strip() for part in text.partition(">>"))
        refers = [f"#{i}" for i in _STEP.findall(text) if 0 < int(i) < n]
        if refers:
            head = refers[-1]
        else:
            head = subject if arrow else ""
            if head and head not in hops:
                entities.append(Entity(head, head, (), 0, "start"))
        hops.setdefault(head, 0)
        hops[f"#{n}"] = 1 + max((hops[h] for h in refers), default=0)
        last = n == len(steps)
        aliases = tuple(a for a in (answer.text, *answer.aliases) if a != found) if last else ()
        entities.append(Entity(f"#{n}", found, aliases, hops[f"#{n}"], "answer" if last else "bridge"))
        path.append((head, relation if arrow else text, f"#{n}"))
    paragraphs = _list(row, "paragraphs", dict, where)
    if paragraphs:
        by_index = {str(p.get("idx")): _paragraph(p, where).id for p in paragraphs}
        docs = [by_index.get(str(step.get("paragraph_support_idx")), "") for step in steps]
    else:  # gold passages stand in the order of the steps, repeats included
        docs = row.get("gold_passages") or []
        docs = docs if len(docs) == len(steps) else [""] * len(steps)
    return tuple(entities), tuple(path), tuple(docs)
