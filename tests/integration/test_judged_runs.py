"""Rewards that a judge decides, through evaluation and training, over a real endpoint that answers, misbehaves or is down."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server as srv
import judge_server as judges
import pytest

from agentgym import hooks
from agentgym.cli.main import main
from agentgym.rollout import read_trajectories

ENV = "SearchQA-v0"
REWARD = Path(__file__).parent.parent / "support" / "judged.toml"
NAME = "checklist:judged_search"
PATIENCE = ("max_attempts=1", "timeout_s=5", "deadline_s=5")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[srv.ChatServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with srv.serving() as running:
        running.default = judges.judging(lambda text, statement: (True, text[:3]))
        yield running


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    hooks.CHECKLISTS._targets.pop("judged_search", None)


def evaluated(url: str, *more: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any, str]:
    """The exit code, the document and stderr of an evaluation of six careless episodes."""
    arguments = ["eval", ENV, "--world", "synthetic:closed?worlds=4", "--reward", str(REWARD), "--limit", "6", "--json"]
    arguments += ["--quiet", "--policy", "scripted", "--noise", "0.4", "--judge", "endpoint", "--judge-arg", f"base_url={url}"]
    code = main([*arguments, *(word for option in PATIENCE for word in ("--judge-arg", option)), *more])
    done = capsys.readouterr()
    return code, json.loads(done.out) if done.out else None, done.err


# ---- evaluation


def test_an_evaluation_asks_each_question_once_and_counts_it(
    server: srv.ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body, err = evaluated(server.url, "--out", str(tmp_path / "e"), "--judge-arg", "canary_every=0", capsys=capsys)
    assert code == 0
    records = list(read_trajectories(tmp_path / "e" / "trajectories.jsonl"))
    judged = [r for r in records if r.answer]
    assert judged
    assert body["services"]["judge/requests"] == len(server.requests) <= len(judged), "reward and outcome ask together"
    assert body["services"]["judge/abstained"] == body["n_abstained"] == 0
    assert f"the judge was asked {len(server.requests)} times and abstained 0 times" in err
    for record in records:
        assert not any(s.deferred for s in record.scores.values())
        searched = any(c.name == "search" for t in record.turns for c in t.calls)
        assert record.scores[NAME].raw == (searched + bool(record.answer)) / 2
        assert record.scores["checklist_met:judged_search"].raw == float(searched and bool(record.answer))
    again, body_again, _ = evaluated(server.url, "--out", str(tmp_path / "e"), "--judge-arg", "canary_every=0", capsys=capsys)
    assert (again, body_again["measures"]) == (0, body["measures"]), "a finished one is read, not asked again"
    assert len(server.requests) == body["services"]["judge/requests"]


def test_an_evaluation_whose_judge_fails_at_times_leaves_out_what_it_did_not_decide(
    server: srv.ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies = [srv.raw(b"{}", 500), srv.reset]
    code, body, err = evaluated(server.url, "--out", str(tmp_path / "e"), capsys=capsys)
    records = list(read_trajectories(tmp_path / "e" / "trajectories.jsonl"))
    lost = [r for r in records if not r.in_statistics]
    assert code == 0
    assert 0 < len(lost) < len(records)
    assert body["n_abstained"] == body["n_faults"] == len(lost)
    assert all(not r.scores[NAME].valid and not r.in_loss and NAME in r.error for r in lost)
    assert "warning: the judge abstained" in err
    assert f"{len(lost)} episodes were lost to faults and are in no mean" in err
    code, body, _ = evaluated(server.url, "--out", str(tmp_path / "e"), capsys=capsys)
    assert (code, body["n_faults"]) == (0, 0), "they run again on resume"


def test_an_evaluation_with_no_judge_at_the_address_says_so(
    server: srv.ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.default = srv.raw(b"down", 503)
    code, body, err = evaluated(server.url, capsys=capsys)
    answered = body["n_episodes"]
    assert body["n_abstained"] == body["n_faults"]
    assert (code == 3) == (body["n_faults"] == answered)
    assert body["services"]["judge/abstain_rate"] == 1.0
    assert "the judge abstained on said" in err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "ask a judge; say which with --judge"),
        (("--judge", "endpont"), "did you mean 'endpoint'"),
        (("--judge", "endpoint"), "base_url"),
        (("--judge-arg", "base_ur=x"), "did you mean 'base_url'"),
        (("--judge-arg", "votes=many"), "votes"),
    ],
)
def test_a_judge_that_cannot_be_made_is_one_clear_line(
    arguments: tuple[str, ...], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--world", "synthetic:closed?worlds=4", "--reward", str(REWARD), "--limit", "1")
    assert main(["eval", ENV, *small, *arguments]) == 2
    err = capsys.readouterr().err
    assert wanted in err
    assert err.count("\n") == 1


def test_a_judge_that_nothing_asks_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--world", "synthetic:closed?worlds=4", "--limit", "1", "--quiet")
    assert main(["eval", ENV, *small, "--judge", "stub"]) == 0
    assert "no component of the reward search asks a judge" in capsys.readouterr().err


# ---- training

TRAINED = (
    "env_args.world=synthetic:closed?worlds=4&kinds=1", "seed=3", "record_every=1", "evaluation.tasks=3", "evaluation.every=9",
    "demonstrations.episodes=48", "demonstrations.noise=0", "sft.steps=12", "sft.batch_episodes=8", "sft.warmup_steps=3",
    "sft.checkpoint_every=12", "train.n_prompts=2", "train.group_size=3", "train.checkpoint_every=9", "guards.patience=1",
)  # fmt: skip
ITEMS = '{ id = "searched", call = "search" }, { id = "said", kind = "judge", focus = "answer", question = "Names one." }'


def trained(out: Path, url: str, *more: str) -> int:
    recipe = out.parent / "recipe.toml"
    recipe.write_text(
        f'[reward]\nexpression = "answer_em + 0.2*{NAME}"\n'
        f"[checklist.judged_search]\nitems = [{ITEMS}]\n"
        f'[judge]\ncanary_every = 0\noptions = {{ base_url = "{url}", max_attempts = 1, timeout_s = 5, deadline_s = 5 }}\n',
        encoding="utf-8",
    )
    return main(["train", str(recipe), *TRAINED, *more, "--out", str(out)])


def metrics(out: Path, phase: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["phase"] == phase]


@pytest.mark.torch
def test_a_judged_checklist_is_a_reward_of_training(
    server: srv.ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained(tmp_path / "run", server.url, "train.steps=2") == 0
    steps = metrics(tmp_path / "run", "train")
    records = list(read_trajectories(tmp_path / "run" / "trajectories.jsonl"))
    assert [line["metrics"]["judge/abstained"] for line in steps] == [0, 0]
    assert sum(line["metrics"]["judge/requests"] for line in steps) > 0
    counted = sum(line["metrics"]["judge/requests"] for p in ("train", "evaluation") for line in metrics(tmp_path / "run", p))
    assert counted >= len(server.requests) > 0, "counts are of the step, and add up"
    assert any(f"reward/{NAME}" in line["metrics"] and line["metrics"][f"reward/{NAME}"] > 0 for line in steps)
    assert all(t.in_loss and not s.deferred for t in records for turn in t.turns for s in turn.scores.values())
    assert "abstained" not in capsys.readouterr().err


@pytest.mark.torch
def test_training_goes_on_when_the_judge_fails_and_says_so(
    server: srv.ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.default = srv.raw(b"down", 503)
    assert trained(tmp_path / "run", server.url, "train.steps=2") == 0
    steps = metrics(tmp_path / "run", "train")
    assert [line["step"] for line in steps] == [0, 1]
    assert any(line["metrics"]["judge/abstain_rate"] == 1.0 for line in steps)
    records = list(read_trajectories(tmp_path / "run" / "trajectories.jsonl"))
    lost = [t for t in records if not t.in_loss]
    assert lost
    assert all("the judge abstained" in t.error and not t.in_statistics for t in lost)
    assert all(t.end_reason not in ("service_error", "env_error") for t in lost), "the episodes themselves were well"
    err = capsys.readouterr().err
    assert "judge abstained" in err
    assert "lost to faults" in err


@pytest.mark.torch
def test_a_run_without_the_judge_that_its_reward_asks_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *TRAINED, "reward.expression=checklist:judged_search", f'checklist={{ judged_search = {{ items = [{ITEMS}] }} }}', "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "a table [judge]" in err
    assert "base_url" in err
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
