"""Did the policy's thoughts pick up the entities on the way to the answer?"""

from collections.abc import Sequence
from typing import Any

from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.normalize import robust, robust_document
from agentgym.rewards.retrieval import says, shown_documents
from agentgym.task import Entity, Gold
from agentgym.types import Score

MAX_MENTIONS = 30
"""A thought that names more shown titles than this is a list, not a thought."""


def runs(entity: Entity) -> tuple[str, ...]:
    """Return the normal forms of an entity's names as " tokens ", to be found as a run of tokens."""
    forms = {robust(name) for name in (entity.name, *entity.aliases)} - {""}
    return tuple(f" {form} " for form in sorted(forms))


def on_the_way(gold: Gold) -> tuple[Entity, ...]:
    """Return the entities that have to be found before the answer; in a question of one hop, the answer's own."""
    found = [e for e in gold.entities if e.hop > 0]
    return tuple(e for e in found if e.role != "answer") or tuple(found)


class EntityMatch(Component):
    """γ = share of the gold entities on the way that a thought names after the policy has seen them.

    An entity counts in the thought of a turn if a document that an earlier turn showed, or the question, names it.
    A thought that names more than `max_mentions` shown titles is left out, and so is that of a turn that was no
    valid action. Names and aliases are compared as runs of tokens after `robust`.

    Pays for partial progress of wrong answers: `answer_em + OnlyIf(0, 0.3 * MaxNorm(entity_match))` is the paper's
    reward, with γ divided by the group's largest (a group transform, so it belongs to trajectory scope).

    Source: E-GRPO (entity-aware GRPO). Deviations: seen first, then named (the paper counts any thought, so a list
    of guesses pays); aliases; the entities are those between question and answer, not the answer, unless there are
    no others.
    """

    name = "entity_match"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.entities", "events.documents"})
    is_outcome = False
    reads_thought = True

    def __init__(self, max_mentions: int = MAX_MENTIONS) -> None:
        """Set how many shown titles a thought may name."""
        self.max_mentions = max_mentions

    def complaint(self, gold: Gold) -> str:
        """Refuse gold without an entity to find, and entities without a name."""
        wanted = on_the_way(gold)
        if not wanted:
            return "all its entities have hop 0 (named in the question); give the others the hop that finds them"
        for entity in wanted:
            if not runs(entity):
                return f"nothing is left of the name {entity.name!r} of entity {entity.id!r} after normalisation"
        return ""

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode; `evidence` names the entities that count."""
        wanted = {entity.id: runs(entity) for entity in on_the_way(view.gold)}
        names = {entity.id: entity.name for entity in view.gold.entities}
        question = robust_document(view.question)
        seen = {i for i, forms in wanted.items() if any(form in question for form in forms)}
        matched: dict[str, None] = {}
        titles: set[str] = set()
        for turn in view.turns:
            if turn.thought and not turn.error_code:
                thought = f" {robust(turn.thought)} "
                if sum(title in thought for title in titles) <= self.max_mentions:
                    matched |= dict.fromkeys(i for i in wanted if i in seen and _named(wanted[i], thought))
            for document in shown_documents(turn):
                titles.add(robust_document(document.title))
                seen |= {i for i, forms in wanted.items() if i not in seen and says(document, forms)}
        share = len(matched) / len(wanted)
        parts = {"matched": float(len(matched)), "seen": float(len(seen)), "entities": float(len(wanted))}
        reason = f"{len(matched)} of {len(wanted)} named after they were shown"
        return Score("trajectory", share, reason=reason, parts=parts, evidence=tuple(names[i] for i in matched))


def _named(forms: Sequence[str], text: str) -> bool:
    return any(form in text for form in forms)


entity_match = EntityMatch()
