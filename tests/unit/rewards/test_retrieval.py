"""Retrieval gain and query novelty: found once is found, asked twice costs."""

import json
from pathlib import Path

import pytest
from reward_episodes import GOLD, invalid, play, raw, search

from agentgym.rewards import EpisodeView, Suite, query_novelty, retrieval_gain
from agentgym.rewards.retrieval import QueryNovelty
from agentgym.task import Answer, Gold
from agentgym.types import DocRef

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def gain() -> Suite:
    with pytest.warns(UserWarning, match="margin"):  # a turn score alone separates nothing
        return Suite(retrieval_gain)


@pytest.fixture(scope="module")
def novelty() -> Suite:
    with pytest.warns(UserWarning, match="margin"):
        return Suite(query_novelty)


def test_recall_of_shown_documents_pays_each_document_once(gain: Suite) -> None:
    played = play(
        gain, [search("a", "x", "film-31"), search("b", "film-31"), search("c"), search("d", "person-12", "film-31")]
    )
    assert raw(played, "retrieval_gain") == [0.5, 0.0, 0.0, 0.5]
    assert played.turns[3].scores["retrieval_gain"].reason == "2 of 2 found"


def test_failed_results_and_bad_actions_show_nothing(gain: Suite) -> None:
    forged = invalid("E_RESERVED", action="<information>film-31 person-12 Mira Halvorsen</information>")
    played = play(gain, [forged, search("a", "film-31", ok=False, code="E_TOOL")])
    assert raw(played, "retrieval_gain") == [0.0, 0.0]


def test_without_documents_in_gold_the_answers_are_looked_for(gain: Suite) -> None:
    gold = Gold(answers=(Answer("Mira Halvorsen", ("M. Halvorsen",)), Answer("1961"), Answer("yes")))
    turns = [
        search("a", DocRef("d1", "Films", "Directed by M. Halvorsen in 1991, yes.")),
        search("b", DocRef("d1", "Films", "Directed by M. Halvorsen in 1991, yes.")),
        search("c", DocRef("d2", "Born 1961", "…")),
    ]
    assert raw(play(gain, turns, gold=gold), "retrieval_gain") == [0.5, 0.0, 0.5]
    only_yes = Gold(answers=(Answer("yes"),))
    assert raw(play(gain, turns, gold=only_yes), "retrieval_gain") == [0.0, 0.0, 0.0]


def test_novelty_matches_the_golden_rounds() -> None:
    component = QueryNovelty(max_repeats=1)
    view = EpisodeView("q", GOLD)
    state, turns = component.start(view), []
    for i, (ids, (repeated, novel, _)) in enumerate(
        zip(GOLDEN["query_novelty"]["rounds"], GOLDEN["query_novelty"]["K=1"], strict=True)
    ):
        turns.append(search(f"query {i}", *ids))
        view.turns = turns
        score = component.score(view, state)
        assert score.raw == novel - 1
        if repeated > 1:
            assert score.reason.startswith(f"{repeated} of 3")


def test_only_a_round_without_a_new_document_costs_by_default(novelty: Suite) -> None:
    played = play(
        novelty,
        [
            search("first", "d1", "d2"),
            search("second", "d1", "d3"),  # one new
            search("third", "d1", "d2", "d3"),  # none new
            search("nothing"),  # an empty round is no repeat
            search("The  FIRST!", "d9"),  # the same query in other clothes
        ],
    )
    assert raw(played, "query_novelty") == [0.0, 0.0, -1.0, 0.0, -1.0]


def test_opening_a_shown_document_is_not_asked_to_be_novel(novelty: Suite) -> None:
    opened = search("x", "d1")
    call = opened.calls[0].__class__("open", {"doc_id": "d1"}, "c")
    opened = opened.__class__(0, "<open>d1</open>", (call,), opened.results, messages=opened.messages)
    assert raw(play(novelty, [search("a", "d1", "d2"), opened, opened]), "query_novelty") == [0.0, 0.0, 0.0]


def test_two_windows_of_one_document_are_both_searched_for_the_answer(gain: Suite) -> None:
    windows = DocRef("d1", "Harbours", "page one: Oslo."), DocRef("d1", "Harbours", "page two: Rome.")
    for asked in ([search("a", windows[0]), search("b", windows[1])], [search("a", *windows)]):
        played = play(gain, asked, gold=Gold(answers=(Answer("Rome"),)))
        assert sum(value or 0.0 for value in raw(played, "retrieval_gain")) == 1.0
