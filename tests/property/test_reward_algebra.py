"""The algebra against its definition: random expressions, random episodes, every node."""

import itertools
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reward_episodes import play, search

from agentgym import schema
from agentgym.errors import ConfigError
from agentgym.rewards import (
    Cap,
    Clip,
    Component,
    EpisodeView,
    Expression,
    Gate,
    MaxNorm,
    Mean,
    Min,
    Once,
    OnlyIf,
    Product,
    Schedule,
    Shaped,
    Suite,
    attributed,
)
from agentgym.rewards.parse import parse_expression
from agentgym.seeding import stream
from agentgym.types import Score, Trajectory


@dataclass
class Numbers:
    """What the components of one episode say."""

    turns: list[dict[str, float]]
    ends: dict[str, float]
    maxima: dict[str, float]
    late: bool = False
    """The episode was cut after its last turn was scored."""


class Told(Component):
    """A component that says what the current episode's numbers say."""

    numbers: Numbers

    def __init__(self, name: str, scope: str, supply: str, range: tuple[float, float]) -> None:
        self.name, self.scope, self.supply, self.range = name, scope, supply, range

    def score(self, view: EpisodeView, state: object) -> Score:
        told = Told.numbers
        return Score(self.scope, told.ends[self.name] if self.scope == "trajectory" else told.turns[len(view.turns) - 1][self.name])


WON = Told("won", "trajectory", "terminal", (0.0, 1.0))
WON.failure_max = 0.0
SOME = Told("some", "trajectory", "terminal", (0.0, 1.0))
SIGNED = Told("signed", "trajectory", "terminal", (-1.0, 2.0))
GAIN = Told("gain", "turn", "potential", (-1.0, 1.0))
RISE = Told("rise", "turn", "potential", (0.0, 1.0))
STEP = Told("step", "turn", "cost", (-1.0, 0.0))
FLAG = Told("flag", "turn", "unbounded", (0.0, 1.0))
EVERY = {c.name: c for c in (WON, SOME, SIGNED, GAIN, RISE, STEP, FLAG)}
TURNS, ENDS = (GAIN, RISE, STEP, FLAG), (WON, SOME, SIGNED)

weights = st.sampled_from([-1.0, -0.3, 0.1, 0.5, 2.0])
around_zero = st.tuples(st.sampled_from([-0.5, -0.1, 0.0]), st.sampled_from([0.0, 0.2, 1.0]))
schedules = st.sampled_from([(0.5, 0.0), (1.0, -1.0), ((0.0, 1.0), (0.3, 1.0), (1.0, 0.25))])


def linear(inner: st.SearchStrategy[Expression]) -> list[st.SearchStrategy[Expression]]:
    return [st.builds(lambda w, a: w * a, weights, inner), st.builds(lambda a, b: a + b, inner, inner)]


def grown_turn(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        *linear(inner),
        st.builds(lambda a, c: Cap(a, *c), inner, around_zero),
        st.builds(lambda a, c: Clip(a, *c), inner, around_zero),
        st.builds(Once, inner),
        st.builds(Product, inner, inner),
        st.builds(Min, inner, inner),
        st.builds(Schedule, inner, schedules),
    )


turn_trees = st.recursive(st.sampled_from(TURNS), grown_turn, max_leaves=4)
mixed = st.one_of(turn_trees, st.sampled_from(ENDS), st.builds(lambda a, b: a + b, turn_trees, st.sampled_from(ENDS)))
late_nodes = st.one_of(
    st.sampled_from(ENDS),
    st.builds(MaxNorm, st.sampled_from([WON, SOME])),
    st.builds(lambda a, base: Gate(SOME, a, base), mixed, st.sampled_from([0.0, 0.7])),
    st.builds(OnlyIf, st.sampled_from([0, 1]), mixed),
    st.builds(Mean, turn_trees),
    st.builds(Product, st.sampled_from(ENDS), mixed),
    st.builds(Min, mixed, st.sampled_from(ENDS), mixed),
)


def grown_late(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        *linear(inner),
        st.builds(lambda a, x: a + x, inner, weights),
        st.builds(lambda a, c: Cap(a, *c), inner, around_zero),
        st.builds(lambda a, lo, wide: Clip(a, lo, lo + wide), inner, st.sampled_from([-0.5, 0.1]), st.sampled_from([0.0, 0.6])),
        st.builds(Product, inner, inner),
        st.builds(Min, inner, inner),
        st.builds(Schedule, inner, schedules),
    )


