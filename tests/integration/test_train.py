"""`agentgym train` as users run it: killed, interrupted, resumed, repeated, misused; and what it leaves behind."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fork_server import Command, ForkServer, wait_until

from agentgym.learn.checkpoint import latest
from agentgym.rollout.record import read_trajectories
from agentgym.seeding import stream
from agentgym.types import Trajectory

pytestmark = [pytest.mark.torch, pytest.mark.skipif(sys.platform != "linux", reason="signals, fork and /proc")]

WORLD = "env_args.world=synthetic:closed?worlds=8&kinds=2a"
SMALL = (
    WORLD, "seed=3", "record_every=1", "evaluation.tasks=4", "evaluation.every=3",
    "demonstrations.episodes=48", "demonstrations.noise=0",
    "sft.steps=15", "sft.batch_episodes=8", "sft.warmup_steps=3", "sft.checkpoint_every=5",
    "train.steps=6", "train.n_prompts=3", "train.group_size=4", "train.lr=2e-3", "train.schedule=constant",
    "train.checkpoint_every=2", "train.keep_checkpoints=2",
)  # fmt: skip
WHOLE = (*SMALL, "loss.kl_coef=0.01")
PROGRESS = re.compile(r"\[ *\d+\.\d s\] \S")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Processes that have imported torch already."""
    made = ForkServer(tmp_path_factory.mktemp("outputs"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """An unbroken run by the real command, flags and settings mixed; `args[-1]` is its folder."""
    out = tmp_path_factory.mktemp("whole") / "run"
    command = [sys.executable, "-m", "agentgym", "train", *WHOLE[:4], "--json", *WHOLE[4:], "--out", str(out)]
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM")}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def whole(finished: subprocess.CompletedProcess[str]) -> Path:
    """The folder of the unbroken run; not to be changed."""
    return Path(finished.args[-1])


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of the unbroken run's folder."""
    return shutil.copytree(whole, tmp_path / "copy")


def lines(out: Path, phase: str = "") -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl (of one phase)."""
    path = out / "metrics.jsonl"
    rows = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [line for line in map(json.loads, rows) if phase in ("", line["phase"])]


def timeless(line: dict[str, Any]) -> dict[str, Any]:
    return line | {"metrics": {k: v for k, v in line["metrics"].items() if not k.startswith("time/")}}


def assert_same_run(a: Path, b: Path) -> None:
    """Metrics but for times, trajectories and weights are equal, bit for bit."""
    assert list(map(timeless, lines(a))) == list(map(timeless, lines(b)))
    for name in ("trajectories.jsonl", "tokens.json", "config.toml", "model/model.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def episodes(out: Path) -> dict[int, list[Trajectory]]:
    """The kept trajectories by step."""
    by_step: dict[int, list[Trajectory]] = {}
    for trajectory in read_trajectories(out / "trajectories.jsonl"):
        by_step.setdefault(trajectory.seed[1], []).append(trajectory)
    return by_step


def one_error(done: Command, code: int = 2) -> str:
    """The one line on stderr of a command that failed."""
    assert done.code == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


# ---- a whole run


def test_a_run_prints_one_document_and_only_progress(finished: subprocess.CompletedProcess[str], whole: Path) -> None:
    document = json.loads(finished.stdout)
    assert finished.stdout.count("\n") == 1
    assert [e["step"] for e in document["evaluations"]] == [0, 3, 6]
    assert document["model"] == str(whole / "model")
    strange = [line for line in finished.stderr.splitlines() if not PROGRESS.match(line)]
    assert strange == [], "neither warnings nor progress bars of libraries"
    assert re.search(r"warm start 15/15 +loss", finished.stderr)
    assert re.search(r"step 6/6 +success", finished.stderr)
    for name in ("config.toml", "versions.json", "tokens.json", "trajectories.jsonl", "report.html"):
        assert (whole / name).stat().st_size > 0
    kept = sorted(p.name for p in (whole / "checkpoints").iterdir())
    assert kept == ["train-000004", "train-000006", "warmstart-000010", "warmstart-000015"]
    assert [line["step"] for line in lines(whole, "warmstart")] == list(range(15))
    assert [line["step"] for line in lines(whole, "train")] == list(range(6))


def test_learning_changed_the_weights_and_saw_reward_differences(whole: Path) -> None:
    """The comparisons below would mean little between runs that learn nothing."""
    assert max(line["metrics"]["grad_norm"] for line in lines(whole, "train")) > 1e-3
    assert sum(any(map(any, line["advantages"].values())) for line in lines(whole, "train")) >= 3
    before, after = (whole / "checkpoints" / n / "model/model.safetensors" for n in ("warmstart-000015", "train-000006"))
    assert before.read_bytes() != after.read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_a_finished_run_is_left_as_it_is(server: ForkServer, whole: Path, copy: Path) -> None:
    again = server.run("train", "--quiet", *WHOLE, "--json", "--out", copy)
    assert (again.code, again.stderr) == (0, "")
    assert [e["step"] for e in json.loads(again.stdout)["evaluations"]] == [0, 3, 6], "the curve is not lost"
    assert_same_run(copy, whole)


# ---- broken off


def test_a_run_killed_at_any_moment_ends_as_the_unbroken_one(server: ForkServer, whole: Path, tmp_path: Path) -> None:
    out, rng = tmp_path / "run", stream("kills")

    def half_written(phase: str) -> Callable[[], bool]:
        return lambda: any((out / "checkpoints").glob(f".{phase}-*.partial"))

    moments: list[tuple[str, Callable[[], bool], bool]] = [
        ("before the first checkpoint", lambda: len(lines(out, "warmstart")) >= 2, False),
        ("writing a checkpoint of the warm start", half_written("warmstart"), True),
        ("warm start", lambda: len(lines(out, "warmstart")) >= 6 + int(rng.integers(4)), False),
        ("learning, before the first checkpoint", lambda: len(lines(out, "train")) >= 1, False),
        ("writing a checkpoint of learning", half_written("train"), True),
        ("learning", lambda: len(lines(out, "train")) >= 3, False),
        ("writing the model", lambda: any(out.glob(".model-*.partial")), False),
    ]
    for name, reached, writing in moments:
        command = server.start("train", *WHOLE, "--out", out)
        assert wait_until(reached, command), f"finished before {name!r}: {command.stderr}"
        if not writing:
            time.sleep(float(rng.uniform(0, 0.1)))
        assert command.signal(signal.SIGKILL) == -signal.SIGKILL
        assert "Traceback" not in command.stderr
        if writing:
            assert half_written("*")(), "killed in the middle of it"
        with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"phase": "train", "st')  # the line that was being written
    last = server.run("train", *WHOLE, "--out", out, "--quiet")
    assert (last.code, last.stderr) == (0, "")
    assert_same_run(out, whole)
    assert not [*out.rglob("*.partial"), *out.rglob("*.tmp")], "nothing is left behind"


def test_an_interrupted_run_goes_on(server: ForkServer, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for phase, n in (("warmstart", 6), ("train", 2)):
        command = server.start("train", *WHOLE, "--out", out)
        assert wait_until(lambda phase=phase, n=n: len(lines(out, phase)) >= n, command)
        assert command.signal(signal.SIGINT) == 130
        assert "Traceback" not in command.stderr
        assert command.stderr.endswith("interrupted; what was finished is kept\n")
        assert "the same command goes on from the last checkpoint" in command.stderr
        assert command.stdout == ""
        assert (out / "report.html").exists()
    last = server.run("train", *WHOLE, "--out", out)
    assert last.code == 0
    assert re.search(r"resumed after (15 steps of the warm start|2 steps)", last.stderr)
    assert last.stdout.startswith("held-out success ")
    assert_same_run(out, whole)


def test_a_damaged_checkpoint_is_passed_over_and_said(server: ForkServer, whole: Path, copy: Path) -> None:
    newest = latest(copy)
    assert newest is not None
    (newest.path / "optimizer.pt").write_bytes((newest.path / "optimizer.pt").read_bytes()[:-100])
    done = server.run("train", *WHOLE, "--out", copy)
    assert done.code == 0
    assert "warning: " in done.stderr
    assert "train-000006 is damaged; going on from train-000004" in done.stderr
    assert_same_run(copy, whole)


def test_where_every_checkpoint_is_damaged_nothing_is_thrown_away(server: ForkServer, copy: Path) -> None:
    for path in (copy / "checkpoints").iterdir():
        (path / "state.json").write_text("{}")
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    said = one_error(server.run("train", *WHOLE, "--quiet", "--out", copy))
    assert "train-000006: damaged" in said
    assert {p: p.read_bytes() for p in before} == before


def test_a_full_disk_ends_a_run_that_can_go_on(server: ForkServer, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    full = server.run("train", *WHOLE, "--quiet", "--out", out, max_file_bytes=200_000)
    assert "warmstart-000005: the checkpoint cannot be written" in one_error(full)
    assert list((out / "checkpoints").iterdir()) == []
    shutil.copytree(whole / "checkpoints", out / "checkpoints", dirs_exist_ok=True)
    shutil.rmtree(out / "checkpoints" / "train-000006")
    for name in ("metrics.jsonl", "trajectories.jsonl"):
        shutil.copy(whole / name, out / name)
    full = server.run("train", *WHOLE, "--quiet", "--out", out, max_file_bytes=(out / "metrics.jsonl").stat().st_size)
    assert re.search(r"/run/(metrics|trajectories)\.jsonl: File too large", one_error(full))
    assert server.run("train", *WHOLE, "--out", out).code == 0
    assert_same_run(out, whole)


# ---- repeated


def test_the_same_seed_repeats_in_other_processes_and_batches(server: ForkServer, whole: Path, tmp_path: Path) -> None:
    settings = [s if s != "train.steps=6" else "train.steps=3" for s in WHOLE]
    other = server.run("train", *settings, "train.concurrency=5", "policy_args.max_rows=8", "--out", tmp_path / "a")
    assert other.code == 0, other.stderr
    first, second = episodes(whole), episodes(tmp_path / "a")
    assert sorted(second) == [0, 1, 2]
    for step in second:
        assert len(second[step]) == 12
        assert second[step] == first[step], "ids, tokens, log-probabilities, scores"
        assert all(t.segments[0].logprobs for t in second[step])
    reseeded = server.run("train", *settings, "--seed", "4", "sft.steps=1", "train.steps=1", "--out", tmp_path / "b")
    assert reseeded.code == 0, reseeded.stderr
    assert {t.segments for t in episodes(tmp_path / "b")[0]}.isdisjoint(t.segments for t in first[0])


# ---- what is left behind


def plain_model(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer, as anybody would load them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from agentgym.policies.hf.policy import no_bars

    with no_bars():
        return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def plain_logprobs(model: Any, ids: list[int]) -> list[float]:
    """log p(ids[i] | ids[:i]) for i >= 1 by one full forward pass of a loaded model."""
    import torch

    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    return [float(logprobs[i - 1, ids[i]]) for i in range(1, len(ids))]


def worst_gap(model: Any, trajectories: list[Trajectory]) -> float:
    """Largest difference between recorded and plain log-probabilities of sampled tokens."""
    gaps = [
        abs(recorded - plain)
        for t in trajectories
        for s in t.segments
        for plain, recorded, sampled in zip(
            plain_logprobs(model, list(s.ids)), s.logprobs[1:], s.mask[1:], strict=True
        )
        if sampled
    ]
    assert len(gaps) > 50
    return max(gaps)


def test_checkpoints_load_with_transformers_and_give_the_same_probabilities(whole: Path) -> None:
    kept = episodes(whole)
    for step, folder in ((0, "warmstart-000015"), (4, "train-000004")):
        model, _ = plain_model(whole / "checkpoints" / folder / "model")
        assert worst_gap(model, kept[step]) < 1e-5
        assert worst_gap(model, kept[step + 1]) > 1e-4, "the next step has other weights"


def test_the_saved_model_is_a_policy_to_go_on_from(server: ForkServer, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = (*SMALL, f"policy=hf:{whole / 'model'}", "sft.steps=0", "train.steps=1")
    done = server.run("train", *settings, "--out", out)
    assert done.code == 0, done.stderr
    model, _ = plain_model(whole / "model")
    assert worst_gap(model, episodes(out)[0]) < 1e-5


# ---- information gain


def check_information_gain(server: ForkServer, out: Path, n_steps: int) -> None:
    """Train with information gain as the only turn score, and compute every score anew."""
    settings = (
        *SMALL, f"train.steps={n_steps}", "env_args.reward=answer_em + 0.2*information_gain",
        "train.lr=3e-4", "train.checkpoint_every=1", "train.keep_checkpoints=0", f"evaluation.every={n_steps}",
    )  # fmt: skip
    done = server.run("train", *settings, "--out", out)
    assert done.code == 0, done.stderr
    kept, gains = episodes(out), []
    assert sorted(kept) == list(range(n_steps))
    for step, trajectories in kept.items():
        name = f"train-{step:06d}" if step else "warmstart-000015"
        model, tokenizer = plain_model(out / "checkpoints" / name / "model")
        for trajectory in trajectories:
            assert trajectory.in_loss
            assert set(trajectory.scores) == {"answer_em"}
            assert all(set(turn.scores) == {"information_gain"} for turn in trajectory.turns), "no other turn score"
            potentials = _potentials(model, tokenizer, trajectory)
            scores = [turn.scores["information_gain"] for turn in trajectory.turns]
            for score, before, after in zip(scores, potentials, potentials[1:], strict=False):
                assert score.valid
                assert not score.deferred
                assert abs(score.raw - (after - before)) < 1e-5
                assert score.value == pytest.approx(0.2 * score.raw, abs=1e-12)
            gained = math.fsum(score.raw for score in scores)
            assert abs(gained - (potentials[-1] - potentials[0])) < 1e-5, "the sum telescopes"
            assert trajectory.total == pytest.approx(trajectory.success + 0.2 * gained, abs=1e-9)
            gains += [score.raw for score in scores]
    assert sum(abs(gain) > 1e-3 for gain in gains) > 2 * n_steps, "there is something to compare"
    metrics = [line["metrics"] for line in lines(out, "train")]
    assert all("reward/information_gain" in m and "reward/retrieval_gain" not in m for m in metrics)
    evaluated = lines(out, "evaluation")[0]["metrics"]
    assert evaluated["eval/reward"] != evaluated["eval/success"], "information gain counts in evaluations too"


def _potentials(model: Any, tokenizer: Any, trajectory: Trajectory) -> list[float]:
    """p(best gold answer) before any turn and after each: the prompt, then all that was shown, in one user message."""
    assert trajectory.gold is not None
    answers = {text for a in trajectory.gold["answers"] for text in (a["text"], *a.get("aliases", ()))}
    messages = [{"role": m.role, "content": m.text} for m in trajectory.prompt]
    assert messages[-1]["role"] == "user"
    potentials: list[float] = []
    for turn in (None, *trajectory.turns):
        if turn is not None and not turn.error_code and all(r.ok for r in turn.results):
            shown = "\n\n".join(m.text for m in turn.messages if m.text)
            messages[-1] = messages[-1] | {"content": "\n\n".join(filter(None, (messages[-1]["content"], shown)))}
        elif turn is not None:
            potentials.append(potentials[-1])
            continue
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        context = tokenizer(text, add_special_tokens=False)["input_ids"]
        best = 0.0
        for answer in answers:
            opening, target, closing = (
                tokenizer(part, add_special_tokens=False)["input_ids"] for part in ("<answer>", answer, "</answer>")
            )
            ids = [*context, *opening, *target, *closing]
            inside = plain_logprobs(model, ids)[len(context) + len(opening) - 1 : -len(closing)]
            assert len(inside) == len(target)
            best = max(best, math.exp(math.fsum(inside) / len(inside)))
        potentials.append(best)
    return potentials


def test_information_gain_is_what_a_plain_model_says(server: ForkServer, tmp_path: Path) -> None:
    check_information_gain(server, tmp_path / "run", 3)


@pytest.mark.slow
def test_information_gain_over_forty_steps(server: ForkServer, tmp_path: Path) -> None:
    check_information_gain(server, tmp_path / "run", 40)


# ---- runs that cannot learn


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("sft.steps=0", "guards.patience=3"), "after 3 steps: the policy is dead"),
        (("policy=hf:WHOLE", "sft.steps=0", "train.lr=30", "guards.patience=2", "train.steps=12"), "the policy is dead"),
        (("policy=hf:WHOLE", "sft.steps=0", "train.lr=1e30"), "after 1 steps: .* not finite"),
        (("sft.lr=1e30", "sft.steps=3"), "after the warm start: .* not finite"),
    ],
    ids=["no warm start", "collapse", "not finite", "warm start not finite"],
)
def test_a_dead_run_stops_and_says_why(
    server: ForkServer, whole: Path, tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    settings = tuple(s.replace("WHOLE", str(whole / "model")) for s in settings)
    for _ in range(2):  # the second time it says the same from the checkpoint
        done = server.run("train", *SMALL, *settings, "--out", tmp_path / "run", "--quiet", "--json")
        assert done.code == 1, done.stderr
        assert done.stderr.startswith("stopped: after ")
        assert done.stderr.count("\n") == 1
        assert re.search(message, done.stderr)
        assert "train.lr" in done.stderr or "sft.lr" in done.stderr, "what to do next"
        document = json.loads(done.stdout)
        assert document["stopped"] in done.stderr
        assert document["model"] is None
    assert [line["step"] for line in lines(tmp_path / "run", "train")] == list(range(len(lines(tmp_path / "run", "train"))))


def test_guards_can_be_told_to_go_on(server: ForkServer, tmp_path: Path) -> None:
    settings = ("sft.steps=0", "guards.patience=1", "guards.stop=false", "train.steps=2")
    done = server.run("train", *SMALL, *settings, "--out", tmp_path / "run")
    assert done.code == 0
    assert "warning: the policy is dead" in done.stderr


def test_a_policy_without_the_words_of_a_world_is_warned_of(server: ForkServer, tmp_path: Path) -> None:
    """Its loss falls all the same: it learns to write the token for unknown words."""
    few = ("demonstrations.episodes=4", "sft.steps=1", "train.steps=1", "evaluation.tasks=1")
    done = server.run("train", *SMALL[1:], *few, "env_args.world=synthetic:natural?entities=100", "--out", tmp_path / "unknown")
    assert re.search(r"warning: \d\d% of the demonstrations' tokens are <unk>: .*policy_args\.words", done.stderr)
    assert "<unk>" not in server.run("train", *SMALL, *few, "--out", tmp_path / "known").stderr


# ---- misuse

MISTAKES = [
    (["train.lrr=1"], "unknown key 'lrr' at train; did you mean 'lr'"),
    (["tran.lr=1"], "did you mean 'train'"),
    (["train.lr=fast"], "train.lr: expected float, got str 'fast'"),
    (["good.toml", "train.lr=0"], "override 'train.lr=0': train: lr = 0.0: must be above 0"),
    (["train.lr=inf"], "must be above 0 and finite"),
    (["train.betas=[1.0, 0.9]"], "betas = [1.0, 0.9]: each must lie in [0, 1)"),
    (["sft.weight_decay=-1"], "weight_decay = -1.0"),
    (["train.steps=-1"], "train.steps = -1: must not be negative"),
    (["train.max_cpu_s=nan"], "train.max_cpu_s = nan"),
    (["train.concurrency=-1"], "train.concurrency = -1: must not be negative"),
    (["train.group_size=0"], "train.group_size = 0: must be 1 or more"),
    (["demonstrations.episodes=0"], "demonstrations.episodes = 0: must be 1 or more"),
    (["demonstrations.noise=1.5"], "demonstrations.noise = 1.5: must lie in [0, 1]"),
    (["evaluation.every=0"], "evaluation.every = 0 must be 1 or more"),
    (["record_every=0"], "record_every = 0: must be 1 or more"),
    (["sampling.max_tokens=0"], "sampling.max_tokens is 0"),
    (["guards.patience=0"], "patience = 0"),
    (["credit.recipe=turn_grop"], "turn_grop"),
    (["credit.turn_weight"], "credit.turn_weight: no such file or folder"),
    (["nowhere.toml"], "nowhere.toml: no such file or folder"),
    (["good.toml", "good.toml"], "train takes one recipe, got 2"),
    (["broken.toml"], "broken.toml: not TOML"),
    (["typo.toml"], "typo.toml: train.stpes: unknown key; did you mean 'steps'"),
    (["env=SearchQA-v9"], "SearchQA-v9"),
    (["env_args.wrld=x"], "takes no argument 'wrld'"),
    (["env_args.reward=answer_emm"], "answer_emm"),
    (["env_args.world=synthetic:closed?worlds=x"], "worlds"),
    (["train.split=trian"], "trian"),
    (["evaluation.split=dve"], "dve"),
    (["policy=tyni"], "did you mean 'tiny'"),
    (["policy=scripted"], "policy 'scripted' has no weights to train"),
    (["policy=hf:no/such/folder"], "hf:no/such/folder: there is no folder no/such/folder"),
    (["policy=no_such.py:Policy"], "policy 'no_such.py:Policy': there is no file no_such.py"),
    (["env_args.tools=no_such.py:t"], "tool 'no_such.py:t': there is no file no_such.py"),
    (['log_to=["wadnb"]'], "did you mean 'wandb'"),
    (["policy_args.sise=3"], "sise"),
    (["demonstrations.policy=scriptde"], "did you mean 'scripted'"),
    (["--seeed", "3"], "unknown argument '--seeed'; did you mean '--seed'"),
    (["--out", "good.toml"], "good.toml: is or lies below a file"),
    (["--out", "good.toml/run"], "is or lies below a file"),
    (["--out", "/proc/nowhere"], "/proc/nowhere"),
    (["--out", "evaluated"], "evaluated holds trajectories.jsonl and eval.json but no config.toml"),
    (["--out", "other"], "other holds a run of another recipe (seed = 1 there, 3 here)"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(m[0])[:50] for m in MISTAKES])
def test_every_mistake_gives_one_clear_line(
    server: ForkServer, tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "good.toml": "[train]\nsteps = 1\n", "broken.toml": "[train\n", "typo.toml": "[train]\nstpes = 1\n",
        "evaluated/eval.json": "{}", "evaluated/trajectories.jsonl": "{}\n", "other/config.toml": "seed = 1\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    words = [str(tmp_path / w) if w in ("evaluated", "other") or w.endswith((".toml", "toml/run")) else w for w in words]
    out = [] if "--out" in words else ["--out", str(tmp_path / "run")]
    said = one_error(server.run("train", "--quiet", *SMALL, *words, *out))
    assert message in said
    assert {p: p.read_bytes() for p in before} == before
    left = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")} - {"run"}
    assert left == {Path(name).parts[0] for name in files}
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_one_folder_takes_one_process_at_a_time(server: ForkServer, tmp_path: Path) -> None:
    first = server.start("train", *SMALL, "--out", tmp_path / "run")
    assert wait_until(lambda: bool(lines(tmp_path / "run")), first)
    assert "another process is training there" in one_error(server.run("train", "--quiet", *SMALL, "--out", tmp_path / "run"))
    assert first.signal(signal.SIGKILL) == -signal.SIGKILL
    second = server.start("train", *SMALL, "--out", tmp_path / "run")
    assert wait_until(lambda: "warm start" in second.stderr, second), "a killed process does not keep the folder"
    second.signal(signal.SIGKILL)


def test_settings_and_flags_in_any_order(server: ForkServer, tmp_path: Path) -> None:
    recipe = tmp_path / "a=b.toml"
    recipe.write_text("seed = 9\n[train]\nsteps = 7\n")
    orders = [
        ("train.lr=2e-3", "--quiet", recipe, "--print-config", "sft.steps=5", "--seed", "4", "train.lr=3e-3", "--json"),
        ("--quiet", "train.lr=2e-3", "--json", "train.lr=3e-3", "--seed=4", "sft.steps=5", "--print-config", recipe),
        ("--print-config", "--json", "--seed", "4", recipe, "train.lr=2e-3", "train.lr=3e-3", "--quiet", "sft.steps=5"),
    ]
    for words in orders:
        done = server.run("train", *words)
        assert (done.code, done.stderr) == (0, "")
        config = json.loads(done.stdout)
        assert (config["train"]["lr"], config["train"]["steps"], config["sft"]["steps"], config["seed"]) == (3e-3, 7, 5, 4)
