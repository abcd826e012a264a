"""Do the citations of the answer hold? Only passages count that the answer cites and a tool has shown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from agentgym.rewards.answers import YES_NO, gold_texts, robust_em
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.normalize import robust, robust_document
from agentgym.rewards.retrieval import shown_documents
from agentgym.task import Entity, Gold, Rubric
from agentgym.types import Score
from agentgym.worlds.gold import rubric_slots

MAX_CITED = 20
"""Citations that are read; further ones support nothing."""
_SLOT = re.compile(r"<(E\d{1,4})>")


def shown_texts(view: EpisodeView) -> dict[str, str]:
    """Return title and all shown text of every document that a tool showed, by id."""
    texts: dict[str, list[str]] = {}
    for turn in view.turns:
        for document in shown_documents(turn):
            lines = texts.setdefault(document.id, [document.title])
            if document.text not in lines:
                lines.append(document.text)
    return {i: "\n".join(lines) for i, lines in texts.items()}


def cited_texts(view: EpisodeView) -> dict[str, str]:
    """Return the shown text of the cited documents, by id: the first `MAX_CITED` citations, cited ∩ shown."""
    shown = shown_texts(view)
    return {i: shown[i] for i in list(dict.fromkeys(view.citations))[:MAX_CITED] if i in shown}


def reached(slots: Sequence[frozenset[str]], supported: Sequence[bool]) -> list[bool]:
    """Return which statements are supported and connected to the answer.

    Args:
        slots: the slots of each statement, e.g. {"E0", "E2"}.
        supported: which statements hold.

    From E0 every supported statement that shares a slot with a reached one is reached, breadth first.
    """
    found, border = [False] * len(slots), {"E0"}
    while border:
        new = [i for i, names in enumerate(slots) if supported[i] and not found[i] and names & border]
        for i in new:
            found[i] = True
        border = set().union(*(slots[i] for i in new)) - border
    return found


class CitationPrecision(Component):
    """Supporting cited documents / cited documents; 0 if none is cited.

    A citation supports if the task's gold names the document and a tool has shown it. An id that was never shown
    stays in the denominator.
    """

    name = "citation_precision"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.doc_ids", "events.documents", "events.citations"})
    is_outcome = False

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        return Score("trajectory", *precision(view))


def precision(view: EpisodeView) -> tuple[float, float, float, bool, bool, str]:
    """Return the positional fields of a Score up to its reason: raw, weight, value, valid, deferred, reason."""
    cited = set(view.citations)
    supporting = cited.intersection(view.gold.doc_ids).intersection(shown_texts(view))
    raw = len(supporting) / len(cited) if cited else 0.0
    return raw, 1.0, 0.0, True, False, f"{len(supporting)} of {len(cited)} support"


@dataclass(frozen=True, slots=True)
class Statement:
    """A rubric, read."""

    id: str
    text: str
    """With the gold names in the slots."""
    slots: frozenset[str]
    names: tuple[tuple[str, ...], ...]
    """For each entity in it the normal forms of its names as " tokens "."""
    doc_ids: frozenset[str]
    """The passages that state it, where the gold says so: those of the nugget that says the same."""
    weight: float


def statements(gold: Gold) -> list[Statement]:
    """Return the rubrics with the gold entities in their slots.

    <E3> is the entity with id "E3" if there is one, else as `worlds.gold.rubric_slots` says. Entities that a
    rubric names without a slot are found by name.

    Raises:
        LookupError: a slot stands for nothing.
    """
    by_slot = rubric_slots(gold) | {e.id: e for e in gold.entities if _SLOT.fullmatch(f"<{e.id}>")}
    if "E0" not in by_slot and gold.answers:
        first = gold.answers[0]
        by_slot["E0"] = Entity("E0", first.text, first.aliases, role="answer")
    said = {robust(nugget.text): frozenset(nugget.doc_ids) for nugget in gold.nuggets}
    return [_statement(rubric, gold, by_slot, said) for rubric in gold.rubrics]


def _statement(
    rubric: Rubric, gold: Gold, by_slot: Mapping[str, Entity], said: Mapping[str, frozenset[str]]
) -> Statement:
    slots = frozenset(_SLOT.findall(rubric.text))
    if missing := sorted(slots - set(by_slot)):
        raise LookupError(f"rubric {rubric.id!r} uses <{missing[0]}>, which no entity stands for")
    text = _SLOT.sub(lambda match: by_slot[match[1]].name, rubric.text)
    plain = robust_document(_SLOT.sub(" | ", rubric.text))
    named = [e for e in gold.entities if any(form in plain for form in _forms(e, gold))]
    entities = {e.id: e for e in [*(by_slot[slot] for slot in sorted(slots)), *named]}
    names = tuple(forms for e in entities.values() if (forms := _forms(e, gold)))
    return Statement(rubric.id, text, slots, names, said.get(robust(text), frozenset()), rubric.weight)


def _forms(entity: Entity, gold: Gold) -> tuple[str, ...]:
    """Return the forms to look for; none for yes and no, which no document names."""
    names = [entity.name, *entity.aliases, *(gold_texts(gold) if entity.role == "answer" else ())]
    forms = {robust(name) for name in names} - {""}
    return () if forms & YES_NO else tuple(f" {form} " for form in sorted(forms))


def rubric_complaint(gold: Gold) -> str:
    """Return why rubrics cannot be scored: a slot without entity, none that leads to <E0>, no positive weight."""
    try:
        read = statements(gold)
    except LookupError as error:
        return str(error.args[0])
    if not any("E0" in statement.slots for statement in read):
        return "no rubric holds <E0>, so none is connected to the answer"
    if any(statement.weight < 0 for statement in read) or not sum(statement.weight for statement in read):
        return "the weights of its rubrics must not be negative, and not all 0"
    return ""


class CitationRubric(Component):
    """Weight of the rubrics that the cited evidence supports and connects to the answer / weight of all rubrics.

    From E0, breadth first over supported rubrics that share a slot (`reached`). Nothing is reached unless the answer
    is a gold one (equal after `robust`: "X or Y" fills no slot). A rubric is supported if the documents that the
    answer cites and a tool has shown say so:

    - all documents that the gold gives for it (those of the nugget that says the same) are cited, and together
      they name all its entities in the text that was shown;
    - a rubric without documents of its own: the cited gold documents together name all its entities;
    - a task without gold documents: one cited document names all its entities.

    With `times_precision` the score is multiplied by citation_precision, so that citing everything costs.

    Source: CaRR / C-GRPO (citation-aware rubric rewards). Deviations: entities and support are read from gold names
    and documents, without a judge (`citation_rubric_judged` asks one for the support); an identity counts when the
    shown text of a cited document names it; rubrics may have weights.
    """

    name = "citation_rubric"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.rubrics", "gold.answers", "events.documents", "events.citations"})
    is_outcome = False
    tied: ClassVar = {"answer_em": ((0.0, 0.0), (0.0, 1.0))}

    def __init__(self, times_precision: bool = False) -> None:
        """Say whether unsupported citations lower the score."""
        self.times_precision = times_precision
        if times_precision:
            self.needs = self.needs | {"gold.doc_ids"}

    def complaint(self, gold: Gold) -> str:
        """Refuse rubrics that nothing could satisfy."""
        return rubric_complaint(gold)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode; `parts` say which rubrics are supported and reached."""
        if reason := unscored(view):
            return Score("trajectory", 0.0, reason=reason)
        read, cited = statements(view.gold), cited_texts(view)
        supported = [_supported(statement, cited, view.gold) for statement in read]
        return chain_score(read, supported, precision(view)[0] if self.times_precision else 1.0)


