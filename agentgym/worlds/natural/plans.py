"""Which questions a natural world can ask: compact plans, found with array operations over all facts.

A plan is a row of five numbers: family, template, and three entity indices. Every rule that a question must keep is
applied here: all tails exist, no entity comes twice, start entities and an entity answer share the split, no fact
joins two entities of the path that are not neighbours, and a joined item is the only one.
"""

import numpy as np

from agentgym.seeding import stream
from agentgym.worlds.natural.facts import Facts
from agentgym.worlds.natural.names import NAME_GROUP
from agentgym.worlds.natural.question_words import JOINS
from agentgym.worlds.natural.schema import BY_NAME, KEY_YEAR, TYPES, YEAR
from agentgym.worlds.natural.templates import (
    CHAIN,
    COMPARISON,
    INTERSECTION,
    MAX_HOPS,
    Compare,
    asked_relation,
    chain_templates,
    chains,
    compares,
    describing,
    joins,
)

TRIES = 12
"""Chain templates that each start entity tries per number of hops; the first that works is kept."""
YEAR_SHARE = 4
"""Of the chains that end in a year, a start entity considers one in so many (years are always valid answers)."""
ROUNDS = 2
"""How often a start entity is tried for a comparison."""
JOIN_ROUNDS = 1
"""How often an item is tried for an intersection."""
HELD_OUT_TRIES, HELD_OUT_YEAR_SHARE, HELD_OUT_ROUNDS, HELD_OUT_JOIN_ROUNDS = 48, 12, 8, 2
"""The same for dev and test, where an entity answer shares the split only one time in seven."""
SMALL = 400
"""Smaller worlds are gone through several times, for questions enough to balance their answers."""
MAX_SHARE = 0.07
"""No answer is right for more than this share of the questions that ask for the same relation."""
Column = tuple[str, np.ndarray]
"""Entities of one type: its letter and their indices [n]."""


