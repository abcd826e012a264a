"""The criterion for turn credit against the truth on problems where both are known exactly."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agentgym.credit import CreditArrays, CreditConfig, Scales, recipe_of
from agentgym.credit.forecast import Forecast, forecast
from agentgym.seeding import stream
from tests import mdps
from tests.mdps import Mdp, Path

SIZE, N_GROUPS, BATCH = 4, 600, 16


def paid(problem: Mdp, name: str, pay: Any, chances: tuple[float, ...] = (1.0,)) -> Mdp:
    """The problem with other turn scores: pay(path, variant), each variant with its chance."""

    def paths(p: Sequence[Any]) -> Iterator[Path]:
        for path in problem.paths(p):
            for variant, chance in enumerate(chances):
                yield replace(path, probability=path.probability * chance, rewards=tuple(pay(path, variant)))

    return Mdp(name, problem.n_decisions, paths)


def at_last(path: Path, _: int) -> list[float]:
    return [0.0] * (len(path.rewards) - 1) + [path.outcome]


def one_turn(p: Sequence[Any]) -> Iterator[Path]:
    for a, pa in ((1, p[0]), (0, 1 - p[0])):
        for o, q in ((1.0, 0.75 if a else 0.25), (0.0, 0.25 if a else 0.75)):
            yield Path(pa * q, ((0, a),), (float(a),), o)


def rare(p: Sequence[Any]) -> Iterator[Path]:
    """Three searches in a row that each pay .5; only the last state ever succeeds, one time in four."""
    yield Path(1 - p[0], ((0, 0),), (0.0,))
    yield Path(p[0] * (1 - p[1]), ((0, 1), (1, 0)), (0.5, 0.0))
    yield Path(p[0] * p[1] * (1 - p[2]), ((0, 1), (1, 1), (2, 0)), (0.5, 0.5, 0.0))
    for o, q in ((1.0, 0.25), (0.0, 0.75)):
        yield Path(p[0] * p[1] * p[2] * q, ((0, 1), (1, 1), (2, 1)), (0.5, 0.5, 0.5), o)


ONE = Mdp("one turn", 1, one_turn)
RARE = Mdp("rare", 3, rare)
LATE = paid(mdps.C, "copy of the outcome on the last turn", at_last)
NOISE = paid(mdps.C, "coins", lambda path, v: [1.0 - 2.0 * v] * len(path.rewards), (0.5, 0.5))
AGAINST = paid(mdps.C, "pays for failing", lambda path, v: [0.0 if v else -path.outcome] + [0.2 - path.outcome] * (len(path.rewards) - 1), (0.5, 0.5))  # fmt: skip


def sample(problem: Mdp, p: tuple[float, ...], n_groups: int = N_GROUPS) -> CreditArrays:
    paths = list(problem.paths(p))
    chance = np.array([path.probability for path in paths])
    rows = stream("forecast", problem.name).choice(len(paths), n_groups * SIZE, p=chance / chance.sum())
    width = max(len(path.rewards) for path in paths)
    scores, mask = np.zeros((len(rows), width)), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        own = paths[row].rewards
        scores[i, : len(own)], mask[i, : len(own)] = own, True
    ones = np.ones(len(rows), bool)
    outcome = np.array([paths[row].outcome for row in rows])
    return CreditArrays(scores, mask, outcome, np.repeat(np.arange(n_groups), SIZE), ones, ones)


def ascent(problem: Mdp, p: tuple[float, ...], config: CreditConfig) -> float:
    """Outcome gained per unit of a step's root mean square, to first order: the truth about a recipe.

    (expected estimate . gradient of E[outcome]) / sqrt(E[|estimate|^2]), for a batch of groups.
    """
    recipe = recipe_of(config)
    groups = mdps.enumerate_groups(problem, SIZE, p=p)
    scales = Scales().update(sample(problem, p), recipe)
    each = np.einsum("bk,bkd->bd", recipe.run(groups.arrays, scales), groups.score)
    each = each.reshape(len(groups.probability), SIZE, -1).mean(1)
    mean = groups.probability @ each
    variance = float(groups.probability @ ((each - mean) ** 2).sum(1)) / BATCH
    return float(mean @ mdps.gradient(problem, mdps.outcome, p)) / np.sqrt(float(mean @ mean) + variance)


def gain(problem: Mdp, p: tuple[float, ...]) -> float:
    """How many times the ascent of outcome-only credit turn credit has, both at their default scales."""
    return ascent(problem, p, CreditConfig()) / ascent(problem, p, CreditConfig(turn_weight=0.0))


HALF = (0.5, 0.5, 0.5)
CASES = [
    (mdps.B, (0.5, 0.5), "likely"), (mdps.B, (0.2, 0.3), "likely"), (mdps.C, HALF, "likely"), (mdps.C, (0.1, 0.1, 0.3), "likely"),
    (RARE, HALF, "likely"), (RARE, (0.1, 0.1, 0.1), "open"), (NOISE, HALF, "unlikely"), (AGAINST, HALF, "against"),
    (ONE, (0.5,), "none"), (LATE, HALF, "none"), (mdps.T, (0.5, 0.5), "none"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "p", "verdict"), CASES, ids=[f"{m.name} {p}" for m, p, _ in CASES])
def test_the_verdict_agrees_with_the_exact_ascent(problem: Mdp, p: tuple[float, ...], verdict: str) -> None:
    found = forecast(sample(problem, p))
    assert found.verdict == verdict, found
    truth = gain(problem, p)
    expected = {"likely": truth > 1.04, "open": truth > 1.04, "against": truth < 0.9, "unlikely": truth < 1.0}
    assert expected.get(verdict, 0.95 < truth < 1.05), truth


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_of_sixteen_groups_is_never_wrong_by_two_classes(seed: int) -> None:
    """With few groups the verdict is more careful, not the opposite."""
    for problem, p, verdict in CASES:
        whole = sample(problem, p)
        rows = (whole.group >= 16 * seed) & (whole.group < 16 * seed + 16)
        part = CreditArrays(
            whole.turn_scores[rows], whole.turn_mask[rows], whole.outcome[rows], whole.group[rows] - 16 * seed,
            whole.in_statistics[rows], whole.in_loss[rows],
        )  # fmt: skip
        opposite = {"likely": "against", "open": "against", "against": "likely", "none": "likely"}
        assert forecast(part).verdict != opposite.get(verdict), problem.name


def test_its_numbers() -> None:
    """Two groups by hand: one with equal outcomes, one without."""
    mask = np.array([[1, 1], [1, 1], [1, 1], [1, 0]], bool)
    scores = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    ones = np.ones(4, bool)
    found = forecast(CreditArrays(scores, mask, np.array([0.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 1]), ones, ones))
    assert (found.n_groups, found.horizon, found.silent, found.speaking, found.rescued) == (2, 1.75, 0.5, 1.0, 0.5)
    assert found.alignment == pytest.approx(1.0)
    # centred sums 1, -1, 2, -2 on 2, 2, 2, 1 turns; to go: 1, -1 at turn 0 of the first group, then 2, -2 and 1 alone
    assert found.locality == pytest.approx(1 - (1 + 1 + 4 + 4 + 1) / (2 + 2 + 8 + 4))


def test_what_has_nothing_to_compare_is_said_to_be_nothing() -> None:
    empty = CreditArrays(np.zeros((0, 0)), np.zeros((0, 0), bool), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, bool))  # fmt: skip
    lone = CreditArrays(np.ones((2, 2)), np.ones((2, 2), bool), np.ones(2), np.arange(2), np.ones(2, bool), np.ones(2, bool))
    for arrays in (empty, lone):
        found: Forecast = forecast(arrays)
        assert found.verdict == "none"
        assert "no group has two members" in found.sentence
        assert all(np.isfinite(v) for v in found.metrics().values())


def few(n_groups: int, alike: bool) -> CreditArrays:
    """Groups of two: one success a group, with the higher turn score, or (for `alike` False) in every other group the lower."""
    scores, outcome = np.zeros((2 * n_groups, 2)), np.tile([1.0, 0.0], n_groups)
    for group in range(n_groups):
        scores[2 * group + (group % 2 and not alike), 0] = 1.0
    ones = np.ones(2 * n_groups, bool)
    return CreditArrays(scores, np.ones((2 * n_groups, 2), bool), outcome, np.repeat(np.arange(n_groups), 2), ones, ones)


@pytest.mark.parametrize("n_groups", [1, 2, 3, 4])
def test_few_groups_leave_it_open_however_well_they_agree(n_groups: int) -> None:
    found = forecast(few(n_groups, alike=True))
    assert (found.verdict, found.alignment) == ("open", pytest.approx(1.0)), found.sentence
    assert "cannot be seen from so few groups" in found.sentence
    assert "unlikely" not in found.sentence
    assert found.sentence.endswith(f"rests on {n_groups} group{'s' if n_groups > 1 else ''} alone")


def test_more_groups_decide() -> None:
    assert forecast(few(40, alike=True)).verdict == "likely"
    mixed = forecast(few(40, alike=False))
    assert mixed.verdict == "unlikely"
    assert "alone" not in mixed.sentence
