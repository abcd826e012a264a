"""The credit tables of a report: those of the last step that has them, and the forecast."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentgym.view.credit_rows import credit_rows
from agentgym.view.report import report_data


def line(step: int, **metrics: Any) -> dict[str, Any]:
    return {"phase": "train", "step": step, "metrics": metrics}


def test_rows_are_those_of_the_last_step() -> None:
    old = line(0, **{"credit/zero_variance/turn_0": 1.0, "credit/mass/turn_0": 1.0})
    new = line(
        1,
        **{
            "credit/zero_variance/turn_1": 0.25, "credit/zero_variance/turn_0": 0.5, "credit/mass/turn_0": 0.75, "success": 1.0,
            "credit/component/retrieval_gain/spread/turn_0": 0.125, "credit/component/answer_em/spread/trajectory": 0.5,
            "credit/component/step_cost/spread/turn_0": 0.0, "credit/component/step_cost/zero_variance/turn_0": 1.0,
            "credit/component/checklist:a/b/zero_variance/turn_10": float("nan"),
        },
    )  # fmt: skip
    forecast = {"phase": "forecast", "step": 0, "metrics": {}, "note": "turn credit is likely to help"}
    found = credit_rows([old, forecast, new])
    assert found["step"] == 1
    assert found["turns"] == [{"turn": 0, "zero_variance": 0.5, "mass": 0.75}, {"turn": 1, "zero_variance": 0.25}]
    assert found["components"] == [
        {"component": "answer_em", "turn": None, "spread": 0.5},
        {"component": "checklist:a/b", "turn": 10, "zero_variance": "NaN"},
        {"component": "retrieval_gain", "turn": 0, "spread": 0.125},
    ]
    assert found["forecast"] == "turn credit is likely to help"


@pytest.mark.parametrize("lines", [[], [line(0, success=1.0)], [line(0, **{"credit/mass/turn_0": 1.0})], [{"phase": "forecast", "step": 0, "metrics": {}, "note": 7}]])  # fmt: skip
def test_there_may_be_none(lines: list[dict[str, Any]]) -> None:
    assert credit_rows(lines) == {}


def test_the_report_holds_them(tmp_path: Path) -> None:
    row = line(3, **{"credit/singletons/turn_0": 2.0})
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert report_data(tmp_path)["credit"]["turns"] == [{"turn": 0, "singletons": 2.0}]  # pyright: ignore
