"""From a path of facts to everything a reward may read, and back to the searches that find it."""

from collections.abc import Mapping, Sequence

from agentgym.task import Answer, Entity, Gold, Nugget, Rubric, Task
from agentgym.worlds.world import Fact


def rubric_slots(gold: Gold) -> dict[str, Entity]:
    """Return which entity each slot of the rubrics stands for.

    <E0> is the entity with role "answer"; <E1>, <E2>… are the other entities that the question does not
    name (hop above 0), in the order of `gold.entities`. Entities that the question names stand in the
    rubrics by their names.
    """
    hidden = [e for e in gold.entities if e.role != "answer" and e.hop > 0]
    answers = [e for e in gold.entities if e.role == "answer"]
    return {f"E{i}": e for i, e in enumerate([*answers[:1], *hidden], start=0 if answers else 1)}


def build_gold(
    entities: Sequence[Entity],
    path: Sequence[Fact],
    statements: Mapping[str, str],
    *,
    literals: Mapping[str, str] | None = None,
    links: Sequence[tuple[str, str, str]] = (),
) -> Gold:
    """Return the gold of a question.

    Args:
        entities: all entities of the question, one of them with role "answer".
        path: the facts in the order in which they are needed.
        statements: per relation a sentence without full stop, with {h} and {t} for head and tail.
        literals: names of tails that are no entity of the question, e.g. the years that a comparison reads.
        links: further rubrics (head id, sentence, tail id), e.g. that one item is older than the other.
    """
    answer = next(e for e in entities if e.role == "answer")
    names = dict(literals or {}) | {e.id: e.name for e in entities}
    plain = Gold(entities=tuple(entities))
    slots = names | {e.id: f"<{slot}>" for slot, e in rubric_slots(plain).items()}
    doc_ids = tuple(f.doc_id for f in path)
    facts = [(f.head, statements[f.relation], f.tail) for f in path] + list(links)
    rubrics = [sentence.format(h=slots[h], t=slots[t]) for h, sentence, t in facts]
    nuggets = [statements[f.relation].format(h=names[f.head], t=names[f.tail]) + "." for f in path]
    return Gold(
        answers=(Answer(answer.name, answer.aliases),),
        entities=tuple(entities),
        doc_ids=tuple(dict.fromkeys(doc_ids)),
        path=tuple((f.head, f.relation, f.tail) for f in path),
        path_doc_ids=doc_ids,
        rubrics=tuple(Rubric(f"r{i}", text) for i, text in enumerate(rubrics, start=1)),
        nuggets=tuple(
            Nugget(f"n{i}", text, (f.doc_id,)) for i, (f, text) in enumerate(zip(path, nuggets, strict=True), 1)
        ),
    )


def oracle_queries(task: Task) -> list[str]:
    """Return one search per gold passage, in the order of `gold.doc_ids`, built from the task's gold.

    A query holds only what a reader knows at that point: the names in the question as they stand there, and
    the entities that earlier passages gave. A passage whose own entity is not known yet (the work that has
    this author and that publisher) is searched by what it names.
    """
    by_id = {e.id: e for e in task.gold.entities}
    known = {e.id for e in task.gold.entities if e.hop == 0}
    steps = list(zip(task.gold.path, task.gold.path_doc_ids, strict=True))
    queries = []
    for doc_id in task.gold.doc_ids:
        here = [triple for triple, doc in steps if doc == doc_id]
        heads = dict.fromkeys(h for h, _, _ in here)
        if not all(h in known for h in heads):
            heads = dict.fromkeys(t for _, _, t in here if t in known)
        queries.append(" ".join(_search_name(by_id[e], task.question) for e in heads))
        known.update(e for h, _, t in here for e in (h, t))
    return queries


def _search_name(entity: Entity, question: str) -> str:
    """Return how a reader would search for an entity: as the question calls it, else by its fullest name."""
    if entity.hop == 0:
        said = [n for n in (entity.name, *entity.aliases) if n in question]
        return max(said, key=len, default=entity.name)
    titled = [a for a in entity.aliases if a.startswith(f"{entity.name} (")]
    return titled[0].replace("(", "").replace(")", "") if titled else entity.name
