"""A run's dashboard shows what its own record holds, and is no part of what the run is."""

import json
import math
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("tensorboard", reason="needs the extra `sinks`")
pytestmark = [pytest.mark.torch, pytest.mark.sinks, pytest.mark.timeout(300)]

SMALL = (
    "sft.steps=2", "demonstrations.episodes=20", "train.n_prompts=2", "train.group_size=2", "train.steps=2",
    "evaluation.tasks=4",
)  # fmt: skip


def train(out, *settings):
    command = [sys.executable, "-m", "agentgym", "train", *SMALL, *settings, "--out", str(out), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_tensorboard_beside_a_run(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('log_to = ["tensorboard"]\n', encoding="utf-8")
    done = train(out, str(recipe))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["out"] == str(out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for phase, name, prefix in (("warmstart", "warmstart", "sft/"), ("train", "train", ""), ("evaluation", "eval", "eval/")):
        reader = EventAccumulator(str(out / "tensorboard" / name)).Reload()
        rows = [line for line in lines if line["phase"] == phase]
        assert len(rows) == 2
        want = {key.removeprefix(prefix) for row in rows for key in row["metrics"]}
        assert set(reader.Tags()["scalars"]) == want
        for row in rows:
            for key, value in row["metrics"].items():
                shown = {e.step: e.value for e in reader.Scalars(key.removeprefix(prefix))}
                assert math.isclose(shown[row["step"]], value, rel_tol=1e-6, abs_tol=1e-7)
    again = train(out)  # the same run without the sink is no other recipe
    assert again.returncode == 0, again.stderr