late_trees = st.recursive(late_nodes, grown_late, max_leaves=4)
trees = st.one_of(late_trees, turn_trees, st.builds(lambda a, b: a + b, late_trees, turn_trees))


def drawn(rng: np.random.Generator, won: bool, corner: bool) -> Numbers:
    """An episode inside the declared ranges; a corner case takes their ends."""
    n_turns, sums = int(rng.integers(1, 7)), {c.name: 0.0 for c in TURNS}
    turns = []
    for _ in range(n_turns):
        row = {}
        for c in TURNS:
            lo, hi = c.range
            if c.supply == "potential":
                lo, hi = lo - sums[c.name], hi - sums[c.name]
            row[c.name] = float(rng.choice([lo, hi, 0.0]) if corner else rng.uniform(lo, hi))
            sums[c.name] += row[c.name]
        turns.append(row)
    ends = {c.name: float(rng.choice(c.range) if corner else rng.uniform(*c.range)) for c in ENDS}
    ends["won"] = float(won)
    maxima = {name: float(rng.choice([ends[name], 1.0])) for name in ("won", "some")}
    return Numbers(turns, ends, maxima, late=bool(rng.integers(2)))


def by_hand(node: Expression, told: Numbers, progress: float) -> tuple[list[float], float]:
    """What a node gives per turn, and at the end, by its definition."""
    zeros = [0.0] * len(told.turns)

    def both(child: Expression) -> tuple[list[float], float]:
        return by_hand(child, told, progress)

    def total(child: Expression) -> float:
        turns, end = both(child)
        return sum(turns) + end

    def stepped(path: list[float]) -> list[float]:
        return [b - a for a, b in itertools.pairwise(path)]

    kind = type(node).__name__
    if kind == "Told":
        if node.scope == "turn":
            return [row[node.name] for row in told.turns], 0.0
        return zeros, told.ends[node.name]
    if kind == "Number":
        return zeros, node.value
    if kind == "Sum":
        parts = [both(term) for term in node.terms]
        return [sum(xs) for xs in zip(*(p[0] for p in parts), strict=True)], sum(p[1] for p in parts)
    if kind in ("Weight", "Schedule"):
        weight = node.weight if kind == "Weight" else by_line(node.weight, progress)
        turns, end = both(node.node)
        return [weight * x for x in turns], weight * end
    if kind == "Gate":
        return zeros, told.ends[node.by.name] * (node.base + total(node.what))
    if kind == "OnlyIf":
        return zeros, total(node.what) if told.ends["won"] == node.outcome else 0.0
    if kind == "MaxNorm":
        largest = told.maxima[node.component.name]
        return zeros, told.ends[node.component.name] / largest if largest else 0.0
    if kind == "Mean":
        return zeros, sum(both(node.node)[0]) / len(told.turns)
    if kind in ("Product", "Min"):
        joined = math.prod if kind == "Product" else min
        if node.scopes == {"trajectory"}:
            return zeros, joined([total(f) for f in node.factors])
        paths = [[0.0, *np.cumsum(both(f)[0])] for f in node.factors]
        return stepped([joined(xs) for xs in zip(*paths, strict=True)]), 0.0
    turns, end = both(node.node)
    if kind == "Once":
        first = next((i for i, x in enumerate(turns) if x), -1)
        return [x if i == first else 0.0 for i, x in enumerate(turns)], end
    if kind == "Shaped":
        path = [0.0, *np.cumsum(turns)]
        if not told.late:
            path[-1] = 0.0
        return [node.gamma * b - a for a, b in itertools.pairwise(path)], -node.gamma * path[-1]
    inside = lambda x: min(max(x, node.lo), node.hi)  # noqa: E731
    if node.scopes == {"trajectory"}:
        return zeros, inside(end)
    if kind == "Clip":
        return [inside(x) for x in turns], 0.0
    return stepped([inside(x) for x in [0.0, *np.cumsum(turns)]]), 0.0


def by_line(points: tuple[tuple[float, float], ...], progress: float) -> float:
    return float(np.interp(progress, [x for x, _ in points], [y for _, y in points]))


