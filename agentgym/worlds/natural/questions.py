"""From a plan to a task: the question's wording, its answer, and its gold."""

from collections.abc import Sequence

import numpy as np

from agentgym.task import Entity, Gold
from agentgym.worlds.gold import build_gold
from agentgym.worlds.natural.draw import Draw
from agentgym.worlds.natural.facts import Facts
from agentgym.worlds.natural.names import Names
from agentgym.worlds.natural.page_words import MADE, STATEMENTS
from agentgym.worlds.natural.question_words import ASKS, FIRSTS, JOINS, NAME_ASKS, ORDER_STATEMENTS, PAIRS, PHRASES
from agentgym.worlds.natural.schema import BY_NAME, KEY_YEAR, YEAR
from agentgym.worlds.natural.templates import (
    CHAIN,
    FAMILIES,
    INTERSECTION,
    Compare,
    Join,
    chain_templates,
    compares,
    joins,
)
from agentgym.worlds.world import Fact

PLAIN_ONE_IN = 5
"""One question in so many names its start entities by their main names, the others by an alias where there is one."""
Node = tuple[str, int]


class Questions:
    """Writes the questions of one world, each from its plan alone."""

    def __init__(self, names: Names, facts: Facts) -> None:
        self.names = names
        self.facts = facts

    def write(self, plan: np.ndarray) -> tuple[str, Gold, str, int]:
        """Return (question, gold, kind, hops) of a plan: [5] int32."""
        family, template, a, b, c = (int(v) for v in plan)
        draw = Draw("question", self.names.seed, family, template, a, b, c)
        if family == CHAIN:
            question, gold, hops = self._chain(chain_templates()[template], a, draw)
        elif family == INTERSECTION:
            question, gold, hops = self._join(joins()[template], a, b, c, draw)
        else:
            question, gold, hops = self._compare(compares()[template], a, b, draw)
        return question[0].upper() + question[1:], gold, FAMILIES[family], hops

    def entity(self, node: Node, hop: int = 0, role: str = "bridge") -> Entity:
        """Return an entity, or a year, with its names."""
        kind, index = node
        if kind == YEAR:
            return Entity(f"{YEAR}{index}", str(index), hop=hop, role=role)
        return Entity(f"{kind}{index}", self.names.name(kind, index), self.names.aliases(kind, index), hop, role)

    def fact(self, head: Node, relation: str) -> Fact:
        """Return the fact of a head, which must have one."""
        tail = self.facts.tail(relation, head[1])
        return Fact(f"{head[0]}{head[1]}", relation, f"{BY_NAME[relation].tail}{tail}", f"{head[0]}{head[1]}")

    def _chain(self, template: tuple[str, ...], start: int, draw: Draw) -> tuple[str, Gold, int]:
        nodes = self._walk((BY_NAME[template[0]].head, start), template)
        said, first = self._start(nodes[0], draw)
        question = self._ask(said, nodes, template, draw)
        entities = [first, *self._hops(nodes[1:], 1)]
        path = [self.fact(n, r) for n, r in zip(nodes, template, strict=False)]
        return question, build_gold(entities, path, STATEMENTS), len(template)

    def _join(self, join: Join, item: int, b: int, c: int, draw: Draw) -> tuple[str, Gold, int]:
        starts: list[Node] = [(BY_NAME[r].head, i) for r, i in ((join.describe_first, b), (join.describe_second, c))]
        said, named = zip(*(self._start(s, draw) for s in starts), strict=True)
        x, y = (
            draw.one(PHRASES[r]).format(x=s, **self._made(n))
            for r, s, n in zip((join.describe_first, join.describe_second), said, starts, strict=True)
        )
        phrase = draw.one(JOINS[join.first, join.second]).format(x=x, y=y)
        nodes = self._walk((join.kind, item), join.rest)
        question = (
            self._ask(phrase, nodes, join.rest, draw) if join.rest else draw.one(NAME_ASKS[join.kind]).format(x=phrase)
        )
        middle = [
            self._walk(s, (r,))[1] for s, r in zip(starts, (join.describe_first, join.describe_second), strict=True)
        ]
        entities = [*named, *(self.entity(m, 1, "constraint") for m in middle), *self._hops(nodes, 2)]
        path = [self.fact(starts[0], join.describe_first), self.fact(starts[1], join.describe_second)]
        path += [self.fact(nodes[0], join.first), self.fact(nodes[0], join.second)]
        path += [self.fact(n, r) for n, r in zip(nodes, join.rest, strict=False)]
        return question, build_gold(entities, path, STATEMENTS), max(2, 1 + len(join.rest))

    def _compare(self, compare: Compare, a: int, b: int, draw: Draw) -> tuple[str, Gold, int]:
        relations = (compare.describe_first, compare.describe_second)
        starts: list[Node] = [(BY_NAME[r].head, i) for r, i in zip(relations, (a, b), strict=True)]
        said, named = zip(*(self._start(s, draw) for s in starts), strict=True)
        phrases = [
            draw.one(PHRASES[r]).format(x=s, **self._made(n)) for r, s, n in zip(relations, said, starts, strict=True)
        ]
        flip = draw.below(2)
        pair = draw.one(PAIRS).format(x=phrases[flip], y=phrases[1 - flip])
        winner, loser = (self._walk(s, (r,))[1] for s, r in zip(starts, relations, strict=True))
        ask = draw.one(ASKS[compare.ask]).format(
            x=draw.one(FIRSTS[compare.kind][compare.earlier]), **self._made(winner)
        )
        key = KEY_YEAR[compare.kind]
        ends = [self.entity(winner, 1), self.entity(loser, 1, "constraint")]
        entities = [*named, *ends, *self._hops(self._walk(winner, (compare.ask,))[1:], 2)]
        order = [0, 1] if flip == 0 else [1, 0]
        path = [self.fact(starts[i], relations[i]) for i in order]
        path += [self.fact((winner, loser)[i], key) for i in order] + [self.fact(winner, compare.ask)]
        link = ORDER_STATEMENTS[compare.kind].replace("{order}", "before" if compare.earlier else "after")
        years = {f.tail: f.tail[1:] for f in path if f.relation == key}
        gold = build_gold(entities, path, STATEMENTS, literals=years, links=[(ends[0].id, link, ends[1].id)])
        return f"{pair} {ask}", gold, 2

    def _walk(self, start: Node, template: Sequence[str]) -> list[Node]:
        nodes = [start]
        for relation in template:
            nodes.append((BY_NAME[relation].tail, self.facts.tail(relation, nodes[-1][1])))
        return nodes

    def _hops(self, nodes: list[Node], first_hop: int) -> list[Entity]:
        last = len(nodes) - 1
        return [self.entity(n, first_hop + i, "answer" if i == last else "bridge") for i, n in enumerate(nodes)]

    def _start(self, node: Node, draw: Draw) -> tuple[str, Entity]:
        """Return how the question names a start entity, and the entity with that name among its aliases."""
        said = self.names.asked(*node, plain=draw.below(PLAIN_ONE_IN) == 0)
        entity = self.entity(node, 0, "start")
        bare = said.strip('"')
        if bare not in (entity.name, *entity.aliases):
            entity = Entity(entity.id, entity.name, (*entity.aliases, bare), 0, "start")
        return said, entity

    def _ask(self, said: str, nodes: list[Node], template: Sequence[str], draw: Draw) -> str:
        """Wrap a name or phrase into noun phrases for all relations but the last, and ask for that one."""
        for node, relation in zip(nodes, template[:-1], strict=False):
            said = draw.one(PHRASES[relation]).format(x=said, **self._made(node))
        node = nodes[len(template) - 1]
        return draw.one(ASKS[template[-1]]).format(x=said, **self._made(node))

    def _made(self, node: Node) -> dict[str, str]:
        """Return the words that fit a work's medium."""
        made, maker = MADE[self.names.medium(node[1]) if node[0] == "w" else "novel"]
        return {"made": made, "maker": maker}