def unscored(view: EpisodeView) -> str:
    """Return why an episode has no evidence chain, from the policy's side; empty if it may have one."""
    if view.answer is None:
        return "no_answer"
    if robust_em(view.answer, gold_texts(view.gold)) != 1.0:
        return "E0 not identified"
    return "" if cited_texts(view) else "nothing shown is cited"


def chain_score(read: Sequence[Statement], supported: Sequence[bool], factor: float = 1.0) -> Score:
    """Return the score of supported statements: the weight of the reached ones, as a share, times `factor`."""
    found = reached([statement.slots for statement in read], supported)
    parts = {f"supported.{s.id}": float(yes) for s, yes in zip(read, supported, strict=True)}
    parts |= {f"reached.{s.id}": float(yes) for s, yes in zip(read, found, strict=True)}
    raw = sum(s.weight for s, yes in zip(read, found, strict=True) if yes) / sum(s.weight for s in read)
    reason = f"{sum(supported)} of {len(read)} supported, {sum(found)} connected"
    return Score("trajectory", raw * factor, reason=reason, parts=parts, evidence=tuple(s.text for s in read))


def _supported(statement: Statement, cited: Mapping[str, str], gold: Gold) -> bool:
    if statement.doc_ids:
        return statement.doc_ids <= cited.keys() and _name_all(statement, [cited[i] for i in statement.doc_ids])
    if gold.doc_ids:
        return _name_all(statement, [text for i, text in cited.items() if i in gold.doc_ids])
    return any(_name_all(statement, [text]) for text in cited.values())


def _name_all(statement: Statement, texts: Sequence[str]) -> bool:
    documents = [robust_document(text) for text in texts]
    return bool(documents) and all(any(f in d for f in forms for d in documents) for forms in statement.names)


citation_precision = CitationPrecision()
citation_rubric = CitationRubric()
