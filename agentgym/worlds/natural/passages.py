"""Pages of a natural world: each entity's own page with its facts, and distractor pages that state none."""

import numpy as np

from agentgym.types import Passage
from agentgym.worlds.natural.draw import Draw
from agentgym.worlds.natural.facts import Facts
from agentgym.worlds.natural.names import NAME_GROUP, Names
from agentgym.worlds.natural.page_words import (
    ALIASES,
    BEARERS,
    FILLERS,
    MADE,
    NOTES,
    OPENINGS,
    PAGE_WORDINGS,
    RUMOURS,
    SHORT,
    STATEMENTS,
    STRAY,
)
from agentgym.worlds.natural.schema import OF_TYPE, TYPES, YEAR

MIN_WORDS = 50
PAGES_PER_DISTRACTOR = 10
"""One distractor page for so many entities."""


class Pages:
    """Writes the passages of one world, each from its entity's index alone."""

    def __init__(self, names: Names, facts: Facts) -> None:
        self.names = names
        self.facts = facts
        self.n_distractors = sum(facts.counts.values()) // PAGES_PER_DISTRACTOR

    def page(self, kind: str, index: int) -> Passage:
        """Return the page of an entity: an opening, its facts and fillers in a drawn order, 50 to 100 words."""
        names, draw = self.names, Draw("page", self.names.seed, kind, index)
        job = names.profession(index) if kind == "p" else names.medium(index) if kind == "w" else ""
        alias = names.stated_alias(kind, index)
        said = draw.one(ALIASES.get(kind, ALIASES[""])).format(alias) if alias else ""
        opening = draw.one(OPENINGS[kind]).format(name=names.name(kind, index), alias=said, job=job, a=article(job))
        sentences = [
            self._fact_sentence(kind, index, r.name, r.tail, self.facts.tail(r.name, index), draw)
            for r in OF_TYPE[kind]
            if self.facts.tail(r.name, index) >= 0
        ]
        length = len(opening.split()) + sum(len(s.split()) for s in sentences)
        for filler in draw.some(FILLERS[kind], len(FILLERS[kind])):
            if length >= MIN_WORDS:
                break
            sentences.append(filler)
            length += len(filler.split())
        body = draw.some(sentences, len(sentences))
        return Passage(f"{kind}{index}", names.title(kind, index), " ".join([opening, *body]))

    def distractor(self, index: int) -> Passage:
        """Return a page that names entities without stating a fact of theirs: a rumour, a note or a surname's page."""
        draw = Draw("distractor", self.names.seed, index)
        title, text = (self._rumour, self._note, self._bearers)[draw.below(3)](index, draw)
        for stray in draw.some(STRAY, len(STRAY)):
            if len(text.split()) >= MIN_WORDS:
                break
            text += f" {stray}"
        return Passage(f"d{index}", title, text)

    def _fact_sentence(self, kind: str, index: int, relation: str, tail_kind: str, tail: int, draw: Draw) -> str:
        medium = self.names.medium(index) if kind == "w" else "novel"
        short = self.names.surname(index) if kind == "p" else SHORT[kind].format(job=medium)
        head = short if draw.below(2) else self.names.name(kind, index)
        made, maker = MADE[medium]
        said = str(tail) if tail_kind == YEAR else self.names.mention(tail_kind, tail)
        sentence = draw.one(PAGE_WORDINGS[relation]).format(h=head, t=said, made=made, maker=maker)
        return sentence[0].upper() + sentence[1:]

    def _any(self, kind: str, draw: Draw) -> int:
        return draw.below(self.facts.counts[kind])

    def _rumour(self, index: int, draw: Draw) -> tuple[str, str]:
        """Tell of a relation that does not hold, and say so."""
        kind = draw.one("rcopw")
        entity = self._any(kind, draw)
        relation = draw.one([r for r in OF_TYPE[kind] if r.tail != YEAR])
        wrong = self._any(relation.tail, draw)
        while (kind, entity) == (relation.tail, wrong) or self._linked(kind, entity, relation.tail, wrong):
            wrong = self._any(relation.tail, draw)
        head, tail = self.names.mention(kind, entity), self.names.mention(relation.tail, wrong)
        claim = STATEMENTS[relation.name].format(h=head, t=tail)
        return f"Rumour no. {index + 1}", draw.one(RUMOURS).format(claim=claim)

    def _linked(self, kind_a: str, a: int, kind_b: str, b: int) -> bool:
        return bool(self.facts.linked(kind_a, np.array([a]), kind_b, np.array([b]))[0])

    def _note(self, index: int, draw: Draw) -> tuple[str, str]:
        """Name three entities beside each other."""
        kinds = draw.some(list(TYPES), 3)
        a, b, c = (self.names.mention(kind, self._any(kind, draw)) for kind in kinds)
        text = draw.one(NOTES).format(a=a, b=b, c=c)
        return f"Note no. {index + 1}", text[0].upper() + text[1:]

    def _bearers(self, index: int, draw: Draw) -> tuple[str, str]:
        """List people who share a surname."""
        group = self._any("p", draw) // NAME_GROUP * NAME_GROUP
        first = group + (2 if draw.below(2) else 4)
        shared = [i for i in range(first, first + (2 if first == group + 2 else 3)) if i < self.facts.counts["p"]]
        if len(shared) < 2:
            return self._note(index, draw)
        surname = self.names.surname(shared[0])
        people = " and ".join(self.names.mention("p", i) for i in shared)
        return f"{surname} (surname)", BEARERS.format(name=surname, people=people)


def article(noun: str) -> str:
    """Return "a" or "an" for an English noun."""
    return "an" if noun[:1] in tuple("aeiou") else "a"
