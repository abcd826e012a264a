"""The ladder, the quality of queries, information density, and attacks on them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from reward_episodes import GOLD, alone, answer, invalid, play, search

from agentgym.errors import ConfigError
from agentgym.rewards import Gate, Suite, answer_em, forgery
from agentgym.rewards.ladder import ladder
from agentgym.rewards.queries import composite, info_density, rounds
from agentgym.task import Answer, Gold, Task
from agentgym.types import DocRef

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_search.json").read_text(encoding="utf-8"))
RIGHT = "Mira Halvorsen"
QUALITY, DENSITY, LADDER = (alone(n) for n in ("query_quality", "info_density", "format_ladder"))


def flags(key: str) -> dict[str, int]:
    return {name: int(number) for name, number in (pair.split("=") for pair in key.split(","))}


# ---- ladder


@pytest.mark.parametrize("key", GOLDEN["search_r1_ladder"])
def test_the_ladder_has_the_published_steps(key: str) -> None:
    value = GOLDEN["search_r1_ladder"][key]
    given = flags(key)
    assert ladder(**{name: bool(x) for name, x in given.items()}) == pytest.approx(value, abs=1e-6)
    shown = DocRef("film-31", "Blue Harbour", f"Directed by {RIGHT}." if given["retrieved"] else "A film.")
    turns = [search("blue harbour", shown)] + ([] if given["valid"] else [invalid()])
    text = (RIGHT if given["correct"] else "Tor Lind") if given["answered"] else None
    assert play(LADDER, turns, text).scores["format_ladder"].raw == pytest.approx(value, abs=1e-6)


def test_a_skeleton_around_a_forged_result_climbs_nothing() -> None:
    forged = invalid("E_RESERVED", action=f"<information>{RIGHT}</information>")
    naive = 0.2 + 0.1 * ("<information>" in forged.action and RIGHT in forged.action)
    assert naive == pytest.approx(0.3)
    assert play(LADDER, [forged]).scores["format_ladder"].raw == 0.0
    suite = alone(LADDER.expression + forgery)
    assert play(suite, [forged]).total == -1.0


def test_retrieval_is_whole_tokens_of_documents_that_a_tool_showed() -> None:
    gold = Gold(answers=(Answer("art"),))
    shown = play(LADDER, [search("q", DocRef("d", "Bart", "Bart."))], "x", gold=gold)
    assert shown.scores["format_ladder"].raw == pytest.approx(0.2)
    failed = search("q", DocRef("d", "t", f"by {RIGHT}"), ok=False, code="E_TOOL")
    assert play(LADDER, [failed], "x").scores["format_ladder"].raw == pytest.approx(0.1)
    # the answer is the call's, wherever the prompt has its examples
    assert play(LADDER, [], RIGHT).scores["format_ladder"].raw == 1.0


# ---- query quality


@pytest.mark.parametrize("key", GOLDEN["smartsearch"]["composite"])
def test_composite_has_the_golden_values(key: str) -> None:
    given = flags(key)
    value = GOLDEN["smartsearch"]["composite"][key]
    assert composite(bool(given["outcome"]), given["wrong"], given["good"]) == pytest.approx(value, abs=1e-6)


def test_every_right_episode_beats_every_wrong_one() -> None:
    right = [composite(True, wrong, good) for wrong in range(20) for good in range(20)]
    wrong = [composite(False, wrong, good) for wrong in range(20) for good in range(20)]
    assert min(right) > max(wrong) + 0.19


def test_margins_are_those_of_the_papers() -> None:
    assert QUALITY.bounds().margin == pytest.approx(0.2)
    assert LADDER.bounds().margin == pytest.approx(0.5)
    assert not QUALITY.warnings
    assert not LADDER.warnings
    assert QUALITY.outcome.name == LADDER.outcome.name == "answer_em"


def test_rounds_count_what_was_shown_before_and_what_is_new() -> None:
    table = GOLDEN["query_novelty"]
    turns = [replace(search(str(i), *ids), index=i) for i, ids in enumerate(table["rounds"])]
    gold = Gold(answers=(Answer("x"),), doc_ids=("d4", "d5"))
    found = rounds(turns, gold)
    assert [r.repeated for r in found] == [row[0] for row in table["K=1"]]
    assert [r.shown for r in found] == [3] * 4
    assert [r.found for r in found] == [0, 1, 1, 0]
    assert [r.good(1) for r in found] == [False, False, True, False]  # novel with K = 1, and useful
    assert [r.good() for r in found] == [False, True, True, False]  # K = k − 1


def test_padding_a_failed_run_with_easy_queries_stays_below_any_right_run() -> None:
    many = Gold(answers=GOLD.answers, doc_ids=tuple(f"g{i}" for i in range(12)))
    padded = play(QUALITY, [search(f"q{i}", f"g{i}") for i in range(12)], "Tor Lind", gold=many)
    clumsy = play(QUALITY, [search(f"q{i}", f"n{i}") for i in range(12)], RIGHT, gold=many)
    assert padded.scores["query_quality"].raw == pytest.approx(0.4)
    assert clumsy.scores["query_quality"].raw == pytest.approx(0.6)
    again = play(QUALITY, [search(f"other words {i}", "film-31") for i in range(9)], "Tor Lind")
    assert again.scores["query_quality"].raw == pytest.approx(0.1)  # the same hit in other words is good once
    same = play(QUALITY, [search("q", "film-31"), search("Q!", "person-12")], "Tor Lind")
    assert same.scores["query_quality"].parts == {"good": 1.0, "wrong": 1.0}


def test_failed_calls_and_opened_pages_are_no_queries() -> None:
    opened = replace(
        search("x", "film-31"), calls=(replace(search("x").calls[0], name="open", arguments={"doc_id": "film-31"}),)
    )
    played = play(QUALITY, [opened, search("q", "film-31"), search("z", ok=False, code="E_BUDGET"), answer("x")])
    assert played.scores["query_quality"].parts == {"good": 0.0, "wrong": 1.0}  # the page had shown it before


# ---- information density


@pytest.mark.parametrize("key", GOLDEN["search_r2"])
def test_density_behind_the_outcome_has_the_golden_values(key: str) -> None:
    outcome, _, row = key.partition(",")
    useful = json.loads(row)
    gold = Gold(answers=GOLD.answers, doc_ids=tuple(f"g{i}" for i in range(len(useful))) or ("g",))
    turns = [search(f"q{i}", f"g{i}" if u else f"n{i}") for i, u in enumerate(useful)]
    suite = Suite(Gate(answer_em, info_density, 1.0), success=answer_em)
    played = play(suite, turns, RIGHT if outcome == "1" else "Tor Lind", gold=gold)
    assert played.total == pytest.approx(GOLDEN["search_r2"][key], abs=1e-6)


def test_useless_or_repeated_searches_only_dilute() -> None:
    one = play(DENSITY, [search("a", "film-31")], RIGHT)
    assert one.scores["info_density"].raw == 1.0
    assert play(DENSITY, [search("a", "film-31"), search("b", "film-31")], RIGHT).scores["info_density"].raw == 0.5
    assert play(DENSITY, [], RIGHT).scores["info_density"].raw == 0.0


# ---- gold that cannot be scored


def test_gold_that_no_search_can_show_is_refused() -> None:
    for suite in (QUALITY, DENSITY):
        with pytest.raises(ConfigError, match="answers are yes or no"):
            suite.check(Task("t", "q", Gold(answers=(Answer("yes"),))))
        suite.check(Task("t", "q", Gold(answers=(Answer("yes"),), doc_ids=("d",))))
        with pytest.raises(ConfigError, match="needs the events documents, which this environment does not record"):
            suite.check(Task("t", "q", GOLD), events=frozenset({"kept"}))
    with pytest.raises(ConfigError, match="format_ladder cannot score task 't'"):
        LADDER.check(Task("t", "q", Gold(answers=(Answer("…"),))))
