"""Rewards in TOML: what a table builds, and what it says about a table that makes no sense."""

from pathlib import Path

import pytest

from agentgym.errors import AgentGymError
from agentgym.rewards import build_suite
from agentgym.types import JSON

TOML = """
[reward]
outcome = "answer_em"
name = "mine"
terms = [
  { use = "information_gain", weight = 0.2, cap = 0.2 },
  { use = "citation_rubric", weight = 0.3, gate = "answer_em", group = "max" },
]
"""


def test_a_file_and_a_table_build_the_same_suite(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML, encoding="utf-8")
    suite = build_suite(str(path))
    text = "answer_em + Cap(0.2 * information_gain, -0.2, 0.2) + Gate(answer_em, 0.3 * MaxNorm(citation_rubric), 0.0)"
    assert repr(suite.expression) == text
    assert (suite.name, suite.outcome.name) == ("mine", "answer_em")
    gated = {"use": "citation_rubric", "weight": 0.3, "gate": "answer_em", "group": "max"}
    table = {"outcome": "answer_em", "terms": [{"use": "information_gain", "weight": 0.2, "cap": [-0.2, 0.2]}, gated]}
    assert repr(build_suite(table).expression) == text
    assert build_suite(table).bounds() == suite.bounds() == build_suite(text).bounds()


@pytest.mark.filterwarnings("ignore:suite")
@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"outcome": "answer_em"}, "answer_em"),
        ({"outcome": "answer_em", "outcome_weight": 2, "terms": [{"use": "all_valid"}]}, "2.0 * answer_em + all_valid"),
        ({"terms": [{"use": "answer_f1", "schedule": [0.5, 1]}]}, "Schedule(answer_f1, [(0.0, 0.5), (1.0, 1.0)])"),
        ({"outcome": "answer_em", "expression": "Gate(answer_em, all_valid, 1)"}, "Gate(answer_em, all_valid, 1.0)"),
        (
            {"outcome": "answer_em", "terms": [{"use": "retrieval_gain", "weight": 0.3, "cap": [0, 0.3], "only_if": 0}]},
            "answer_em + OnlyIf(0, Cap(0.3 * retrieval_gain, 0.0, 0.3))",
        ),
        (
            {"outcome": "answer_em", "terms": [{"use": "step_cost", "once": True, "weight": 0.1, "clip": [-1, 0]}]},
            "answer_em + Clip(0.1 * Once(step_cost), -1.0, 0.0)",
        ),
        (
            {"outcome": "answer_em", "terms": [{"use": "step_cost", "mean": True}, {"use": "retrieval_gain", "shaped": 1}]},
            "answer_em + Mean(step_cost) + Shaped(retrieval_gain, 1.0)",
        ),
        (
            {"outcome": "answer_em", "terms": [{"use": "all_valid - 0.5*answer_f1", "gate": "answer_em", "base": 0.5}]},
            "answer_em + Gate(answer_em, all_valid + -0.5 * answer_f1, 0.5)",
        ),
    ],
)
def test_every_key_of_a_term(table: JSON, text: str) -> None:
    assert repr(build_suite(table).expression) == text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"outcme": "answer_em"}, "did you mean 'outcome'"),
        ({"terms": [{"use": "answer_em", "wieght": 1}]}, r"terms\[0\].wieght: unknown key; did you mean 'weight'"),
        ({"terms": [{"use": "answer_em", "weight": float("nan")}]}, "must be finite"),
        ({"terms": [{"use": "answer_em", "cap": float("inf")}]}, "must be finite"),
        ({"terms": [{"use": "answer_em", "cap": -0.2}]}, "must be above 0"),
        ({"terms": [{"weight": 1.0}]}, "use"),
        ({"outcome": "answer_em", "terms": [{"use": "answer_em"}]}, "outcome_weight = 0"),
        ({"outcome": "answer_em", "outcome_weight": 0}, "there is no term"),
        ({"outcome": "answer_em", "outcome_weight": 2, "expression": "all_valid"}, "write the weight into the expression"),
        ({"outcome": "answer_em", "terms": [{"use": "all_valid"}], "expression": "all_valid"}, "not both"),
        ({}, "not neither"),
        ({"terms": [{"use": "answer_en"}]}, "did you mean 'answer_em'"),
        ({"terms": [{"use": "all_valid + step_cost", "cap": 0.2}]}, r"terms\[0\]: Cap.* over both scopes"),
        ({"terms": [{"use": "all_valid", "group": "min"}]}, "one of '', 'max'"),
        ({"terms": [{"use": "all_valid", "base": 1.0}]}, "belongs to a gate"),
        ({"terms": [{"use": "all_valid", "schedule": [[0.5, 1], [0.1, 0]]}]}, "rises from 0 to 1"),
        ({"outcome": "answer_em", "terms": [{"use": "step_cost", "weight": -1.0}]}, "no upper bound"),
    ],
)
def test_a_wrong_table_names_the_key_and_the_fix(table: JSON, message: str) -> None:
    with pytest.raises(AgentGymError, match=message):
        build_suite(table)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(AgentGymError, match=r"x\.toml.*cannot be read"):
        build_suite(str(path))
    for text, message in (("[reward", "x.toml"), ("[rewards]\n", "did you mean 'rewards'")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(AgentGymError, match=message):
            build_suite(str(path))
