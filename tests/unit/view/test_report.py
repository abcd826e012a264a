"""report.html: its numbers are those of the files, it loads nothing, runs nothing foreign, and survives broken folders."""

import base64
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import STEPS, TOKENS, WARM, metric_lines, success_at, trajectory, write_run

from agentgym.errors import DataError
from agentgym.rollout.record import to_line
from agentgym.view import draw_curves, write_report
from agentgym.view.episodes import MAX_BYTES, MAX_GROUPS, MAX_MEMBER_BYTES, MAX_TOKENS
from agentgym.view.report import render, report_data

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--<script>]]>",
    "@@SCRIPT@@ @@DATA@@ \\u003c/script> \\1 \\g<0>",
    "\x00\x1b[2J\x07\r\x7f \u2028\u2029 \u202eright to left\u2066",
    "\ud800 lone \udfff",
    "'\"`${alert(3)}` &lt;b&gt; &amp;",
)


class Page(HTMLParser):
    """Tags, attributes and the texts of scripts of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def embedded(path: Path) -> Any:
    """The records that a page carries."""
    return json.loads(Page(path.read_text(encoding="utf-8")).scripts[0])


def strings(body: Any) -> list[str]:
    if isinstance(body, dict):
        return [s for pair in body.items() for part in pair for s in strings(part)]
    if isinstance(body, list):
        return [s for part in body for s in strings(part)]
    return [body] if isinstance(body, str) else []


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_numbers_are_those_of_the_files(run: Path) -> None:
    data = embedded(write_report(run))
    lines = metric_lines()
    for phase, shift in (("train", 0), ("evaluation", 0), ("warmstart", -WARM)):
        of_phase = [line for line in lines if line["phase"] == phase]
        assert data["series"][phase]["x"] == [line["step"] + shift for line in of_phase]
        for name in of_phase[0]["metrics"]:
            assert data["series"][phase]["y"][name] == pytest.approx(
                [line["metrics"][name] for line in of_phase], rel=1e-4
            )
    assert data["series"]["train"]["y"]["s_T"] == pytest.approx([0.1 * (s + 1) for s in range(STEPS)], rel=1e-4)
    assert data["tiles"][0]["value"] == f"{success_at(0):.3f} → {success_at(STEPS):.3f}"
    rows = {row["name"]: row for row in data["components"]}
    assert (rows["answer_em"]["first"], rows["answer_em"]["last"]) == (0.0, 0.7)
    assert rows["answer_em"]["about"].startswith("1 if the answer equals")
    drawn = {line[1] for chart in data["charts"] for line in chart["lines"]}
    assert {
        "eval/success",
        "success",
        "reward",
        "reward/answer_em",
        "entropy",
        "loss",
        "sft/loss",
        "s_T",
        "w",
        "eval/success/hop",
    } <= drawn
    assert all(name in data["series"][phase]["y"] for chart in data["charts"] for phase, name, _ in chart["lines"])
    assert dict(data["settings"])["credit.recipe"] == "turn_grpo"


def test_siblings_with_their_tokens_scores_and_advantages(run: Path) -> None:
    data = embedded(write_report(run))
    assert [group["step"] for group in data["groups"]] == [0, 2, 4, 6]
    group = data["groups"][1]
    assert (group["question"], group["gold"], group["kind"]) == ("birthplace of Irma ?", ["Istrava"], "hop")
    assert data["prompts"][group["prompt"]] == [["user", "birthplace of Irma ?"]]
    assert [member["success"] for member in group["members"]] == [True, False, False]
    for n, member in enumerate(group["members"]):
        first, second = member["turns"]
        assert (first["A"], second["A"]) == (0.5 - n, -0.25)
        assert (first["logp"], second["logp"]) == ([-0.5, -0.25, -0.125], [-1.0, -2.0, -0.75])
        assert first["H"] == [0.5, 0.25, 0.125]
        assert "".join(data["tokens"][str(i)] for i in first["ids"]) == first["action"] == "<search>Irma</search>"
        assert first["scores"] == [["retrieval_gain", 1.0, 0.2, 0.2, "1 of 1 found", ""]]
        assert member["total"] == 0.2 + member["success"]
    assert data["tokens"] == TOKENS
    assert data["ends"] == {"answered": 12}


def test_warnings_of_one_kind_are_told_once(run: Path) -> None:
    assert report_data(run)["warnings"] == [
        {"text": "92 → 95% of the groups carry no advantage", "n": 3, "phase": "train", "first": 2, "last": 5}
    ]


def test_one_file_that_loads_nothing(run: Path) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "embed", "base", "form")] == []
    assert [attrs for _, attrs in page.tags if {"src", "href", "srcset", "action", "style"} & attrs.keys()] == []
    assert set(re.findall(r"\w+://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}, "a name of SVG, no address"
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|innerHTML|document\.write|\beval\(", text)
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "@@" not in page.scripts[1]


@pytest.mark.parametrize("said", HOSTILE)
def test_hostile_text_stays_text(tmp_path: Path, said: str) -> None:
    tame = Page(write_report(write_run(tmp_path / "tame")).read_text(encoding="utf-8"))
    run = write_run(tmp_path / "run", said=said)
    (run / "tokens.json").write_text(json.dumps({**TOKENS, "2": said}), encoding="utf-8")
    (run / "config.toml").write_text(
        f"env = {json.dumps('x' + said.encode('utf-8', 'replace').decode())}\n", encoding="utf-8"
    )
    written = write_report(run)
    raw = written.read_bytes()
    page = Page(raw.decode("utf-8"))
    assert page.tags == tame.tags, "no element and no attribute comes from a record"
    assert page.scripts[1] == tame.scripts[1]
    assert b"\x00" not in raw
    assert b"\x1b" not in raw
    data = json.loads(page.scripts[0])
    for text in strings(data):
        text.encode("utf-8")  # no lone surrogate
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert len(data["groups"]) == 4
    assert data["problems"] == [] or "config.toml" in data["problems"][0]
    readable = re.sub(r"[^a-z]", "", said)
    assert re.sub(r"⟨.*?⟩|[^a-z]", "", data["groups"][0]["members"][0]["answer"].removeprefix("Bela")) == readable


def spoil(name: str, text: bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(text)


def append(name: str, text: bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes() + text)


def prepend(name: str, text: bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(text + (run / name).read_bytes())


ODD = {
    "phase": "train",
    "step": 1,
    "metrics": {"success": math.nan, "reward": math.inf, "turns": 10**400, "entropy": "high", "w": None},
}
SPOILED = {
    "no metrics": (lambda run: (run / "metrics.jsonl").unlink(), None),
    "no trajectories": (lambda run: (run / "trajectories.jsonl").unlink(), None),
    "no settings": (lambda run: (run / "config.toml").unlink(), None),
    "broken settings": (spoil("config.toml", b"seed = = 1"), "config.toml cannot be read"),
    "settings in no text": (spoil("config.toml", b"\xff\xfe\x00"), "config.toml cannot be read"),
    "broken tokens": (spoil("tokens.json", b"[1]"), "tokens.json holds no object"),
    "broken versions": (spoil("versions.json", b"{"), "versions.json cannot be read"),
    "broken result": (spoil("result.json", b'{"measures": [], "by_kind": 3, "pass_at": "x", "n_faults": "many", "faults": 7}'), None),
    "line in no text": (prepend("metrics.jsonl", b"\xff\xfe\n"), "metrics.jsonl:1"),
    "line that is no JSON": (prepend("metrics.jsonl", b"nonsense\n"), "metrics.jsonl:1: not valid JSON"),
    "line without a step": (prepend("metrics.jsonl", b'{"phase": "train"}\n[]\n'), "metrics.jsonl:1: left out"),
    "number without end": (prepend("metrics.jsonl", b'{"step": ' + b"9" * 5000 + b"}\n"), "metrics.jsonl:1"),
    "line cut short": (append("metrics.jsonl", b'{"phase": "tr'), "the last line is incomplete"),
    "odd numbers": (prepend("metrics.jsonl", json.dumps(ODD).encode() + b"\n"), None),
    "foreign trajectories": (prepend("trajectories.jsonl", b'{"schema_version": 99}\n{"messages": []}\n'), "2 lines are left out: schema_version"),
    "trajectory of wrong types": (prepend("trajectories.jsonl", b'{"schema_version": 1, "id": 5, "turns": 3, "scores": [], "seed": "x"}\n'), "left out"),
    "trajectory cut short": (append("trajectories.jsonl", b'{"schema_'), "the last line is incomplete"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_a_broken_file_costs_only_itself(run: Path, how: str) -> None:
    breaks, told = SPOILED[how]
    whole = report_data(run)
    breaks(run)
    data = embedded(write_report(run))
    assert any(told in p for p in data["problems"]) if told else data["problems"] == []
    if "metrics" not in how:
        assert data["series"]["train"]["x"] == whole["series"]["train"]["x"]  # type: ignore[index,call-overload]
    if how != "no trajectories":
        shown = [m["id"] for g in data["groups"] for m in g["members"]]
        assert [m["id"] for g in whole["groups"] for m in g["members"]] == shown  # type: ignore[index,call-overload,union-attr]


def test_odd_numbers_are_gaps_in_the_curve_and_words_in_the_scores(run: Path) -> None:
    odd = metric_lines()
    train = next(line for line in odd if line["phase"] == "train" and line["step"] == 1)
    train["metrics"] |= {"success": math.nan, "reward": -math.inf, "turns": 10**400}
    train["advantages"] = {"odd": [math.nan, 10**400]}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in odd), encoding="utf-8")
    (run / "trajectories.jsonl").write_text(to_line(trajectory(1, id="odd")) + "\n", encoding="utf-8")
    data = embedded(write_report(run))
    curves = data["series"]["train"]["y"]
    assert (curves["success"][1], curves["reward"][1], curves["turns"][1]) == (None, None, None)
    assert curves["success"][2] == 0.2
    assert [turn["A"] for turn in data["groups"][0]["members"][0]["turns"]] == ["NaN", "∞"]


def test_huge_records_are_cut_to_size(tmp_path: Path) -> None:
    base = trajectory()
    long = base.turns[0]
    n = 50_000
    segment = base.segments[0]
    wide = type(segment)((0,) * n, (1,) * n, (-0.1,) * n, (type(segment.spans[0])(0, 0, n),))
    tall = base.with_(
        id="tall",
        turns=tuple(type(long)(k, "a" * 9_000, messages=long.messages, scores=long.scores) for k in range(500)),
    )
    path = tmp_path / "trajectories.jsonl"
    rows = [base.with_(id="wide", segments=(wide,), answer="y" * 10**6, group_id="wide"), tall.with_(group_id="tall")]
    path.write_text("".join(to_line(t) + "\n" for t in rows), encoding="utf-8")
    groups: Any = report_data(path)["groups"]
    members = {member["id"]: member for group in groups for member in group["members"]}
    assert all(len(json.dumps(member)) <= MAX_MEMBER_BYTES for member in members.values())
    assert len(members["wide"]["turns"][0]["ids"]) == MAX_TOKENS
    assert members["wide"]["turns"][0]["cut"] == n - MAX_TOKENS
    assert "left out" in members["wide"]["answer"]
    assert members["tall"]["thin"] is True
    assert members["tall"]["more"] + len(members["tall"]["turns"]) == 500
    # and many of them: chosen from the whole run, as many as a page can hold
    rows = [
        base.with_(id=f"r{i}", group_id=f"r{i}", seed=(0, i, 0, 0), question="é" * 10**4) for i in range(2 * MAX_GROUPS)
    ]
    path.write_text("".join(to_line(t) + "\n" for t in rows), encoding="utf-8")
    data = report_data(path)
    groups = data["groups"]
    assert (len(groups), data["n_episodes"]) == (MAX_GROUPS, len(rows))
    assert len(render(data)) < 1.2 * MAX_BYTES
    steps = [group["step"] for group in groups]
    assert steps == sorted(steps)
    assert max(b - a for a, b in itertools.pairwise([0, *steps, len(rows)])) <= 4


def test_long_curves_are_means_of_stretches(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    lines = [{"phase": "train", "step": s, "metrics": {"success": float(s % 2)}} for s in range(2_000)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    train: Any = report_data(run)["series"]["train"]  # type: ignore[index,call-overload]
    assert train["stretch"] == 5
    assert len(train["x"]) == 400
    assert train["y"]["success"][:2] == [0.4, 0.6]


def test_a_repeated_step_counts_once(run: Path) -> None:
    again = {"phase": "train", "step": 3, "metrics": {"success": 0.99}}
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(again) + "\n")
    train: Any = report_data(run)["series"]["train"]  # type: ignore[index,call-overload]
    assert train["x"] == list(range(STEPS))
    assert train["y"]["success"][3] == 0.99


def test_bare_trajectories_and_evaluations(run: Path, tmp_path: Path) -> None:
    bare = report_data(run / "trajectories.jsonl")
    tiles: Any = bare["tiles"]
    assert (tiles[0]["value"], tiles[0]["label"]) == ("0.333", "success")
    assert (bare["series"], bare["settings"]) == ({}, [])
    rows: Any = bare["components"]
    assert {row["name"]: row["last"] for row in rows} == {
        "answer_em": pytest.approx(1 / 3, abs=1e-4),
        "retrieval_gain": 0.2,
    }
    (run / "metrics.jsonl").unlink()
    (run / "config.toml").unlink()
    measure = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 12}
    kinds = {"hop": {"tasks": 12.0, "success": 0.5, "recall": math.nan, "turns": 2.0}}
    result = {
        "measures": {"success": measure},
        "by_kind": kinds,
        "pass_at": {"1": measure, "3": {**measure, "mean": 0.8}},
        "faults": {},
        "n_faults": 0,
    }
    (run / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (run / "eval.json").write_text(json.dumps({"env": "SearchQA-v0", "policy": "scripted"}), encoding="utf-8")
    page = write_report(run, tmp_path / "deep" / "page.html")
    data = embedded(page)
    assert [(t["value"], t["label"]) for t in data["tiles"]] == [
        ("0.500", "success"),
        ("0.800", "pass@3"),
        ("12", "recorded episodes"),
    ]
    assert data["tiles"][0]["interval"] == [0.25, 0.5, 0.75]
    assert data["measures"] == [{"name": "success", **measure}]
    assert data["kinds"] == [{"name": "hop", "tasks": 12.0, "success": 0.5, "recall": None, "turns": 2.0}]
    assert sorted(p.name for p in page.parent.iterdir()) == ["page.html"]


JUNK: tuple[Any, ...] = (None, True, -1, 10**400, math.nan, 1e308, "x", "\ud800", [], {}, [[]], {"a": [1]}, "9" * 50)


def mutated(body: Any, rng: np.random.Generator, share: float) -> Any:
    """Return a copy of a JSON value in which some places hold something else."""
    if rng.random() < share:
        return JUNK[rng.integers(len(JUNK))]
    if isinstance(body, dict):
        return {key: mutated(value, rng, share) for key, value in body.items()}
    return [mutated(value, rng, share) for value in body] if isinstance(body, list) else body


@pytest.mark.parametrize("share", [0.004, 0.02, 0.1])
def test_values_of_any_type_in_any_place(tmp_path: Path, share: float) -> None:
    rng = np.random.default_rng(7)
    measure = {"mean": 0.5, "low": 0.1, "high": 0.6, "n": 3}
    result = {
        "measures": {"success": measure},
        "by_kind": {"hop": {"tasks": 1}},
        "pass_at": {"3": measure},
        "faults": {"x": 2},
    }
    settings = {
        "env": "x",
        "policy": "y",
        "seed": 1,
        "credit": {"recipe": "z"},
        "env_args": {"world": "w"},
        "train": {"steps": 8},
    }
    refused = 0
    for i in range(12):
        run = write_run(tmp_path / "run")
        for path in run.glob("*.jsonl"):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            path.write_text("".join(json.dumps(mutated(line, rng, share)) + "\n" for line in lines), encoding="utf-8")
        (run / "config.toml").unlink()
        (run / "eval.json").write_text(json.dumps(mutated(settings, rng, share)), encoding="utf-8")
        (run / "result.json").write_text(json.dumps(mutated(result, rng, share) if i % 2 else []), encoding="utf-8")
        try:
            data = embedded(write_report(run))
            assert data["tiles"] or data["problems"]
            draw_curves([run])
        except DataError:
            refused += 1  # nothing readable was left
    assert refused < 6


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to report: neither"):
        write_report(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("broken\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics\.jsonl:1: not valid JSON"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
