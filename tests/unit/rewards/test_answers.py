"""Normalisation and answer metrics against golden numbers and against attacks."""

import json
from pathlib import Path

import pytest
from reward_episodes import GOLD, answer, play

from agentgym.rewards import Suite, answer_cover, answer_em, answer_f1, answer_scores, build_suite
from agentgym.rewards.answers import robust_cover, robust_em, robust_f1, squad_em, squad_f1
from agentgym.rewards.normalize import mixed_script, robust, robust_document, squad

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", GOLDEN["norm"], ids=lambda row: row["a"])
def test_normal_forms_match_the_golden_rows(row: dict) -> None:
    for side in "ab":
        assert robust(row[side]) == row[f"robust_{side}"]
        assert squad(row[side]) == row[f"squad_{side}"]
    assert (robust(row["a"]) == robust(row["b"])) is row["robust_eq"]
    assert (squad(row["a"]) == squad(row["b"])) is row["squad_eq"]


@pytest.mark.parametrize("row", GOLDEN["qa"], ids=lambda row: row["pred"][:20])
def test_answer_metrics_match_the_golden_rows(row: dict) -> None:
    measures = {
        "em_safe": robust_em,
        "f1_safe": robust_f1,
        "cover_safe": robust_cover,
        "em_squad": squad_em,
        "f1_squad": squad_f1,
    }
    for column, measure in measures.items():
        assert measure(row["pred"], row["gold"]) == pytest.approx(row[column], abs=1e-6), column


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("new\nyork\tcity", "new york city"),  # control characters that are white space part words
        ("rock `n` roll", "rock n roll"),
        ("1990–1995", "1990 1995"),
        ("minus −5 °C", "minus -5 c"),
        ("O´Brien", "obrien"),
        ("हिन्दी भाषा", "हिनदी भाषा"),  # vowel signs stay, the virama is a combining mark
        ("A++ C# #1 +", "a++ c# 1"),
        ("３．５", "3.5"),
        ("a an the", "a an the"),
        ("$ %", ""),
    ],
)
def test_robust_on_what_the_golden_rows_leave_open(text: str, form: str) -> None:
    assert robust(text) == form


def test_a_run_of_tokens_is_found_in_a_document_but_no_part_of_a_word() -> None:
    document = robust_document("The director of Blue Harbour, M. Halvorsen, was born in 1961.")
    assert f" {robust('m halvorsen')} " in document
    assert f" {robust('harbour m')} " in document  # punctuation does not part a run
    assert f" {robust('halvor')} " not in document


@pytest.mark.parametrize("component", [answer_em, answer_f1, answer_cover], ids=repr)
def test_no_answer_scores_zero_and_says_so(component: object) -> None:
    suite = Suite(component, success=component)
    spoken = play(suite, [], end_reason="max_turns")
    assert spoken.scores[component.name].raw == 0.0
    assert spoken.scores[component.name].reason == "no_answer"
    # an answer inside the thought of a turn that is no answer call does not count
    thought = play(suite, [answer("x").__class__(0, "<think>Mira Halvorsen</think>", error_code="E_PARSE")])
    assert thought.scores[component.name].reason == "no_answer"
    assert play(suite, [], "“”").scores[component.name].reason == "empty_answer"


def test_aliases_accents_and_width_are_right_but_look_alikes_are_flagged() -> None:
    suite = build_suite("answer_em")
    for given in ("m halvorsen", "Ｍｉｒａ Halvorsen", "Mira\u200b Halvorsen", "“Mira Halvorsen”", "Míra Halvorsen."):
        assert play(suite, [], given).success, given
    wrong = play(suite, [], "Мira Halvorsen")  # Cyrillic М
    assert not wrong.success
    assert wrong.scores["answer_em"].reason == "mixed_script"
    assert mixed_script("Рaris")
    assert not mixed_script("Мира Halvorsen")  # two words, one script each


def test_answer_scores_reads_gold_as_json() -> None:
    gold = [{"text": "USA", "aliases": ["The U.S.A."]}]
    assert answer_scores("the usa", gold) == {"em": 1, "f1": 1, "cover": 1, "squad_em": 1, "squad_f1": 1}
    assert set(answer_scores(None, gold).values()) == {0.0}
    assert GOLD.answers[0].aliases  # the aliases above were read from the gold that the episodes use
