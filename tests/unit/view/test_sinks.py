"""Dashboards get a run's numbers: read back from what the real packages wrote, without a network."""

import json
import os
import sqlite3
import subprocess
import sys

import pytest

from agentgym import hooks
from agentgym.errors import MissingExtraError, NotRegisteredError
from agentgym.registry import Registry
from agentgym.view.sinks import Sinks

EVENTS = [
    ("demonstrations", 0, {"episodes": 9.0}),
    ("warmstart", 0, {"sft/loss": 2.5}),
    ("warmstart", 1, {"sft/loss": 1.5}),
    ("evaluation", 0, {"eval/success": 0.125}),
    ("train", 0, {"success": 0.25, "time/cpu_s": 1.0}),
    ("train", 1, {"success": 0.5, "time/cpu_s": 2.0}),
    ("done", 2, {"time/total_cpu_s": 3.0}),
]


@pytest.fixture
def said():
    return []


def feed(names, out, said, events=EVENTS):
    out.mkdir(exist_ok=True)
    sinks = Sinks(names, out, {"env": "SearchQA-v0", "train": {"steps": 2}}, said.append)
    for event in events:
        sinks.event(*event)
    sinks.close()


@pytest.mark.sinks
def test_tensorboard_event_files_hold_every_metric_by_phase_and_step(tmp_path, said):
    pytest.importorskip("tensorboard", reason="needs the extra `sinks`")
    feed(["tensorboard"], tmp_path / "run", said)
    assert _tensorboard(tmp_path / "run") == {
        ("warmstart", "loss"): [(0, 2.5), (1, 1.5)],
        ("eval", "success"): [(0, 0.125)],
        ("train", "success"): [(0, 0.25), (1, 0.5)],
        ("train", "time/cpu_s"): [(0, 1.0), (1, 2.0)],
    }
    assert said == []


@pytest.mark.sinks
def test_a_resumed_run_takes_the_place_of_the_steps_that_it_repeats(tmp_path, said):
    pytest.importorskip("tensorboard", reason="needs the extra `sinks`")
    feed(["tensorboard"], tmp_path / "run", said)
    again = [("resumed", 1, {"in_training": 1.0}), ("train", 1, {"success": 0.75}), ("evaluation", 2, {"eval/success": 0.5})]
    feed(["tensorboard"], tmp_path / "run", said, again)
    found = _tensorboard(tmp_path / "run")
    assert found["train", "success"] == [(0, 0.25), (1, 0.75)]
    assert found["eval", "success"] == [(0, 0.125), (2, 0.5)]
    assert found["warmstart", "loss"] == [(0, 2.5), (1, 1.5)]


def _tensorboard(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in (out / "tensorboard").iterdir():
        reader = EventAccumulator(str(folder), purge_orphaned_data=True)
        reader.Reload()
        for tag in reader.Tags()["scalars"]:
            found[folder.name, tag] = [(e.step, e.value) for e in reader.Scalars(tag)]
    return found


ALONE = """
import json, sys
from pathlib import Path
from agentgym.view.sinks import Sinks
out = Path("run"); out.mkdir()
sinks = Sinks([sys.argv[1]], out, {"env": "SearchQA-v0"}, sys.exit)
for event in json.loads(sys.argv[2]):
    sinks.event(*event)
sinks.close()
"""


def feed_alone(name, folder, **environment):
    """Feed a sink in a process of its own, as a run does: its package starts services and says goodbye at the end."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, name, json.dumps(EVENTS)], cwd=folder, capture_output=True, text=True, timeout=300,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # the command's own
    return folder / "run"


@pytest.mark.sinks
def test_wandb_writes_an_offline_run_with_the_recipe_and_every_step(tmp_path):
    pytest.importorskip("wandb", reason="needs the extra `sinks`")
    out = feed_alone("wandb", tmp_path)
    (written,) = out.glob("wandb/offline-run-*/run-*.wandb")
    body = written.read_bytes()
    (name,) = (out / "wandb").glob("id.txt")
    for text in (b"SearchQA-v0", b"train/success", b"eval/success", b"warmstart/loss", b"train/step", name.read_bytes().strip()):
        assert text in body
    assert body.count(b"train/time/cpu_s") >= 2


@pytest.mark.sinks
def test_trackio_writes_its_own_database(tmp_path):
    pytest.importorskip("trackio", reason="needs the extra `sinks`")
    feed_alone("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "db"))
    with sqlite3.connect(tmp_path / "db" / "agentgym.db") as base:
        rows = [json.loads(m) for (m,) in base.execute("select metrics from metrics where run_name = 'run' order by id")]
    base.close()
    assert [row for row in rows if "train/success" in row] == [
        {"train/success": 0.25, "train/time/cpu_s": 1.0, "train/step": 0},
        {"train/success": 0.5, "train/time/cpu_s": 2.0, "train/step": 1},
    ]
    assert len(rows) == 5


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_said_with_the_line_to_run(tmp_path, said, monkeypatch, name):
    for loaded in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"'{name}'.*pip install 'agentic-gym\[sinks\]'"):
        feed([name], tmp_path / "run", said)


def test_an_unknown_sink_is_refused_with_the_nearest_name(tmp_path, said):
    with pytest.raises(NotRegisteredError, match="tensorboard"):
        feed(["tensorbord"], tmp_path / "run", said)


def test_a_sink_that_fails_is_dropped_and_the_others_go_on(tmp_path, said, monkeypatch):
    kept = []

    class Kept:
        def __init__(self, out, recipe):
            assert recipe["train"]["steps"] == 2

        def write(self, phase, step, metrics):
            kept.append((phase, step))

        def resumed(self, phase, step): ...

        def close(self):
            kept.append("closed")

    class Full(Kept):
        def write(self, phase, step, metrics):
            raise OSError("no space left on device")

    monkeypatch.setattr(hooks, "SINKS", Registry("sink"))
    hooks.SINKS.add("kept", Kept)
    hooks.SINKS.add("full", Full)
    feed(["full", "kept"], tmp_path / "run", said)
    assert kept == [("warmstart", 0), ("warmstart", 1), ("eval", 0), ("train", 0), ("train", 1), "closed"]
    assert said == ["sink full failed and gets nothing more: OSError: no space left on device"]
