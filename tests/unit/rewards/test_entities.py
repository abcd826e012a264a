"""Entity match: seen first, then named; lists of guesses earn nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from reward_episodes import alone, answer, invalid, play, search

from agentgym.errors import ConfigError
from agentgym.rewards.entities import EntityMatch, on_the_way
from agentgym.task import Answer, Entity, Gold, Task
from agentgym.types import DocRef, Turn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_search.json").read_text(encoding="utf-8"))
SUITE = alone("entity_match")
NAMES = ("Tor Lind", "Red Canyon", "Ana Reyes", "Port Elm")


def gold(n: int) -> Gold:
    bridges = tuple(Entity(f"e{i}", NAMES[i], (f"{NAMES[i][0]}. {NAMES[i].split()[1]}",), i + 1) for i in range(n))
    start, end = Entity("s", "The Question", role="start"), Entity("a", "Mira Halvorsen", (), n + 1, "answer")
    return Gold(answers=(Answer("Mira Halvorsen"),), entities=(start, *bridges, end), doc_ids=("d",))


def thinking(turn: Turn, thought: str) -> Turn:
    return replace(turn, thought=thought, action=f"<think>{thought}</think>{turn.action}")


def shows(*names: str) -> Turn:
    return search("q", *(DocRef(f"d-{n}", n, f"{n} is known.") for n in names))


def gamma(turns: list[Turn], n: int = 4) -> float:
    return play(SUITE, turns, "wrong", gold=gold(n)).scores["entity_match"].raw or 0.0


def naive(turns: list[Turn], n: int) -> float:
    """As published: a name in any thought."""
    return sum(any(name in t.thought for t in turns) for name in NAMES[:n]) / n


@pytest.mark.parametrize("case", ["mixed", "all_wrong"])
def test_shares_match_the_golden_numbers(case: str) -> None:
    for share in GOLDEN["e_grpo"][case]["gamma"]:
        named = round(share * 4)
        turns = [shows(*NAMES), thinking(shows(), f"So it is about {', '.join(NAMES[:named])}.")]
        assert gamma(turns) == pytest.approx(share, abs=1e-6)


def test_a_list_of_names_before_any_document_earns_nothing() -> None:
    guard = GOLDEN["entity_match_guard"]
    honest = [thinking(shows(NAMES[0]), "hm"), thinking(shows(), f"{NAMES[0]} made it")]
    dump = [thinking(shows(*NAMES[:2]), f"{NAMES[0]} {NAMES[1]}")]
    assert gamma(honest, 2) == guard["honest"]
    assert gamma(dump, 2) == guard["dump before any document"]
    assert naive(dump, 2) == guard["paper_style_dump"]


def test_a_thought_that_lists_all_titles_is_left_out() -> None:
    titles = [f"Filler {i} Place" for i in range(40)]
    listing = [shows(*NAMES, *titles), thinking(shows(), " ".join([*NAMES, *titles]))]
    assert naive(listing, 4) == 1.0
    assert gamma(listing) == 0.0
    assert gamma([listing[0], thinking(shows(), " ".join([*NAMES, *titles[:20]]))]) == 1.0
    few = alone(EntityMatch(max_mentions=3))
    assert (
        play(few, [shows(*NAMES), thinking(shows(), " ".join(NAMES))], gold=gold(4)).scores["entity_match"].raw == 0.0
    )


def test_what_counts_as_a_thought_and_as_shown() -> None:
    assert gamma([shows(*NAMES), shows("x")]) == 0.0  # a document is no thought
    assert gamma([shows(*NAMES), replace(shows(), action=" ".join(NAMES))]) == 0.0  # nor is a query
    assert gamma([shows(*NAMES), replace(invalid(), thought=" ".join(NAMES))]) == 0.0  # nor one of a bad action
    assert gamma([search("q", *map(str, NAMES), ok=False, code="E_TOOL"), thinking(shows(), NAMES[0])]) == 0.0
    assert gamma([shows(*NAMES), thinking(answer("x"), "t. lind and the red-canyon")]) == 0.5  # aliases, last turn
    assert gamma([shows(*NAMES), thinking(shows(), "Tor Lindgren")]) == 0.0  # whole tokens
    asked = play(SUITE, [thinking(shows(), "Tor Lind")], gold=gold(4))
    assert asked.scores["entity_match"].raw == 0.0
    one = Gold(answers=(Answer("x"),), entities=(Entity("e", "Blue Harbour", (), 1),), doc_ids=("d",))
    assert (
        play(SUITE, [thinking(shows(), "Blue Harbour")], gold=one).scores["entity_match"].raw == 1.0
    )  # in the question


def test_one_hop_questions_count_the_answer_and_other_gold_is_refused() -> None:
    single = Gold(
        answers=(Answer("Mira"),), entities=(Entity("s", "X", role="start"), Entity("a", "Mira", (), 1, "answer"))
    )
    assert [e.id for e in on_the_way(single)] == ["a"]
    SUITE.check(Task("t", "q", single))
    for entities, match in (
        ((), "needs gold entities"),
        ((Entity("s", "X"),), "hop 0"),
        ((Entity("s", "…", (), 1),), "nothing is left of the name '…'"),
    ):
        with pytest.raises(ConfigError, match=match):
            SUITE.check(Task("t", "q", Gold(answers=(Answer("x"),), entities=entities)))
    with pytest.raises(ConfigError, match="events documents"):
        SUITE.check(Task("t", "q", gold(2)), events=())


def test_alone_it_is_no_success() -> None:
    played = play(SUITE, [shows(*NAMES), thinking(shows(), " ".join(NAMES))], "wrong", gold=gold(4))
    assert played.scores["entity_match"].raw == 1.0
    assert not played.success
