"""Training on branches with the tiny policy: counterfactual credit and trees, from settings to records and views."""

import json
from pathlib import Path

import pytest

from agentgym.cli.main import main
from agentgym.rollout.record import read_trajectories

pytestmark = pytest.mark.torch

SMALL = (
    "env_args.world=synthetic:closed?worlds=8&kinds=2a,2b", "seed=3", "record_every=1", "evaluation.tasks=4",
    "demonstrations.episodes=64", "demonstrations.noise=0.3", "sft.steps=25", "sft.batch_episodes=16", "sft.warmup_steps=3",
    "train.steps=2", "train.n_prompts=3", "train.group_size=4", "train.schedule=constant",
)  # fmt: skip


def train(out: Path, *settings: str) -> list[dict]:
    assert main(["train", *SMALL, *settings, "--out", str(out), "--quiet"]) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["phase"] == "train"]


def test_counterfactual_credit(tmp_path, capsys):
    out = tmp_path / "run"
    steps = train(out, "credit.recipe=counterfactual", "branch.mode=turns", "branch.continuations=2")
    assert len(steps) == 2
    first = steps[0]["metrics"]
    assert first["n_episodes"] == 12
    assert first["branch/episodes"] == 2 * first["branch/groups"] > 0
    assert first["n_updates"] == 2
    assert 0 < first["rows"] <= 12
    (said,) = [line for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if line["phase"] == "forecast"]
    assert said["step"] == 0
    assert "turn credit" in said["note"]
    assert said["verdict"] in ("likely", "open", "unlikely", "against", "none")
    assert said["metrics"]["forecast/n_groups"] == 3  # branches say nothing about the start
    assert "credit/zero_variance/turn_0" in first
    assert "credit/component/answer_em/spread/trajectory" in first
    page = (out / "report.html").read_text()
    assert said["note"].replace("<", "\\u003c") in page
    records = {t.id: t for t in read_trajectories(out / "trajectories.jsonl")}
    advantages = {i: a for line in steps for i, a in line["advantages"].items()}
    assert set(advantages) == set(records)
    assert not any(any(advantages[t.id]) for t in records.values() if t.parent is not None)
    moved = [t for t in records.values() if t.parent is None and len(set(advantages[t.id])) > 1]
    assert moved, "the turns of an episode differ in credit"
    capsys.readouterr()
    assert main(["credit", str(out), "--recipe", "counterfactual", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["advantages"]
    again = {i: a for group in told.values() for i, a in group.items()}
    assert {i: pytest.approx(a) for i, a in advantages.items()} == again


def test_trees_feed_the_usual_recipes(tmp_path):
    out = tmp_path / "run"
    steps = train(out, "branch.mode=tree", "branch.continuations=3", "branch.budget=40")
    metrics = steps[0]["metrics"]
    assert 0 < metrics["branch/completions"] <= 3 * 40
    assert metrics["n_episodes"] == 12
    assert metrics["credit/n_groups"] == 3 + metrics["branch/groups"]
    branches = [t for t in read_trajectories(out / "trajectories.jsonl") if t.parent is not None]
    for t in branches:
        own = next(line["advantages"][t.id] for line in steps if t.id in line["advantages"])
        assert len(own) == len(t.turns)
        assert not any(own[: t.first_turn])


def test_counterfactual_credit_without_branches_is_refused(tmp_path, capsys):
    assert main(["train", *SMALL, "credit.recipe=counterfactual", "--out", str(tmp_path / "run")]) == 2
    assert "set branch.mode = 'turns'" in capsys.readouterr().err


def test_potentials_are_probed_for_the_recipes_that_read_them(tmp_path):
    out = tmp_path / "run"
    settings = ("credit.recipe=tips", "credit.options.component=step_potential", "credit.options.terminal=keep")
    steps = train(out, 'env_args.reward="answer_em + 0 * step_potential"', *settings)
    advantages = {i: a for line in steps for i, a in line["advantages"].items()}
    records = list(read_trajectories(out / "trajectories.jsonl"))
    scores = [turn.scores["step_potential"] for t in records for turn in t.turns]
    assert all(s.value == 0.0 and 0.0 <= s.parts["potential.after"] <= 1.0 for s in scores)
    assert any(abs(s.raw) > 1e-4 for s in scores if s.raw is not None)
    assert any(len(set(a)) > 1 for a in advantages.values()), "potentials differ from turn to turn"


@pytest.mark.parametrize(
    ("recipe", "component", "reward"),
    [
        ("spae", "step_potential", "answer_em + 0 * step_potential"),
        ("prl", "log_ratio", "answer_em + 0 * log_ratio"),
        ("ggpo", "retrieval_gain", "search"),
    ],
)
def test_recipes_learn_from_what_a_component_measured(tmp_path, recipe, component, reward):
    settings = (f"credit.recipe={recipe}", f"credit.options.component={component}", f'env_args.reward="{reward}"')
    steps = train(tmp_path / "run", *settings)
    assert len(steps) == 2
    advantages = [a for line in steps for a in line["advantages"].values()]
    assert any(len(set(a)) > 1 for a in advantages), "turns of an episode differ in credit"
    assert steps[-1]["metrics"]["rows"] > 0
