"""The types and relations of a natural world."""

from dataclasses import dataclass

TYPES = {"k": "country", "r": "region", "c": "city", "o": "organisation", "p": "person", "w": "work"}
"""Entity types by the letter that starts their ids, in the order of the corpus."""
YEAR = "y"
"""The type letter of years, the only literals; the id of 1931 is "y1931"."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A functional relation: each head has one tail or none, and only the head's page states it."""

    name: str
    head: str
    tail: str


RELATIONS: tuple[Relation, ...] = (
    Relation("capital", "k", "c"),
    Relation("president", "k", "p"),
    Relation("independence", "k", YEAR),
    Relation("country", "r", "k"),
    Relation("governor", "r", "p"),
    Relation("region", "c", "r"),
    Relation("mayor", "c", "p"),
    Relation("twin_town", "c", "c"),
    Relation("chartered", "c", YEAR),
    Relation("founder", "o", "p"),
    Relation("seat", "o", "c"),
    Relation("founded", "o", YEAR),
    Relation("birthplace", "p", "c"),
    Relation("birth_year", "p", YEAR),
    Relation("mentor", "p", "p"),
    Relation("employer", "p", "o"),
    Relation("spouse", "p", "p"),
    Relation("author", "w", "p"),
    Relation("publisher", "w", "o"),
    Relation("setting", "w", "c"),
    Relation("based_on", "w", "w"),
    Relation("year", "w", YEAR),
)
"""spouse and twin_town hold both ways in life; a world states them on one of the two pages, as a fact of that head."""
BY_NAME = {r.name: r for r in RELATIONS}
OF_TYPE = {t: tuple(r for r in RELATIONS if r.head == t) for t in TYPES}
KEY_YEAR = {"k": "independence", "c": "chartered", "o": "founded", "p": "birth_year"}
"""The year by which two entities of a type are compared."""
SHARES = {"k": (0.02, 15), "r": (0.04, 15), "c": (0.16, 18), "o": (0.12, 15)}
"""Per type its share of a world and its least number; people and works share the rest, 3 to 2."""


def counts(entities: int) -> dict[str, int]:
    """Return the number of entities of each type; they add up to `entities`."""
    sizes = {t: max(least, int(share * entities)) for t, (share, least) in SHARES.items()}
    rest = entities - sum(sizes.values())
    sizes["w"] = rest * 2 // 5
    sizes["p"] = rest - sizes["w"]
    return {t: sizes[t] for t in TYPES}