def find_plans(facts: Facts) -> dict[int, np.ndarray]:
    """Return the plans of each split: {0, 1, 2} -> [n, 5] int32 (family, template, a, b, c), shuffled.

    chain: a is the start. intersection: a is the item, b and c the start entities that describe its tails.
    comparison: a and b are the start entities, the winner's first.
    """
    passes = -(-SMALL // sum(facts.counts.values()))
    makers = (_chain_plans, _join_plans, _compare_plans)
    found = [rows for turn in range(passes) for make in makers for rows in make(facts, turn)]
    rows = np.unique(np.concatenate(found), axis=0)
    rows = rows[stream("plan-order", facts.seed).permutation(len(rows))]
    rows = rows[_without_favourites(rows[:, 1:3], rows[:, -1])]
    return {split: rows[rows[:, 0] == split, 1:-1] for split in range(3)}


def _without_favourites(templates: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Drop questions so that no answer is the right one for more than a small share of those that ask the same.

    Without this, a small world would favour whoever often wins comparisons. Returns [n] bool; the first are kept.
    """
    sizes = len(chain_templates()), len(joins()), len(compares())
    names = [asked_relation(family, number) for family in range(len(sizes)) for number in range(sizes[family])]
    offsets = np.cumsum([0, *sizes[:-1]])
    asked = np.unique(names, return_inverse=True)[1].astype(np.int8)[offsets[templates[:, 0]] + templates[:, 1]]
    keep = np.zeros(len(answers), dtype=bool)
    for relation in np.unique(asked):
        mine = np.flatnonzero(asked == relation)
        _, which, counts = np.unique(answers[mine], return_inverse=True, return_counts=True)
        cap = next((c for c in range(counts.max(), 1, -1) if c <= MAX_SHARE * np.minimum(counts, c).sum()), 1)
        order = np.argsort(which, kind="stable")
        rank = np.empty(len(mine), dtype=np.int64)
        rank[order] = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
        keep[mine[rank < cap]] = True
    return keep


def _chain_plans(facts: Facts, turn: int) -> list[np.ndarray]:
    """Give each entity at most one chain of each length: the first valid of a few templates."""
    found = []
    number = {template: i for i, template in enumerate(chain_templates())}
    for kind in TYPES:
        offset = (facts.hash_of(kind, f"chain-turn-{turn}") >> np.uint64(33)).astype(np.int64)
        held_out = facts.split[kind] > 0
        year_turn = (facts.hash_of(kind, "chain-years") >> np.uint64(33)).astype(np.int64)
        year_share = np.where(held_out, HELD_OUT_YEAR_SHARE, YEAR_SHARE)
        for hops in range(1, MAX_HOPS + 1):
            templates = chains(kind, hops)
            best = np.where(held_out, HELD_OUT_TRIES, TRIES)
            chosen, answers = np.full((2, facts.counts[kind]), -1, dtype=np.int32)
            for place, template in enumerate(templates):
                wait = (place + offset) % len(templates)
                tried = wait < best
                if BY_NAME[template[-1]].tail == YEAR:
                    tried &= (year_turn + place) % year_share == 0
                starts, ends = _valid_chain(facts, kind, template, np.flatnonzero(tried))
                best[starts], chosen[starts], answers[starts] = wait[starts], number[template], ends
            starts = np.flatnonzero(chosen >= 0)
            found.append(_rows(facts.split[kind][starts], CHAIN, chosen[starts], answers[starts], starts))
    return found


def _valid_chain(
    facts: Facts, kind: str, template: tuple[str, ...], starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts that the chain leads from, by the rules of this module, and where it leads."""
    path = _follow(facts, (kind, starts), template)
    valid = _same_split(facts, path[-1], facts.split[kind][starts])
    for _, entities in path:
        valid &= entities >= 0
    path = [(k, entities[valid]) for k, entities in path]
    neighbours = {(i, i + 1) for i in range(len(template))}
    good = _apart(facts, path, neighbours)
    return path[0][1][good], path[-1][1][good]


def _follow(facts: Facts, start: Column, template: tuple[str, ...]) -> list[Column]:
    """Return the start and what each relation leads to; -1 from where one does not."""
    path = [start]
    for name in template:
        heads = path[-1][1]
        path.append((BY_NAME[name].tail, np.where(heads >= 0, facts.tails[name][heads], -1)))
    return path


def _apart(facts: Facts, entities: list[Column], neighbours: set[tuple[int, int]]) -> np.ndarray:
    """No entity twice, and no fact between entities that are not neighbours in the question: [n] bool."""
    good = np.ones(len(entities[0][1]), dtype=bool)
    for j, (kind_b, b) in enumerate(entities):
        for i, (kind_a, a) in enumerate(entities[:j] if kind_b != YEAR and len(b) else ()):
            if kind_a == kind_b:
                # People of one group may share their surname or all of their name.
                good &= a // NAME_GROUP != b // NAME_GROUP if kind_a == "p" else a != b
            if (i, j) not in neighbours:
                good &= ~facts.linked(kind_a, a, kind_b, b)
    return good


def _same_split(facts: Facts, answers: Column, splits: np.ndarray | int) -> np.ndarray:
    kind, entities = answers
    return np.ones(len(entities), dtype=bool) if kind == YEAR else facts.split[kind][entities] == splits


def _rows(
    splits: np.ndarray | int, family: int, template: np.ndarray | int, answers: np.ndarray, *entities: np.ndarray
) -> np.ndarray:
    """Return [n, 7] int32: split, family, template, up to three entities, answer."""
    rows = np.zeros((len(answers), 7), dtype=np.int32)
    for column, values in enumerate((splits, family, template, *entities)):
        rows[:, column] = values
    rows[:, -1] = answers
    return rows


class _Describer:
    """Draws, for an entity and a split, a head of that split and a relation that leads from it to the entity."""

    def __init__(self, facts: Facts, rng: np.random.Generator) -> None:
        self.facts = facts
        self.rng = rng
        self._sorted: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def draw(self, kind: str, tails: np.ndarray, split: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (places in `describing(kind)`, heads) for each tail, heads -1 where nothing of the split leads there."""
        heads = np.stack([self._heads(relation, tails, split) for relation in describing(kind)])
        place = np.argmax(self.rng.random(heads.shape) * (heads >= 0), axis=0)
        return place, heads[place, np.arange(len(tails))]

    def _heads(self, relation: str, tails: np.ndarray, split: int) -> np.ndarray:
        if relation not in self._sorted:
            keys = self.facts.tails[relation].astype(np.int64) * 3 + self.facts.split[BY_NAME[relation].head]
            order = np.argsort(keys, kind="stable")
            self._sorted[relation] = order, keys[order]
        order, keys = self._sorted[relation]
        wanted = tails.astype(np.int64) * 3 + split
        low, high = np.searchsorted(keys, wanted, side="left"), np.searchsorted(keys, wanted, side="right")
        place = low + (self.rng.random(len(tails)) * (high - low)).astype(np.int64)
        return np.where(high > low, order[np.minimum(place, len(order) - 1)], -1)


def _join_plans(facts: Facts, turn: int) -> list[np.ndarray]:
    """Give each entity that is the only one with two of its tails a few intersection questions."""
    found = []
    describer = _Describer(facts, stream("join-plans", facts.seed, turn))
    for first, second in JOINS:
        items = _only_ones(facts, first, second)
        numbers = [i for i, j in enumerate(joins()) if (j.first, j.second) == (first, second)]
        kinds = BY_NAME[first].tail, BY_NAME[second].tail
        shape = len(describing(kinds[0])), len(describing(kinds[1])), -1
        grid = np.array(numbers).reshape(shape)
        for split in range(3):
            for _ in range(HELD_OUT_JOIN_ROUNDS if split else JOIN_ROUNDS):
                a_by, a = describer.draw(kinds[0], facts.tails[first][items], split)
                b_by, b = describer.draw(kinds[1], facts.tails[second][items], split)
                template = grid[a_by, b_by, describer.rng.integers(0, grid.shape[2], len(items))]
                template = np.where((a >= 0) & (b >= 0), template, -1)
                for number in np.unique(template[template >= 0]).tolist():
                    mine = template == number
                    found.append(_join_rows(facts, number, items[mine], a[mine], b[mine], split))
    return found


def _only_ones(facts: Facts, first: str, second: str) -> np.ndarray:
    """Return the entities whose two tails no other entity has together."""
    a, b = facts.tails[first].astype(np.int64), facts.tails[second].astype(np.int64)
    have = np.flatnonzero((a >= 0) & (b >= 0))
    _, where, count = np.unique(a[have] * 2**31 + b[have], return_index=True, return_counts=True)
    return np.sort(have[where[count == 1]])


def _join_rows(facts: Facts, number: int, items: np.ndarray, a: np.ndarray, b: np.ndarray, split: int) -> np.ndarray:
    join = joins()[number]
    path = _follow(facts, (join.kind, items), join.rest)
    valid = _same_split(facts, path[-1], split)
    for _, entities in path:
        valid &= entities >= 0
    columns = [(BY_NAME[join.describe_first].head, a), (BY_NAME[join.describe_second].head, b)]
    columns += [(BY_NAME[r].tail, facts.tails[r][items]) for r in (join.first, join.second)]
    columns = [(kind, entities[valid]) for kind, entities in columns + path]
    neighbours = {(0, 2), (1, 3), (2, 4), (3, 4)} | {(i, i + 1) for i in range(4, len(columns))}
    good = _apart(facts, columns, neighbours)
    return _rows(split, INTERSECTION, number, columns[-1][1][good], *(e[valid][good] for e in (items, a, b)))


def _compare_plans(facts: Facts, turn: int) -> list[np.ndarray]:
    """Give each start entity that describes something with a year a few comparisons, with drawn partners."""
    found = []
    rng = stream("compare-plans", facts.seed, turn)
    by_relations: dict[tuple[str, str], list[tuple[int, Compare]]] = {}
    for number, compare in enumerate(compares()):
        by_relations.setdefault((compare.describe_first, compare.describe_second), []).append((number, compare))
    for (first, second), options in by_relations.items():
        partners = len({b for a, b in by_relations if a == first})
        for split in range(3):
            heads, others = (
                np.flatnonzero((facts.split[BY_NAME[r].head] == split) & (facts.tails[r] >= 0)) for r in (first, second)
            )
            count = -(-len(heads) * (HELD_OUT_ROUNDS if split else ROUNDS) // partners) if len(others) else 0
            a = heads[rng.integers(0, max(1, len(heads)), count)]
            b = others[rng.integers(0, max(1, len(others)), count)]
            option = rng.integers(0, len(options), count)
            for place, (number, compare) in enumerate(options):
                mine = option == place
                if mine.any():
                    found.append(_compare_rows(facts, compare, number, a[mine], b[mine], split))
    return found


def _compare_rows(facts: Facts, compare: Compare, number: int, a: np.ndarray, b: np.ndarray, split: int) -> np.ndarray:
    first, second = BY_NAME[compare.describe_first], BY_NAME[compare.describe_second]
    x, y = facts.tails[first.name][a], facts.tails[second.name][b]
    years, asked = facts.tails[KEY_YEAR[compare.kind]], facts.tails[compare.ask]
    wins = years[x] < years[y] if compare.earlier else years[x] > years[y]
    answer = (BY_NAME[compare.ask].tail, asked[x])
    valid = wins & (asked[x] >= 0) & (asked[x] != asked[y]) & _same_split(facts, answer, split)
    columns = [(first.head, a), (second.head, b), (compare.kind, x), (compare.kind, y), answer]
    columns = [(kind, entities[valid]) for kind, entities in columns]
    good = _apart(facts, columns, {(0, 2), (1, 3), (2, 4)})
    return _rows(split, COMPARISON, number, columns[-1][1][good], a[valid][good], b[valid][good])
