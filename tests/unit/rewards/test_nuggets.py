"""Nugget coverage: modes, guards against pasting, and the judged form."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from reward_episodes import alone, play, search

from agentgym.errors import ConfigError
from agentgym.judges import JudgeRequest, Verdict
from agentgym.rewards.judged import JudgedNuggetCoverage
from agentgym.rewards.nuggets import LABELS, Mode, NuggetCoverage, copied_share, coverage
from agentgym.task import Gold, Nugget, Task
from agentgym.types import DocRef, Score, Turn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_search.json").read_text(encoding="utf-8"))[
    "nuggets"
]
SUITE = alone("nugget_coverage")
TEXTS = (
    "Mira Halvorsen directed Blue Harbour.",
    "Blue Harbour was released in 1987.",
    "Tor Lind never visited Port Elm.",
    "Mira Halvorsen was born in Port Elm.",
)
GOLD = Gold(
    nuggets=tuple(
        Nugget(f"n{i}", text, vital=bool(v)) for i, (text, v) in enumerate(zip(TEXTS, GOLDEN["vital"], strict=True))
    )
)
MIXED = "Mira Halvorsen directed Blue Harbour. Blue Harbour was released late. Halvorsen, Mira was born at Port Elm!"


def covered(
    given: str | None,
    *,
    gold: Gold = GOLD,
    mode: Mode = "lenient",
    turns: list[Turn] | None = None,
    cited: tuple[str, ...] = (),
) -> Score:
    suite = alone(NuggetCoverage(mode))
    return play(suite, turns or [], given, gold=gold, citations=cited).scores["nugget_coverage"]


@pytest.mark.parametrize(
    ("mode", "value"),
    [
        ("lenient", GOLDEN["all_lenient,vital_lenient"][0]),
        ("vital", GOLDEN["all_lenient,vital_lenient"][1]),
        ("strict", GOLDEN["all_strict,vital_strict"][0]),
        ("vital_strict", GOLDEN["all_strict,vital_strict"][1]),
    ],
)
def test_modes_have_the_golden_values(mode: Mode, value: float) -> None:
    assert coverage(GOLDEN["labels"], GOLD.nuggets, mode) == pytest.approx(value, abs=1e-6)
    found = covered(MIXED, mode=mode)  # the same labels, read off an answer
    assert list(found.parts.values()) == [1.0, 0.5, 0.0, 1.0]
    assert found.raw == pytest.approx(value, abs=1e-6)


def test_weights_and_the_mode_in_the_name() -> None:
    heavy = replace(GOLD, nuggets=(replace(GOLD.nuggets[0], weight=3.0), *GOLD.nuggets[1:]))
    assert covered(TEXTS[0], gold=heavy).raw == pytest.approx(3 / 6)
    assert alone("nugget_coverage:strict").outcome.mode == "strict"  # pyright: ignore[reportAttributeAccessIssue]
    for component in (NuggetCoverage, JudgedNuggetCoverage):
        with pytest.raises(ConfigError, match="did you mean 'strict'"):
            component("strikt")  # pyright: ignore[reportArgumentType]
    assert set(get_args(Mode)) == {"lenient", "strict", "vital", "vital_strict"}


def test_a_fact_is_stated_in_one_sentence_and_not_denied() -> None:
    bag = "Mira came. Halvorsen left. Who directed? Blue. Harbour."
    assert covered(bag).raw == 0.0
    assert covered("Mira Halvorsen never directed Blue Harbour.").parts["n0"] == 0.0
    assert covered("Tor Lind visited Port Elm.").parts["n2"] == 0.0
    assert covered("Tor Lind never visited Port Elm.").parts["n2"] == 1.0
    assert covered(None).reason == "no_answer"
    assert covered("…").reason == "empty_answer"


def test_pasting_the_passages_needs_a_citation_and_only_the_head_is_read() -> None:
    passage = (
        "In the long history of northern film it was Mira Halvorsen who directed Blue Harbour with a crew of nine."
    )
    shown = [search("q", DocRef("d", "Blue Harbour", passage))]
    naive = coverage(["support", *["not_support"] * 3], GOLD.nuggets)
    assert naive == 0.25
    pasted = covered(passage, turns=shown)
    assert (pasted.raw, pasted.reason) == (0.0, "copied without a citation")
    assert covered(passage, turns=shown, cited=("never-shown",)).raw == 0.0
    assert covered(passage, turns=shown, cited=("d",)).parts["n0"] == 1.0
    assert covered(TEXTS[0], turns=shown).parts["n0"] == 1.0  # own words, though the facts are the passage's
    assert covered("filler " * 400 + TEXTS[0]).raw == 0.0
    assert copied_share([*"bcdefghij"], ["b c d e f g h i"]) == pytest.approx(8 / 9)


@pytest.mark.parametrize(
    ("nuggets", "mode", "match"),
    [
        ((), "lenient", "needs gold nuggets"),
        ((Nugget("n", "…"),), "lenient", "nothing is left of the text '…' of nugget 'n'"),
        ((Nugget("n", "x", vital=False),), "vital", "mode 'vital'"),
        ((Nugget("n", "x", weight=0.0),), "strict", "not all 0"),
    ],
)
def test_nuggets_that_count_nothing_are_refused(nuggets: tuple[Nugget, ...], mode: Mode, match: str) -> None:
    for component in (NuggetCoverage(mode), JudgedNuggetCoverage(mode)):
        with pytest.raises(ConfigError, match=match):
            alone(component).check(Task("t", "q", Gold(nuggets=nuggets)))


class Labels:
    """A judge that gives labels in turn; one that is no label is worth nothing."""

    def __init__(self, labels: list[str], abstain: bool = False) -> None:
        self.labels, self.abstain = labels, abstain
        self.asked: list[JudgeRequest] = []

    def judge(self, requests: list[JudgeRequest]) -> list[Verdict]:
        self.asked += requests
        return [Verdict(False, label=x, abstained=self.abstain) for x in self.labels[: len(requests)]]


def test_a_judge_gives_one_of_three_labels() -> None:
    suite = alone(JudgedNuggetCoverage())
    played = play(suite, [], MIXED, gold=GOLD)
    assert played.scores["nugget_coverage_judged"].deferred
    judge = Labels(GOLDEN["labels"])
    (after,) = suite.complete([played], judge=judge)
    assert after.scores["nugget_coverage_judged"].raw == pytest.approx(0.625)
    assert {r.labels for r in judge.asked} == {LABELS}
    assert {r.text for r in judge.asked} == {MIXED}
    assert suite.rescore(after) == after
    (odd,) = suite.complete([played], judge=Labels(["__import__('os')", *GOLDEN["labels"][1:]]))
    assert odd.scores["nugget_coverage_judged"].raw == pytest.approx(0.375)
    (failed,) = suite.complete([played], judge=Labels(GOLDEN["labels"], abstain=True))
    assert not failed.in_loss
    with pytest.raises(ConfigError, match="2 verdicts for 4 requests"):
        suite.complete([played], judge=Labels(GOLDEN["labels"][:2]))


def test_a_very_long_answer_never_makes_the_judge_abstain() -> None:
    suite = alone(JudgedNuggetCoverage())
    judge = Labels(["not_support"] * 4)
    (after,) = suite.complete([play(suite, [], "word " * 50_000 + TEXTS[0], gold=GOLD)], judge=judge)
    assert after.scores["nugget_coverage_judged"].raw == 0.0
    assert after.in_loss
    assert max(len(r.text) for r in judge.asked) < 4_000
