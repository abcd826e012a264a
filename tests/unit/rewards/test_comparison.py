"""Published scorers give published numbers, faults included; ours do not repeat the faults."""

import json
import re
from pathlib import Path

import pytest

from agentgym.rewards.answer_sets import set_f1
from agentgym.rewards.answers import robust_cover, robust_em
from agentgym.rewards.comparison import (
    SCORERS,
    SET_SCORERS,
    dpr_has_answer,
    hotpot_f1,
    igpo_f1,
    published_scores,
    rog_accuracy,
    rog_f1,
    rog_hit,
    search_r1_em,
    search_r1_sub_em,
    squad_em,
    squad_f1,
)
from agentgym.rewards.normalize import robust

FOLDER = Path(__file__).parents[2] / "golden"
QA = json.loads((FOLDER / "rewards.json").read_text(encoding="utf-8"))["qa"]
KGQA = json.loads((FOLDER / "rewards_search.json").read_text(encoding="utf-8"))["kgqa"]


@pytest.mark.parametrize("row", QA, ids=lambda row: row["pred"][:20])
def test_published_scorers_match_the_golden_rows(row: dict) -> None:
    columns = {
        "em_squad": (squad_em, search_r1_em),
        "f1_squad": (squad_f1,),
        "f1_set_igpo": (igpo_f1,),
        "cover_naive": (search_r1_sub_em,),
    }
    for column, scorers in columns.items():
        for scorer in scorers:
            assert scorer(row["pred"], row["gold"]) == pytest.approx(row[column], abs=1e-6), column


def test_hotpot_guards_yes_and_no() -> None:
    assert squad_f1("yes it is", ["yes"]) == 0.5
    assert hotpot_f1("yes it is", ["yes"]) == 0.0
    assert hotpot_f1("Yes.", ["yes"]) == 1.0
    assert hotpot_f1("no", ["noanswer"]) == 0.0
    assert hotpot_f1("the big house", ["big house of Rome"]) == pytest.approx(2 * 2 / (2 + 4))


def test_dpr_looks_for_tokens_not_for_characters() -> None:
    text = "The Émigré's house, built in 1961 (U.S.A.)"
    assert dpr_has_answer(text, ["émigré"]) == 1.0
    assert dpr_has_answer(text, ["EMIGRE"]) == 0.0  # accents are marks of their word, not folded away
    assert dpr_has_answer(text, ["migr"]) == 0.0
    assert dpr_has_answer(text, ["U . S . A"]) == 1.0
    assert dpr_has_answer(text, ["USA"]) == 0.0
    assert dpr_has_answer(text, ["house built"]) == 0.0  # the comma is a token


def test_knowledge_graph_scorers_and_the_f1_above_one() -> None:
    golds = ["Ana Reyes", "Tor Lind", "Mira"]
    line = "Ana Reyes, Tor Lind and Mira"
    assert rog_f1(line, golds) == KGQA["released RoG scorer, one line naming all three golds"]
    assert rog_hit(line, golds) == rog_accuracy(line, golds) == 1.0
    assert rog_f1("Ana Reyes\nTor Lind\nnobody", golds) == pytest.approx(2 / 3)
    assert rog_accuracy("Tor Lind", golds) == pytest.approx(1 / 3)
    assert rog_f1("", golds) == rog_hit("", golds) == 0.0
    assert set_f1([line], [(g,) for g in golds]) == KGQA["ours on the same"]
    assert set_f1(["a", "b", "x"], [("a",), ("b",), ("c",)]) == pytest.approx(
        KGQA["set_f1 [a,b,x] vs [a,b,c]"], abs=1e-6
    )
    dump = [f"entity {i}" for i in range(97)] + golds
    naive_recall = sum(g in dump for g in golds) / len(golds)
    assert naive_recall == 1.0
    assert set_f1(dump, [(g,) for g in golds]) == pytest.approx(KGQA["dump 100 entities incl. all 3 golds"], abs=1e-6)


def test_the_table_separates_alternatives_from_sets() -> None:
    gold = [{"text": "USA", "aliases": ["America"]}, {"text": "Chad"}]
    table = published_scores("America", gold)
    assert set(table) == set(SCORERS) | set(SET_SCORERS)
    assert table["squad_em"] == 1.0
    assert table["rog_accuracy"] == 0.0  # aliases are no answers of their own
    assert set(published_scores(None, gold).values()) == {0.0}


# ---- faults of released code: the formula as released shows the fault, ours does not


def test_fault_a_gold_that_vanishes_matches_everything() -> None:
    assert search_r1_sub_em("anything", ["A"]) == search_r1_em("", ["The"]) == 1.0
    assert robust_cover("anything", ["A"]) == robust_em("", ["The"]) == 0.0


@pytest.mark.parametrize(("gold", "given"), [("1.5", "15"), ("-5", "5"), ("C++", "C#")])
def test_fault_symbols_that_carry_the_meaning_are_dropped(gold: str, given: str) -> None:
    assert squad_em(given, [gold]) == 1.0
    assert robust_em(given, [gold]) == 0.0


def test_fault_an_answer_is_read_only_if_the_prompt_holds_an_example() -> None:
    """Search-R1 takes the last of at least two <answer> blocks, since its prompt holds one: another prompt, no score."""

    def released(transcript: str) -> str | None:
        found = re.findall(r"<answer>(.*?)</answer>", transcript, re.DOTALL)
        return found[-1] if len(found) > 1 else None

    spoken = "<answer>Mira</answer>"
    assert released(f"Write <answer> Beijing </answer>. {spoken}") == "Mira"
    assert released(f"Answer in tags. {spoken}") is None  # ours reads the call: see test_ladder


def test_fault_retrieval_is_a_substring_of_what_the_policy_wrote() -> None:
    def released(transcript: str, gold: str) -> bool:
        blocks = re.findall(r"<information>(.*?)</information>", transcript, re.DOTALL)
        return any(gold.lower() in block.lower() for block in blocks)

    assert released("<information>Bart, says the policy</information>", "art")
    assert f" {robust('art')} " not in f" {robust('Bart, says the policy')} "
