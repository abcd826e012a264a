"""Evidence chains and citations: only what was cited and shown counts, and only what leads to the answer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from reward_episodes import alone, play, search

from agentgym.errors import ConfigError
from agentgym.judges import JudgeRequest, Verdict
from agentgym.rewards import EpisodeView, Suite, answer_em
from agentgym.rewards.citations import CitationRubric, chain_score, reached, statements
from agentgym.rewards.expression import Gate
from agentgym.rewards.judged import JudgedCitationRubric
from agentgym.task import Answer, Entity, Gold, Nugget, Rubric, Task
from agentgym.types import DocRef, Score, Trajectory, Turn

CARR = json.loads((Path(__file__).parents[2] / "golden" / "rewards_search.json").read_text(encoding="utf-8"))["carr"]
PLAIN, PRECISION, JUDGED = alone("citation_rubric"), alone("citation_precision"), alone("citation_rubric_judged")

GOLD = Gold(
    answers=(Answer("Port Elm"),),
    entities=(
        Entity("film", "Blue Harbour", role="start"),
        Entity("mira", "Mira Halvorsen", ("M. Halvorsen",), 1),
        Entity("elm", "Port Elm", (), 2, "answer"),
    ),
    doc_ids=("film-31", "person-12"),
    rubrics=(Rubric("r1", "<E1> directed Blue Harbour"), Rubric("r2", "<E1> was born in <E0>")),
    nuggets=(
        Nugget("n1", "Mira Halvorsen directed Blue Harbour.", ("film-31",)),
        Nugget("n2", "Mira Halvorsen was born in Port Elm.", ("person-12",)),
    ),
)
FILM = DocRef("film-31", "Blue Harbour", "A film that Mira Halvorsen directed.")
PERSON = DocRef("person-12", "Mira Halvorsen", "M. Halvorsen was born in Port Elm in 1961.")
OTHER = DocRef("x-1", "Port Elm", "Mira Halvorsen of Blue Harbour and Port Elm, all in one place.")
TURNS = [search("a", FILM), search("b", PERSON, OTHER)]


def rubric(
    *cited: str,
    turns: list[Turn] | None = None,
    given: str | None = "Port Elm",
    gold: Gold = GOLD,
    suite: Suite = PLAIN,
) -> Score:
    played = play(suite, TURNS if turns is None else turns, given, gold=gold, citations=cited)
    return played.scores[suite.program.trajectory.components[0].name]


# ---- the chain


@pytest.mark.parametrize("case", [name for name in CARR if name.startswith("case")])
def test_chains_have_the_golden_values(case: str) -> None:
    gold = Gold(
        answers=(Answer("UFC 1"),),
        entities=tuple(Entity(f"E{i}", f"Name {i}", (), 1, "answer" if i == 0 else "bridge") for i in range(6)),
        rubrics=tuple(Rubric(f"r{i}", text) for i, text in enumerate(CARR["rubrics"])),
    )
    read = statements(gold)
    supported = [bool(x) for x in CARR[case]["supported"]]
    assert [int(x) for x in reached([s.slots for s in read], supported)] == CARR[case]["connected"]
    assert chain_score(read, supported).raw == pytest.approx(CARR[case]["reward"], abs=1e-6)


def test_true_statements_off_the_chain_do_not_count() -> None:
    slots = [frozenset({"E0", "E1"}), frozenset({"E2", "E3"}), frozenset({"E1", "E2"})]
    naive = sum([True, True, False]) / 3  # supported share, without the search
    assert naive == pytest.approx(2 / 3)
    assert reached(slots, [True, True, False]) == [True, False, False]
    assert reached(slots, [True] * 3) == [True] * 3
    assert reached(slots, [False, True, True]) == [False] * 3
    weighted = Gold(
        answers=GOLD.answers, entities=GOLD.entities, rubrics=(replace(GOLD.rubrics[0], weight=3.0), GOLD.rubrics[1])
    )
    assert chain_score(statements(weighted), [False, True]).raw == 0.25


# ---- what supports a rubric


def test_cited_and_shown_gold_documents_support_their_rubrics() -> None:
    full = rubric("film-31", "person-12")
    assert full.raw == 1.0
    assert full.parts == {"supported.r1": 1, "supported.r2": 1, "reached.r1": 1, "reached.r2": 1}
    assert rubric("person-12").raw == 0.5
    assert rubric("film-31").raw == 0.0  # true, but not connected to the answer
    assert rubric("film-31").parts["supported.r1"] == 1.0
    assert rubric("film-31", "person-12", given="Elm Port").reason == "E0 not identified"
    assert rubric("film-31", "person-12", given=None).reason == "no_answer"


@pytest.mark.parametrize("cited", ["film-31", "http://x.example/film-31", "[1](film-31)", "person-12 film-31"])
def test_what_was_never_shown_supports_nothing(cited: str) -> None:
    """The published check passes a page by its address, where a judge may know the fact without it."""
    assert rubric(cited, turns=[search("a", OTHER)]).reason == "nothing shown is cited"
    failed = search("a", FILM, PERSON, ok=False, code="E_TOOL")
    assert rubric("film-31", "person-12", turns=[failed]).raw == 0.0


def test_a_document_that_was_cut_before_the_name_does_not_support() -> None:
    cut = replace(PERSON, text="M. Halvorsen was born …")
    assert rubric("film-31", "person-12", turns=[search("a", FILM), search("b", cut)]).raw == 0.0
    opened = [search("a", FILM), search("b", cut), search("c", PERSON)]  # later shown whole
    assert rubric("film-31", "person-12", turns=opened).raw == 1.0


def test_a_namesake_page_is_no_evidence() -> None:
    assert rubric("x-1").raw == 0.0
    no_nuggets = replace(GOLD, nuggets=())
    assert rubric("x-1", gold=no_nuggets).raw == 0.0  # it names all, but the gold documents are others
    assert rubric("film-31", "person-12", gold=no_nuggets).raw == 1.0
    no_documents = replace(GOLD, nuggets=(), doc_ids=())
    assert rubric("x-1", gold=no_documents).raw == 1.0
    assert rubric("person-12", gold=no_documents).raw == 0.5


@pytest.mark.parametrize(
    "given", ["null", "unknown", "Port Elm or Tor Lind", "Port Elm, Rome, Oslo", "", "Port Elm (see citations)"]
)
def test_a_hedged_answer_fills_no_slot(given: str) -> None:
    assert rubric("film-31", "person-12", given=given).raw == 0.0


def test_citing_everything_is_capped_and_may_cost() -> None:
    noise = [DocRef(f"n{i}", f"Title {i}", "Nothing.") for i in range(40)]
    turns = [*TURNS, search("c", *noise)]
    ids = [d.id for d in noise]
    assert rubric(*ids, "film-31", "person-12", turns=turns).raw == 0.0  # the first 20 are read
    assert rubric("film-31", "person-12", *ids, turns=turns).raw == 1.0
    priced = alone(CitationRubric(times_precision=True))
    assert rubric("film-31", "person-12", *ids, turns=turns, suite=priced).raw == pytest.approx(2 / 42)
    assert rubric("film-31", "person-12", suite=priced).raw == 1.0


def test_precision_counts_what_supports_among_all_that_is_cited() -> None:
    assert rubric("film-31", "person-12", suite=PRECISION).raw == 1.0
    assert rubric("film-31", "x-1", "never-shown", suite=PRECISION).raw == pytest.approx(1 / 3)
    assert rubric("person-12", turns=TURNS[:1], suite=PRECISION).raw == 0.0  # gold, but never shown
    assert rubric(suite=PRECISION).raw == 0.0
    assert rubric("film-31", "film-31", suite=PRECISION).raw == 1.0


def test_yes_or_no_answers_need_no_document_that_says_so() -> None:
    gold = Gold(
        answers=(Answer("yes"),),
        entities=(Entity("a", "Ana Reyes", role="start"), Entity("y", "yes", (), 1, "answer")),
        doc_ids=("d",),
        rubrics=(Rubric("r", "whether Ana Reyes lived is <E0>"),),
    )
    shown = search("q", DocRef("d", "Ana Reyes", "She lived."))
    assert rubric("d", turns=[shown], given="Yes.", gold=gold).raw == 1.0


@pytest.mark.parametrize(
    ("rubrics", "match"),
    [
        ((), "needs gold rubrics"),
        ((Rubric("r", "<E7> was born in <E0>"),), "rubric 'r' uses <E7>, which no entity stands for"),
        ((Rubric("r", "<E1> directed Blue Harbour"),), "no rubric holds <E0>"),
        ((Rubric("r", "<E1> and <E0>", 0.0),), "not all 0"),
        ((Rubric("r", "<E1> and <E0>", 2.0), Rubric("s", "<E0>", -1.0)), "must not be negative"),
    ],
)
def test_rubrics_that_nothing_could_satisfy_are_refused(rubrics: tuple[Rubric, ...], match: str) -> None:
    for suite in (PLAIN, JUDGED):
        with pytest.raises(ConfigError, match=match):
            suite.check(Task("t", "q", replace(GOLD, rubrics=rubrics)))
        with pytest.raises(ConfigError, match="events citations"):
            suite.check(Task("t", "q", GOLD), events={"documents"})


def test_behind_the_outcome_it_pays_right_answers_only() -> None:
    suite = Suite(answer_em + Gate(answer_em, 0.3 * CitationRubric()), success=answer_em)
    paid = play(suite, TURNS, "Port Elm", gold=GOLD, citations=("film-31", "person-12"))
    assert paid.total == pytest.approx(1.3)
    assert play(suite, TURNS, "Tor Lind", gold=GOLD, citations=("film-31", "person-12")).total == 0.0


# ---- with a judge


class Stub:
    """Passes what the text holds the last word of; abstains where told."""

    def __init__(self, abstain: bool = False) -> None:
        self.abstain = abstain
        self.asked: list[JudgeRequest] = []

    def judge(self, requests: list[JudgeRequest]) -> list[Verdict]:
        self.asked += requests
        if self.abstain:
            return [Verdict(False, code="service", reasons="down", abstained=True)] * len(requests)
        return [Verdict(r.criterion.rstrip(".").split()[-1] in r.text, 1.0) for r in requests]


def completed(played: Trajectory, judge: Stub) -> Trajectory:
    (after,) = JUDGED.complete([played], judge=judge)
    return after


def test_a_judge_reads_filled_statements_over_shown_text_only() -> None:
    judge = Stub()
    after = completed(play(JUDGED, TURNS, "Port Elm", gold=GOLD, citations=("person-12", "ghost")), judge)
    assert [r.criterion for r in judge.asked] == [
        "The text states: Mira Halvorsen directed Blue Harbour.",
        "The text states: Mira Halvorsen was born in Port Elm.",
    ]
    assert {r.text for r in judge.asked} == {f"{PERSON.title}\n{PERSON.text}"}
    assert {r.channel for r in judge.asked} == {"document"}
    assert after.scores["citation_rubric_judged"].raw == 0.5
    assert JUDGED.rescore(after) == after


def test_what_the_policy_left_out_is_zero_without_asking_and_a_fault_is_invalid() -> None:
    judge = Stub(abstain=True)
    for played in (
        play(JUDGED, TURNS, "Tor Lind", gold=GOLD, citations=("film-31",)),
        play(JUDGED, TURNS, "Port Elm", gold=GOLD),
        play(JUDGED, TURNS, gold=GOLD),
        play(JUDGED, TURNS, "x" * 100_000, gold=GOLD, citations=("film-31",)),
    ):
        after = completed(played, judge)
        assert after.scores["citation_rubric_judged"].raw == 0.0
        assert after.in_loss
    assert judge.asked == []
    after = completed(play(JUDGED, TURNS, "Port Elm", gold=GOLD, citations=("film-31",)), judge)
    assert not after.scores["citation_rubric_judged"].valid
    assert not after.in_loss
    assert not after.in_statistics


def test_long_evidence_is_shared_out() -> None:
    component = JudgedCitationRubric()
    big = [DocRef(f"b{i}", f"T{i}", "word " * 5_000) for i in range(4)]
    view = EpisodeView("q", GOLD, turns=[search("q", *big)], answer="Port Elm", citations=tuple(d.id for d in big))
    (first, *_) = component.requests(view)
    assert len(first.text) <= 16_000 + 6
    assert all(f"T{i}" in first.text for i in range(4))