def built(tree: Expression) -> Suite:
    """The suite of a tree; trees that pay a turn score at both levels are refused, and not looked at."""
    try:
        return Suite(tree, WON, allow_unbounded=True)
    except ConfigError as error:
        assume("one level only" not in str(error))
        raise


def episode(suite: Suite, told: Numbers, progress: float) -> Trajectory:
    """Play the numbers, as an environment and then a collector does."""
    Told.numbers = told
    end = "max_tokens" if told.late else "max_turns"
    played = play(suite, [search(str(i)) for i in range(len(told.turns))], end_reason=end, progress=progress)
    Told.numbers = replace(told, ends=told.ends | told.maxima)
    best = play(suite, [search("x")], end_reason=end, progress=progress, name="best") if suite.group_transforms else None
    Told.numbers = told
    group = [t.with_(group_id="g") for t in (played, best) if t is not None]
    return suite.transform_groups(group)[0]


@pytest.mark.filterwarnings("ignore:suite")
@settings(deadline=None, max_examples=200)
@given(trees, st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.2, 0.7, 1.0]))
def test_every_expression_pays_what_its_definition_says(
    tree: Expression, seed: int, won: bool, corner: bool, progress: float
) -> None:
    suite = built(tree)
    told = drawn(stream("algebra", seed), won, corner)
    played = episode(suite, told, progress)
    turns, end = by_hand(tree, told, progress)
    assert [t.reward for t in played.turns] == pytest.approx(turns, abs=1e-9)
    assert played.reward == pytest.approx(end, abs=1e-9)
    every = [*(t.scores for t in played.turns), played.scores]
    assert not any(s.deferred for scores in every for s in scores.values())
    assert played.total == sum(sum(s.value for s in scores.values()) for scores in every)
    bounds = suite.bounds()
    low, high = bounds.success if won else bounds.failure
    assert low - 1e-9 <= played.total <= high + 1e-9
    for name, shares in attributed(played).items():
        assert sum(shares) == pytest.approx(played.scores[name].value, abs=1e-9)
    stored = schema.from_json(Trajectory, json.loads(json.dumps(schema.to_json(played))))
    assert stored == played
    assert suite.rescore(stored) == stored
    assert suite.transform_groups([stored]) == [stored] or suite.group_transforms
    assert repr(parse_expression(repr(tree), EVERY.__getitem__)) == repr(tree)


@pytest.mark.filterwarnings("ignore:suite")
@settings(deadline=None, max_examples=60)
@given(trees)
def test_the_margin_is_never_more_than_the_gap_that_a_search_finds(tree: Expression) -> None:
    suite = built(tree)
    rng = stream("gap", repr(tree))
    for progress in (0.0, 1.0, float(rng.uniform())):  # the two are compared at the same time of training
        lowest, highest = math.inf, -math.inf
        for trial in range(30):
            won = bool(trial % 2)
            turns, end = by_hand(tree, told := drawn(rng, won, trial % 4 < 2), progress)
            assert told.ends["won"] == won
            total = sum(turns) + end
            lowest, highest = (min(lowest, total), highest) if won else (lowest, max(highest, total))
        assert suite.bounds().margin - 1e-9 <= suite.at(progress).bounds().margin <= lowest - highest + 1e-9


@pytest.mark.filterwarnings("ignore:suite")
@settings(deadline=None)
@given(turn_trees.filter(lambda t: "flag" not in repr(t) and "step" not in repr(t) and "Once" not in repr(t)), st.integers(0, 10**6))
def test_shaping_adds_nothing_to_any_episode(tree: Expression, seed: int) -> None:
    gamma = [1.0, 0.9, 0.5][seed % 3]
    suite = Suite(WON + 0.7 * Shaped(tree, gamma), WON, allow_unbounded=True)
    told = drawn(stream("shaping", seed), bool(seed % 2), bool(seed % 5))
    played = episode(suite, told, 1.0)
    last = len(played.turns) - 1
    discounted = sum(gamma**k * t.reward for k, t in enumerate(played.turns))
    settled = played.scores["settlement"].value if "settlement" in played.scores else 0.0
    assert discounted + gamma**last * settled == pytest.approx(0.0, abs=1e-9)
    if gamma == 1.0:
        assert suite.bounds() == Suite(1.0 * WON, WON).bounds()
