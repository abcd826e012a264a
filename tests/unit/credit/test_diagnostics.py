"""Diagnostics by turn index, by hand; and the command that prints them."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from agentgym.cli.main import main
from agentgym.credit import CreditConfig, Scales, advantages, advantages_from_arrays, recipe_of
from agentgym.credit.diagnostics import by_component, by_turn, grouped, turn_metrics
from agentgym.rollout.record import write_trajectories
from agentgym.types import Score, Trajectory, Turn

SCORES = [[1.0, 0.5, 1.0], [0.5, 0.0], [0.75], [0.0, 1.0, 0.5]]
OUTCOMES = [1.0, 0.0, 0.0, 1.0]


def one(scope, value):
    return {f"{scope}_score": Score(scope, raw=value, value=value)}


def record(i, scores, outcome, **changes):
    turns = tuple(Turn(k, "a", scores=one("turn", r), reward=r) for k, r in enumerate(scores))
    fields = {"group_id": "g", "scores": one("trajectory", outcome), "reward": outcome} | changes
    return Trajectory(f"t{i}", "E", "q", (), turns, **fields)


def records():
    return [record(i, s, o) for i, (s, o) in enumerate(zip(SCORES, OUTCOMES, strict=True))]


def diagnostics(trajectories, **settings):
    config = CreditConfig(scale="none", turn_weight=1.0, **settings)
    result = advantages(config, grouped(trajectories))
    return by_turn(recipe_of(config), result.arrays, Scales.start(config)), result


def test_the_golden_group():
    turns, result = diagnostics(records())
    assert [t.n_turns for t in turns] == [4, 3, 2]
    assert [t.group_size for t in turns] == [4, 3, 2]
    assert [t.singletons for t in turns] == [0, 0, 0]
    assert [t.zero_variance for t in turns] == [0, 0, 0]
    assert [t.sign_agreement for t in turns] == [1, 1, 1]
    total = np.abs(result.values).sum(0)
    assert [t.mass for t in turns] == pytest.approx((total / total.sum()).tolist())
    assert [t.mean_abs for t in turns] == pytest.approx((total / [4, 3, 2]).tolist())


def test_a_lone_late_turn_and_equal_early_ones_are_seen():
    rows = [record(0, [0.5, 1.0], 0.0), record(1, [1.5], 1.0), record(2, [1.0], 1.0, group_id="h"), record(3, [1.0], 0.0, group_id="h")]
    turns, _ = diagnostics(rows)
    first, second = turns
    assert (first.group_size, second.group_size) == (2.0, 1.0)
    assert (first.singletons, second.singletons) == (0, 1)
    assert first.zero_variance == 1.0  # g: 1.5 to go on both sides; h: equal scores
    assert second.zero_variance is None
    assert first.sign_agreement is None
    assert second.sign_agreement == 0.0


def test_rows_outside_the_masks_are_in_no_number():
    lost = record(9, [5.0, 5.0, 5.0, 5.0], 9.0, in_statistics=False, in_loss=False)
    for with_lost, without in zip(diagnostics([*records(), lost])[0], diagnostics(records())[0], strict=True):
        assert asdict(with_lost) == pytest.approx(asdict(without))
    counted = replace(lost, in_statistics=True)
    turns, _ = diagnostics([*records(), counted])
    assert [t.n_turns for t in turns] == [4, 3, 2]
    assert [t.group_size for t in turns] == [5, 4, 3]


def test_a_recipe_without_turn_level_has_no_variance_of_turns():
    config = CreditConfig(recipe="grpo")
    result = advantages_from_arrays([[0.0], [0.0]], [[True], [True]], [1.0, 0.0], ["a", "a"], config=config)
    (turn,) = by_turn(recipe_of(config), result.arrays, Scales.start(config))
    assert (turn.zero_variance, turn.sign_agreement, turn.mass) == (None, None, 1.0)


def test_groups_fall_back_to_the_task():
    rows = [record(0, [1.0], 1.0, group_id=""), record(1, [0.0], 0.0, group_id=""), record(2, [0.0], 0.0)]
    assert [[t.id for t in g.trajectories] for g in grouped(rows)] == [["t0", "t1"], ["t2"]]


def test_the_command(tmp_path, capsys):
    path = tmp_path / "trajectories.jsonl"
    write_trajectories(path, [*records(), record(9, [1.0], 1.0, group_id="alone")])
    settings = ["--credit", "scale=none", "--credit", "turn_weight=1"]
    assert main(["credit", str(path), "--json", *settings]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["advantages"]["g"]["t0"] == pytest.approx([2.25, 1.666667, 1.5], abs=1e-6)
    assert found["advantages"]["alone"]["t9"] == [0.0]
    assert [t["n_turns"] for t in found["by_turn"]] == [5, 3, 2]
    assert "exactly the gradient" in found["recipe"]
    assert len(found["notes"]) == 1
    assert main(["credit", str(tmp_path), *settings, "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "t0: scores [+1.00 +0.50 +1.00] +1.00 -> [+2.250 +1.667 +1.500]" in out
    assert "1 more group" in out
    assert "1 trajectories have nobody" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--recipe", "turn_grop"], "did you mean 'turn_grpo'"),
        (["--format", "atfi"], "did you mean 'atif'"),
        (["--credit", "turn_wieght=1"], "turn_weight"),
    ],
)
def test_wrong_names_are_said(tmp_path, capsys, options, says):
    path = tmp_path / "trajectories.jsonl"
    write_trajectories(path, records())
    assert main(["credit", str(path), *options]) == 2
    assert says in capsys.readouterr().err


def test_a_log_without_scores_says_so(tmp_path, capsys):
    path = tmp_path / "trajectories.jsonl"
    write_trajectories(path, [Trajectory("t", "E", "q", (), (Turn(0, "a"),))])
    assert main(["credit", str(path)]) == 0
    assert "no trajectory has a score" in capsys.readouterr().out
    path.write_text("", encoding="utf-8")
    assert main(["credit", str(path)]) == 2
    assert "holds no trajectory" in capsys.readouterr().err


def test_how_many_members_share_the_credit():
    turns, result = diagnostics(records())
    for k, t in enumerate(turns):
        a = np.abs(result.values[:, k])
        assert t.effective_size == pytest.approx(a.sum() ** 2 / (a**2).sum())


def test_components_turn_by_turn():
    rows = [*records(), record(9, [0.5, 0.25], 1.0, group_id="alone")]
    found = {(c.component, c.turn): c for c in by_component(grouped(rows))}
    assert list(found) == [("trajectory_score", None), ("turn_score", 0), ("turn_score", 1), ("turn_score", 2)]
    first = found["turn_score", 0]
    deviation = np.array([1.0, 0.5, 0.75, 0.0]) - 0.5625
    assert (first.n, first.group_size, first.singletons, first.zero_variance) == (5, 2.5, 1, 0.0)
    assert first.effective_size == pytest.approx(np.abs(deviation).sum() ** 2 / (deviation**2).sum())
    assert first.spread == pytest.approx(np.sqrt((deviation**2).mean()))
    assert first.sign_agreement == 0.5  # .4375 with success, -.0625 without; .1875 without, -.5625 with
    outcome = found["trajectory_score", None]
    assert (outcome.n, outcome.singletons, outcome.sign_agreement, outcome.effective_size) == (5, 1, 1.0, 4.0)
    last = found["turn_score", 2]
    assert (last.n, last.group_size, last.zero_variance) == (2, 2.0, 0.0)
    equal = {(c.component, c.turn): c for c in by_component(grouped([record(0, [0.5], 0.0), record(1, [0.5], 0.0)]))}
    assert equal["turn_score", 0].zero_variance == 1.0
    assert equal["turn_score", 0].sign_agreement is None
    assert equal["turn_score", 0].effective_size == equal["turn_score", 0].spread == 0.0


def test_metrics_hold_the_first_turns_and_nothing_undefined():
    turns, _ = diagnostics(records())
    components = by_component(grouped(records()))
    metrics = turn_metrics(turns, components, most=2)
    assert metrics["group_size/turn_1"] == 3.0
    assert metrics["component/turn_score/zero_variance/turn_0"] == 0.0
    assert metrics["component/trajectory_score/spread/trajectory"] == pytest.approx(0.5)
    assert not any(name.endswith("turn_2") for name in metrics)
    lone = by_component(grouped(records()[:1]))
    assert not any("zero_variance" in name for name in turn_metrics((), lone))
    assert by_component([]) == ()
