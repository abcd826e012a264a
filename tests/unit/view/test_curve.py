"""Learning curves as SVG: the drawn points are the metrics, seeds get their mean, odd folders a clear error."""

import itertools
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from run_folders import EVERY, STEPS, WARM, success_at, write_run

from agentgym.cli.main import main
from agentgym.errors import ConfigError, DataError
from agentgym.view import draw_curves

SVG = "{http://www.w3.org/2000/svg}"
AT = [s for s in range(STEPS + 1) if s % EVERY == 0]


def elements(root: ET.Element, tag: str, klass: str) -> list[ET.Element]:
    return [e for e in root.iter(f"{SVG}{tag}") if klass in e.get("class", "").split()]


def axis(root: ET.Element, klass: str, key: str) -> tuple[float, float]:
    """(pixel at 0, pixels per unit), read off the numbers of an axis."""
    marks = [(float((e.text or "").replace(",", "")), float(e.get(key, "nan"))) for e in elements(root, "text", klass)]
    (v0, p0), (v1, p1) = marks[0], marks[-1]
    per_unit = (p1 - p0) / (v1 - v0)
    return p0 - v0 * per_unit, per_unit


def points(root: ET.Element, klass: str) -> list[tuple[float, float]]:
    """(x, success) of the dots of one line, in units of the axes."""
    (x0, dx), (y0, dy) = axis(root, "tick-x", "x"), axis(root, "tick-y", "y")
    # numbers of the vertical axis are written 4 below their line
    return [
        ((float(e.get("cx", "nan")) - x0) / dx, (float(e.get("cy", "nan")) - y0 + 4) / dy)
        for e in elements(root, "circle", klass)
    ]


def test_points_are_the_metrics(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"r{seed}", seed=seed) for seed in range(3)]
    root = ET.fromstring(draw_curves(runs))
    for seed in range(3):
        expected = [(step, success_at(step, seed)) for step in AT]
        assert points(root, f"s{seed}") == [pytest.approx(p, abs=2e-3) for p in expected]
    assert points(root, "mean") == [pytest.approx((step, success_at(step, 1)), abs=2e-3) for step in AT]
    names = [e.text for e in root.iter(f"{SVG}text") if e.get("class", "").startswith("name")]
    assert sorted(map(str, names)) == [
        f"mean {success_at(STEPS, 1):.3f}",
        *(f"seed {s} {success_at(STEPS, s):.3f}" for s in range(3)),
    ]
    heights = sorted(float(e.get("y", "nan")) for e in root.iter(f"{SVG}text") if e.get("class", "").startswith("name"))
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 16
    # the warm start is marked, and ends where learning begins
    strip = elements(root, "rect", "warm")[0]
    assert float(strip.get("x", "nan")) + float(strip.get("width", "nan")) == pytest.approx(
        axis(root, "tick-x", "x")[0], abs=0.1
    )
    assert f"{WARM} steps" in [e.text for e in elements(root, "text", "warm-text")]


def test_against_processor_time(tmp_path: Path) -> None:
    root = ET.fromstring(draw_curves([write_run(tmp_path / "r")], against="cpu"))
    # at 0: the end of the warm start; later: the time after the last learner step before the evaluation
    expected = [4.0, 10.0 + 5 * 3, 10.0 + 5 * 7]
    assert [x for x, _ in points(root, "s0")] == [pytest.approx(x, abs=0.1) for x in expected]
    strip, (x0, dx) = elements(root, "rect", "warm")[0], axis(root, "tick-x", "x")
    assert (float(strip.get("x", "nan")) - x0) / dx == pytest.approx(0.0, abs=0.1)
    assert float(strip.get("width", "nan")) / dx == pytest.approx(4.0, abs=0.1)


def test_one_run_shows_its_interval_and_no_warm_start_no_mark(tmp_path: Path) -> None:
    root = ET.fromstring(draw_curves([write_run(tmp_path / "r", warm=0)]))
    band = elements(root, "path", "area")[0].get("d", "")
    heights = [float(pair.split(",")[1]) for pair in re.findall(r"[\d.]+,[\d.]+", band)]
    y0, dy = axis(root, "tick-y", "y")
    expected = [success_at(s) + 0.1 for s in AT] + [success_at(s) - 0.1 for s in reversed(AT)]
    assert [(y - y0 + 4) / dy for y in heights] == [pytest.approx(v, abs=2e-3) for v in expected]
    assert elements(root, "rect", "warm") == []


def test_different_recipes_have_no_mean(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "one", seed=1), write_run(tmp_path / "<two>&", seed=1)]
    with (runs[1] / "config.toml").open("a", encoding="utf-8") as file:
        file.write("turn_weight = 1.0\n")
    root = ET.fromstring(draw_curves(runs))
    assert elements(root, "path", "mean") == []
    names = [e.text for e in elements(root, "text", "name")]
    assert sorted(map(str, names)) == [f"<two>& {success_at(STEPS, 1):.3f}", f"one {success_at(STEPS, 1):.3f}"], (
        "same seed: folders' names"
    )


def test_stands_alone_in_light_and_dark(tmp_path: Path) -> None:
    text = draw_curves([write_run(tmp_path / "r")])
    assert "prefers-color-scheme: dark" in text
    assert set(re.findall(r"\w+://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script|href|url\(|@import", text)


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="no run to draw"):
        draw_curves([])
    with pytest.raises(ConfigError, match="allowed: steps, cpu"):
        draw_curves([run], against="hours")
    with pytest.raises(DataError, match="no evaluation in"):
        draw_curves([run, tmp_path])
    odd = {"phase": "evaluation", "step": 0, "metrics": {"eval/success": math.nan}}
    good = {"phase": "evaluation", "step": 8, "metrics": {"eval/success": 0.5}}
    (run / "metrics.jsonl").write_text(f"{json.dumps(odd)}\nnonsense\n{json.dumps(good)}\n", encoding="utf-8")
    root = ET.fromstring(draw_curves([run]))
    assert points(root, "s0") == [pytest.approx((8, 0.5), abs=2e-3)]
    with pytest.raises(DataError, match="no time/total_cpu_s"):
        draw_curves([run], against="cpu")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(write_run(tmp_path / f"r{seed}", seed=seed)) for seed in range(2)]
    target = tmp_path / "new" / "curve.svg"
    assert main(["view", *runs, "--curve", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"curve": str(target)}
    assert target.read_text(encoding="utf-8") == draw_curves([Path(r) for r in runs])
    assert main(["view", *runs]) == 2
    assert "--curve" in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert main(["view", *runs, "--html", str(page)]) == 2
    assert not page.exists()
    assert main(["view", runs[0], "--curve", str(target), "--html", str(page)]) == 0
    assert capsys.readouterr().out.split() == [str(target), str(page)]
