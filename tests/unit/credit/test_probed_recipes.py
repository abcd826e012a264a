"""What probing components measured, on its way from trajectories into recipes."""

from typing import Any

import numpy as np
import pytest

from agentgym.credit import CreditConfig, CreditResult, advantages, advantages_from_arrays
from agentgym.errors import ConfigError, DataError
from agentgym.types import Group, Score, Trajectory, Turn


def member(name: str, outcome: float, turns: list[dict[str, Score]], **fields: Any) -> Trajectory:
    played = tuple(Turn(k, "", scores=scores) for k, scores in enumerate(turns))
    scores = {"em": Score("trajectory", outcome, value=outcome)}
    return Trajectory(name, "Test-v0", "task", (), played, scores=scores, reward=outcome, success=outcome > 0.5, **fields)


def probed(accuracy: float, confidence: float) -> dict[str, Score]:
    parts = {"probe.accuracy": accuracy, "probe.confidence": confidence}
    return {"step_potential": Score("turn", 0.0, weight=0.0, parts=parts)}


def run(recipe: str, *members: Trajectory, **options: Any) -> CreditResult:
    return advantages(CreditConfig(recipe=recipe, options=options), [Group("g7", "task", members)])


def test_step_potentials_come_from_the_probing_component() -> None:
    rows = [[(0.2, 0.2), (1.0, 1.0), (1.0, 1.0)], [(0.3, 0.4), (0.1, 0.9)]]
    members = [member(f"t{i}", float(i == 0), [probed(*pair) for pair in row]) for i, row in enumerate(rows)]
    got = run("spae", *members, component="step_potential")
    extras = {n: [[pair[c] for pair in row] + [0.0] * (3 - len(row)) for row in rows] for c, n in enumerate(("accuracy", "confidence"))}
    mask = [[1, 1, 1], [1, 1, 0]]
    want = advantages_from_arrays(np.zeros((2, 3)), mask, [1, 0], [0, 0], config=CreditConfig(recipe="spae"), extras=extras)
    np.testing.assert_array_equal(got.values, want.values)
    assert np.abs(got.values).max() > 0.5


def test_a_missing_probe_is_named() -> None:
    bare = member("bare", 0.0, [{"step_potential": Score("turn", 0.0, weight=0.0)}])
    with pytest.raises(DataError, match="group g7, trajectory bare: the component 'step_potential' stored no accuracy"):
        run("spae", member("a", 1.0, [probed(0.5, 0.5)]), bare, component="step_potential")
    lost = bare.with_(in_statistics=False, in_loss=False)
    assert np.isfinite(run("spae", member("a", 1.0, [probed(0.5, 0.5)]), lost, component="step_potential").values).all()


def test_segments_are_masked_by_what_their_turns_found() -> None:
    def found(*raws: float) -> list[dict[str, Score]]:
        return [{"retrieval_gain": Score("turn", raw, weight=0.0)} for raw in raws] + [{}]

    right, wrong = member("right", 1.0, found(0.5, 0.0)), member("wrong", 0.0, found(0.5, 0.0))
    got = run("ggpo", right, wrong, component="retrieval_gain").values
    assert (got != 0).tolist() == [[True, False, True], [False, True, True]]
    with pytest.raises(ConfigError, match="the component 'retrieval_gains', which no trajectory has; did you mean"):
        run("ggpo", right, wrong, component="retrieval_gains")
    unknown = member("unknown", 0.0, [{"retrieval_gain": Score("turn", None, weight=0.0, valid=False)}])
    with pytest.raises(DataError, match="group g7, trajectory unknown, turn 0: the score 'retrieval_gain' has no number"):
        run("ggpo", right, unknown, component="retrieval_gain")


def test_log_ratios_come_from_their_component() -> None:
    def ratios(*values: float) -> list[dict[str, Score]]:
        return [{"log_ratio": Score("turn", 0.0, weight=0.0, parts={"policy": v - 1.0, "reference": -1.0})} for v in values]

    got = run("prl", member("a", 1.0, ratios(0.3, -0.1, 0.2)), member("b", 0.0, ratios(-0.2, 0.1, 0.0)), component="log_ratio")
    want = np.array([[0.96, 0.99, 0.98], [0.01, -0.01, 0.0]])  # the published numbers before the baseline
    np.testing.assert_allclose(got.values, want - want[::-1], rtol=0, atol=1e-12)
    with pytest.raises(ConfigError, match="reads 'log_ratio', which trajectories do not hold"):
        run("prl", member("a", 1.0, ratios(0.3)))
