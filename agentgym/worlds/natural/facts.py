"""The facts of a natural world as one compact array per relation, and the split of each entity.

Memory: 4 bytes per entity and relation that it heads, about 18 bytes per entity; years and lifetimes fit together
(teachers are older, publishers exist), without telling more than that.
"""

from functools import cached_property

import numpy as np

from agentgym.seeding import key_int, stream
from agentgym.worlds.natural.schema import BY_NAME, RELATIONS, TYPES, counts

SHARE_DEV, SHARE_TEST = 0.15, 0.15
MIN_AUTHORS = 15
BETWEEN = {(r.head, r.tail): [s.name for s in RELATIONS if (s.head, s.tail) == (r.head, r.tail)] for r in RELATIONS}
"""Relation names by the types of head and tail."""
Indices = np.ndarray


class Facts:
    """All facts of one world. Entities are (type letter, index)."""

    def __init__(self, seed: int, entities: int) -> None:
        """Draw the facts of a world; the time is linear in `entities`, up to sorting."""
        self.seed = seed
        self.counts = counts(entities)
        starts = np.cumsum([0, *self.counts.values()])
        self.offsets = {t: int(s) for t, s in zip(TYPES, starts, strict=False)}
        self.tails: dict[str, Indices] = {}
        """Per relation [number of heads] int32: index of the tail or the year; -1 for none."""
        self._draw_years()
        self._draw_places()
        self._draw_people()
        self._draw_works()
        self._reverse: dict[str, tuple[Indices, Indices]] = {}

    def tail(self, relation: str, index: int) -> int:
        """Return the index of a tail (or its year), -1 where the head has none."""
        return int(self.tails[relation][index])

    def heads(self, relation: str, tail: int) -> list[int]:
        """Return the heads that a relation leads to this tail, ascending."""
        order, values = self.reverse(relation)
        low, high = np.searchsorted(values, [tail, tail + 1])
        return order[low:high].tolist()

    def reverse(self, relation: str) -> tuple[Indices, Indices]:
        """Return (heads sorted by tail, those tails), int32 each; built at first use."""
        if relation not in self._reverse:
            tails = self.tails[relation]
            order = np.argsort(tails, kind="stable").astype(np.int32)
            self._reverse[relation] = order, tails[order]
        return self._reverse[relation]

    @cached_property
    def split(self) -> dict[str, Indices]:
        """Per type [n] int8: 0 train, 1 dev, 2 test, by a hash of the entity."""
        unit = self.hash("split") / 2.0**64
        codes = ((unit < SHARE_DEV + SHARE_TEST).astype(np.int8) + (unit < SHARE_TEST)).astype(np.int8)
        return self._by_type(codes)

    def hash(self, purpose: str) -> Indices:
        """Return 64 well-mixed bits per entity: [entities] uint64, in the order of the types."""
        x = np.arange(sum(self.counts.values()), dtype=np.uint64)
        x = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key_int("entity-hash", self.seed, purpose))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        return x ^ (x >> np.uint64(31))

    def hash_of(self, kind: str, purpose: str) -> Indices:
        """Return the part of `hash` that belongs to one type."""
        return self._by_type(self.hash(purpose))[kind]

    def linked(self, kind_a: str, a: Indices, kind_b: str, b: Indices) -> Indices:
        """Return where any fact joins a[i] and b[i], in either direction: [n] bool."""
        found = np.zeros(len(a), dtype=bool)
        for name in BETWEEN.get((kind_a, kind_b), ()):
            found |= self.tails[name][a] == b
        for name in BETWEEN.get((kind_b, kind_a), ()):
            found |= self.tails[name][b] == a
        return found

    def _by_type(self, values: Indices) -> dict[str, Indices]:
        return {t: values[self.offsets[t] : self.offsets[t] + n] for t, n in self.counts.items()}

    def _rng(self, name: str) -> np.random.Generator:
        return stream("natural-facts", self.seed, name)

    def _draw_years(self) -> None:
        for name, low, high in (
            ("independence", 1500, 1990),
            ("chartered", 900, 1690),
            ("founded", 1650, 1990),
            ("birth_year", 1700, 1935),
        ):
            heads = self.counts[BY_NAME[name].head]
            self.tails[name] = self._rng(name).integers(low, high + 1, heads, dtype=np.int32)

    def _draw_places(self) -> None:
        for name in ("country", "region", "birthplace", "setting", "seat", "mayor", "governor", "president"):
            self.tails[name] = self._evenly(name)
        self.tails["capital"] = self._capitals()
        self.tails["twin_town"] = self._pairs("twin_town", self._rng("twin_town").permutation(self.counts["c"]), 0.6)

    def _draw_people(self) -> None:
        birth, founded = self.tails["birth_year"], self.tails["founded"]
        self.tails["mentor"] = self._between("mentor", birth, birth - 60, birth - 18)
        self.tails["employer"] = self._between("employer", founded, birth - 70, birth + 55)
        self.tails["founder"] = self._between("founder", birth, founded - 65, founded - 22)
        near = birth + self._rng("spouse-order").integers(0, 30, len(birth))
        self.tails["spouse"] = self._pairs("spouse", np.argsort(near, kind="stable"), 0.7)

    def _draw_works(self) -> None:
        rng = self._rng("author")
        n_works, n_people = self.counts["w"], self.counts["p"]
        authors = rng.permutation(n_people)[: max(MIN_AUTHORS, n_works * 2 // 5)]
        self.tails["author"] = rng.permutation(np.resize(authors, n_works)).astype(np.int32)
        birth, founded = self.tails["birth_year"], self.tails["founded"]
        year = (birth[self.tails["author"]] + rng.integers(22, 75, n_works)).astype(np.int32)
        self.tails["year"] = year
        self.tails["publisher"] = self._between("publisher", founded, year - 150, year)
        earlier = self._between("based_on", year, year - 90, year - 2)
        self.tails["based_on"] = np.where(rng.random(n_works) < 0.4, earlier, np.int32(-1)).astype(np.int32)

    def _evenly(self, name: str) -> Indices:
        """Give every possible tail the same number of heads, give or take one."""
        relation, rng = BY_NAME[name], self._rng(name)
        tails = rng.permutation(self.counts[relation.tail])
        return rng.permutation(np.resize(tails, self.counts[relation.head])).astype(np.int32)

    def _between(self, name: str, years: Indices, low: Indices, high: Indices) -> Indices:
        """Draw for each head a tail whose year lies in [low, high]; -1 where there is none."""
        order = np.argsort(years, kind="stable")
        first = np.searchsorted(years[order], low, side="left")
        last = np.searchsorted(years[order], high, side="right")
        place = first + (self._rng(name).random(len(low)) * (last - first)).astype(np.int64)
        return np.where(last > first, order[np.minimum(place, len(order) - 1)], -1).astype(np.int32)

    def _pairs(self, name: str, order: Indices, share: float) -> Indices:
        """Join neighbours of `order` to pairs; the page of one of the two, drawn, states it."""
        rng = self._rng(f"{name}-pairs")
        pairs = order[: len(order) // 2 * 2].reshape(-1, 2)
        pairs = rng.permuted(pairs[rng.random(len(pairs)) < share], axis=1)
        tails = np.full(len(order), -1, dtype=np.int32)
        tails[pairs[:, 0]] = pairs[:, 1]
        return tails

    def _capitals(self) -> Indices:
        """Draw a city inside each country."""
        country_of_city = self.tails["country"][self.tails["region"]]
        order = self._rng("capital").permutation(len(country_of_city))
        capitals = np.full(self.counts["k"], -1, dtype=np.int32)
        capitals[country_of_city[order]] = order
        return capitals
