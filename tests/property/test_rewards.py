"""Properties that hold for every episode and every expression, not only for the scripted ones."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_episodes import GOLD, Fixed, TableScorer, invalid, outcome, play, search

from agentgym import schema
from agentgym.rewards import Cap, Expression, Gate, Suite, build_suite
from agentgym.rewards.normalize import robust, robust_document
from agentgym.rewards.parse import parse_expression
from agentgym.rewards.registering import component_named
from agentgym.seeding import stream
from agentgym.task import Answer, Gold
from agentgym.types import Score, Trajectory, Turn

SEARCH, SEARCH_IG = build_suite("search"), build_suite("search_ig")
IDS = ["film-31", "person-12", "n1", "n2", "n3"]
turns = st.lists(
    st.one_of(
        st.builds(search, st.sampled_from("abcde"), *[st.sampled_from(IDS)] * 2),
        st.builds(search, st.sampled_from("abcde")),
        st.builds(lambda code: search("x", ok=False, code=code), st.sampled_from(["E_TOOL", "E_BUDGET"])),
        st.builds(invalid, st.sampled_from(["E_PARSE", "E_MULTI", "E_RESERVED"])),
    ),
    max_size=8,
)
answers = st.sampled_from([None, "Mira Halvorsen", "m. halvorsen", "Tor Lind", ""])


def values(trajectory: Trajectory) -> list[float]:
    every = [*(t.scores for t in trajectory.turns), trajectory.scores]
    return [score.value for scores in every for score in scores.values()]


@given(turns, answers)
def test_values_sum_to_the_rewards_and_the_rewards_to_the_total(script: list[Turn], given_: str | None) -> None:
    played = play(SEARCH, script, given_)
    assert all(t.reward == sum(s.value for s in t.scores.values()) for t in played.turns)
    assert played.total == pytest.approx(sum(values(played)), abs=1e-12)
    low, high = SEARCH.bounds().success if played.success else SEARCH.bounds().failure
    assert low - 1e-9 <= played.total <= high + 1e-9


@given(turns, answers, st.data())
def test_a_turn_that_changes_nothing_never_raises_the_total(
    script: list[Turn], given_: str | None, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(script)))
    extra = [search("something never asked"), search("y", ok=False, code="E_TOOL"), invalid()]
    if at:
        extra.append(script[at - 1])  # the turn before, again
    noop = data.draw(st.sampled_from(extra))
    without = play(SEARCH, script, given_)
    padded = play(SEARCH, [*script[:at], noop, *script[at:]], given_)
    assert padded.total <= without.total + 1e-12


@given(turns, answers, st.permutations(["Mira Halvorsen", "M. Halvorsen", "Halvorsen, Mira"]), st.booleans())
def test_the_order_of_gold_changes_nothing(
    script: list[Turn], given_: str | None, names: list[str], one_answer: bool
) -> None:
    forms = (Answer(names[0], tuple(names[1:])),) if one_answer else tuple(Answer(n) for n in names)
    shuffled = Gold(answers=forms, doc_ids=GOLD.doc_ids[::-1])
    assert play(SEARCH, script, given_, gold=shuffled).total == play(SEARCH, script, given_).total


@given(turns, answers, st.text(max_size=40))
def test_words_of_the_policy_change_nothing(script: list[Turn], given_: str | None, words: str) -> None:
    spoken = [replace(t, action=words + t.action, error=words) for t in script]
    assert values(play(SEARCH, spoken, given_)) == values(play(SEARCH, script, given_))


@given(turns, answers, st.sampled_from([SEARCH, SEARCH_IG]))
def test_a_stored_record_scores_to_the_same_numbers(script: list[Turn], given_: str | None, suite: Suite) -> None:
    played = play(suite, script, given_)
    (played,) = suite.complete([played], TableScorer(lambda text, target: [-3.0 / (1 + len(text) % 7)] * 2))
    stored = schema.from_json(Trajectory, json.loads(json.dumps(schema.to_json(played))))
    assert suite.rescore(stored) == stored
    assert suite.rescore(stored).total == played.total


@given(turns, st.lists(st.floats(-20, 0), min_size=1, max_size=6))
def test_information_gain_telescopes(script: list[Turn], logps: list[float]) -> None:
    suite = SEARCH_IG
    cycle = itertools.cycle(logps)
    seen: dict[tuple[str, str], float] = {}
    scorer = TableScorer(lambda text, target: [seen.setdefault((text, target), next(cycle))])
    (after,) = suite.complete([play(suite, script, "x")], scorer)
    gains = [t.scores["information_gain"] for t in after.turns]
    first = max(v for k, v in gains[0].parts.items() if k.startswith("before"))
    last = max(v for k, v in gains[-1].parts.items() if k.startswith("after"))
    assert sum(g.raw or 0.0 for g in gains) == pytest.approx(np.exp(last) - np.exp(first), abs=1e-9)
    assert abs(sum(g.value for g in gains)) <= 0.2 + 1e-9


@pytest.mark.parametrize("suite", [SEARCH, SEARCH_IG], ids=lambda s: s.name)
def test_random_component_values_never_close_the_margin(suite: Suite) -> None:
    """Beside the arithmetic: a search over values that no scripted episode reaches."""
    rng = stream("margin", suite.name)
    lowest, highest = np.inf, -np.inf
    turn_parts = suite.program.turn.components
    for trial in range(3000):
        state, total = suite.blank(), 0.0
        corner = rng.integers(2, size=len(turn_parts)) if trial % 2 == 0 else None
        for _ in range(int(rng.integers(1, 12))):
            raws = []
            for i, component in enumerate(turn_parts):
                low, high = max(component.range[0], -16.0), component.range[1]
                raws.append(float(rng.uniform(low, high) if corner is None else (low, high)[corner[i]]))
            scores = suite.turn_contributions([Score("turn", x) for x in raws], state)
            total += sum(s.value for s in scores.values())
        won = bool(trial // 2 % 2)
        flags = {"answer_em": float(won), "all_valid": float(rng.integers(2))}
        finals = [Score("trajectory", flags[c.name]) for c in suite.program.trajectory.components]
        total += sum(s.value for s in suite.trajectory_contributions(finals, state).values())
        if won:
            lowest = min(lowest, total)
        else:
            highest = max(highest, total)
    bounds = suite.bounds()
    assert bounds.failure[1] + 1e-9 >= highest
    assert bounds.success[0] - 1e-9 <= lowest
    assert lowest - highest >= bounds.margin - 1e-9 > 0
    assert lowest - highest < bounds.margin + 0.05, "the search comes near the bound, or it shows nothing"


WON = outcome()
PIECES = {
    "won": WON,
    "clean": Fixed("clean", [0.0]),
    "gain": Fixed("gain", [0.0], scope="turn", supply="potential", range=(-1.0, 1.0)),
    "step": Fixed("step", [0.0], scope="turn", supply="cost", range=(-1.0, 0.0)),
}
weights = st.sampled_from([-1.0, -0.3, 0.1, 0.5, 2.0])
limits = st.tuples(st.sampled_from([-0.5, -0.1, 0.0]), st.sampled_from([0.0, 0.2, 1.0]))


def grown(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(lambda w, a: w * a, weights, inner),
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, c: Cap(a, *c), inner, limits),
    )


turn_trees = st.recursive(st.sampled_from([PIECES["gain"], PIECES["step"]]), grown, max_leaves=5)
end_trees = st.recursive(
    st.one_of(
        st.sampled_from([PIECES["won"], PIECES["clean"]]),
        st.builds(lambda a, base: Gate(WON, a, base), turn_trees, st.sampled_from([0.0, 0.7])),
    ),
    grown,
    max_leaves=5,
)


@pytest.mark.filterwarnings("ignore:suite")
@settings(deadline=None)
@given(end_trees, st.lists(st.tuples(st.floats(-0.4, 0.4), st.floats(-1, 0)), min_size=1, max_size=5), st.booleans())
def test_any_expression_sums_exactly_stays_in_bounds_and_reads_back(
    tree: Expression, numbers: list[tuple[float, float]], won: bool
) -> None:
    suite = Suite(tree, success=WON, allow_unbounded=True)
    state, total = suite.blank(), 0.0
    for gain, step in numbers:
        raws = {"gain": gain, "step": step}
        scores = suite.turn_contributions([Score("turn", raws[c.name]) for c in suite.program.turn.components], state)
        total += sum(s.value for s in scores.values())
    ends = {"won": float(won), "clean": 1.0}
    raws_end = [Score("trajectory", ends[c.name]) for c in suite.program.trajectory.components]
    total += sum(s.value for s in suite.trajectory_contributions(raws_end, state).values())
    low, high = suite.bounds().success if won else suite.bounds().failure
    assert low - 1e-9 <= total <= high + 1e-9
    assert total == pytest.approx(by_hand(tree, numbers, ends), abs=1e-9)
    assert repr(parse_expression(repr(tree), PIECES.__getitem__)) == repr(tree)


def by_hand(tree: Expression, numbers: list[tuple[float, float]], ends: dict[str, float]) -> float:
    """The total by the definition of each node, turn after turn."""
    columns = {"gain": [0.0, *np.cumsum(_bounded([g for g, _ in numbers]))], "step": [0.0, *np.cumsum([s for _, s in numbers])]}

    def path(node: object) -> list[float]:
        """Running sums of a node: at the start, after each turn, and at the end."""
        kind = type(node).__name__
        if kind == "Weight":
            return [node.weight * x for x in path(node.node)]
        if kind == "Sum":
            return [sum(xs) for xs in zip(*map(path, node.terms), strict=True)]
        if kind == "Cap":
            return [min(max(x, node.lo), node.hi) for x in path(node.node)]
        if kind == "Gate":
            paid = ends[node.by.name] * (node.base + path(node.what)[-1])
            return [0.0] * (len(numbers) + 1) + [paid]
        if node.name in columns:
            return [*columns[node.name], columns[node.name][-1]]
        return [0.0] * (len(numbers) + 1) + [ends[node.name]]

    return path(tree)[-1]


def _bounded(increments: list[float]) -> list[float]:
    sums = [0.0, *np.cumsum(increments)]
    kept = [min(max(x, -1.0), 1.0) for x in sums]
    return [b - a for a, b in itertools.pairwise(kept)]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
def test_the_robust_form_is_stable_and_blind_to_case_and_invisible_characters(text: str) -> None:
    form = robust(text)
    assert robust(form) == form
    assert robust_document(text) == f" {form} "
    if text.isascii():
        assert robust(text.upper()) == form
        assert robust(text + "\u200b") == form  # the same through the slow path


def test_every_shipped_component_is_registered_under_its_own_name() -> None:
    for name in SEARCH.components | SEARCH_IG.components:
        assert component_named(name).name == name
