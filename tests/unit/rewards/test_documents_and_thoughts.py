"""Pages and regions, and the judged atoms of reasoning: worked numbers and attacks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from reward_episodes import alone
from tool_episodes import call, play, score, step, stored

from agentgym.errors import ConfigError
from agentgym.judges import JudgeRequest, Verdict
from agentgym.rewards.documents import boxes_f1, iou, ndcg
from agentgym.rewards.thoughts import atoms
from agentgym.task import Gold, Task
from agentgym.types import Turn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_tools.json").read_text(encoding="utf-8"))
BOX = (10.0, 10.0, 30.0, 30.0)
GOLD = Gold(doc_ids=("g1", "g2"), regions={"g1": (BOX,)}, crop_required=True)


def ranked(*ids: str) -> Turn:
    return step(call("rerank"), events={"candidates": ["x", "g1", "y", "g2"], "ranked": list(ids)})


def picked(page: str) -> Turn:
    return step(call("select", page=page), events={"selected": page})


def crop(*boxes: Sequence[float], page: str = "g1") -> Turn:
    return step(call("crop"), events={"page": page, "boxes": [list(b) for b in boxes]})


def raws(turns: Sequence[Turn], gold: Gold = GOLD) -> dict[str, float | None]:
    suite = alone("rerank_ndcg + select_hit + roi_f1 + page_steps")
    played = play(suite, turns, gold)
    assert suite.rescore(stored(played)) == stored(played)
    return {name: s.raw for name, s in played.scores.items()}


def test_a_ranking_counts_each_page_once() -> None:
    golden = GOLDEN["ndcg"]
    assert ndcg(["x", "g1", "y", "g2"], ["g1", "g2"]) == pytest.approx(golden["rank [x,g1,y,g2] gold {g1,g2}"], abs=1e-6)
    assert ndcg(["g1", "g1"], ["g1"]) == golden["dedup [g1]"] < golden["rank with duplicated hit [g1,g1] gold {g1} (bug: >1)"]
    assert raws([ranked("g1", "g2")])["rerank_ndcg"] == 1.0
    assert raws([ranked("g1", "g2"), ranked("x")])["rerank_ndcg"] == 0.0  # the last word counts


def test_regions() -> None:
    golden = GOLDEN["roi"]
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(golden["iou [0,0,10,10] vs [5,0,15,10]"], abs=1e-6)
    whole = (0.0, 0.0, 100.0, 100.0)
    assert iou(whole, BOX) == pytest.approx(golden["whole page [0,0,100,100] vs [10,10,30,30]"])
    assert boxes_f1([BOX, (50, 50, 60, 60)], [BOX]) == pytest.approx(golden["f1 2 pred 1 hit of 1 gold"], abs=1e-6)
    assert raws([crop(whole)])["roi_f1"] == 0.0
    assert raws([crop(BOX)])["roi_f1"] == 1.0
    assert raws([crop(BOX), crop(BOX, (50, 50, 60, 60))])["roi_f1"] == pytest.approx(2 / 3)
    assert raws([crop(BOX), crop((50, 50, 60, 60), page="x")])["roi_f1"] == pytest.approx(2 / 3)
    assert raws([crop(*[BOX] * 51)])["roi_f1"] == 0.0
    assert raws([crop((30, 30, 10, 10), ["a"], [1, 2])])["roi_f1"] == 0.0


def test_the_published_sum_over_a_worked_episode() -> None:
    turns = [ranked("x", "g1", "y", "g2"), picked("g1"), crop(BOX, (50, 50, 60, 60))]
    got = raws(turns)
    total = 0.6 + 0.1 * ((got["rerank_ndcg"] or 0) + (got["select_hit"] or 0) + (got["roi_f1"] or 0)) + 0.1
    assert total == pytest.approx(GOLDEN["roi"]["unidoc total .6*1+.1*(.65)+.1*1+.1*.67+.1*1"], abs=1e-6)


def test_no_crop_is_worth_nothing_where_none_is_needed_and_its_weight_is_shared() -> None:
    free = Gold(doc_ids=("g1",), regions={"g1": (BOX,)})
    steps = [ranked("g1"), picked("g1")]
    assert raws(steps, free)["page_steps"] == 1.0
    assert raws([*steps, crop(BOX)], free)["page_steps"] == pytest.approx(2 / 3)
    assert raws(steps, GOLD)["page_steps"] < raws([*steps, crop(BOX)], GOLD)["page_steps"]  # pyright: ignore[reportOptionalOperand]
    assert raws(steps, GOLD)["roi_f1"] == 0.0


def test_the_first_gold_candidate_is_the_one_to_pick() -> None:
    assert raws([ranked("x"), picked("g1")])["select_hit"] == 1.0
    assert raws([ranked("x"), picked("g2")])["select_hit"] == 0.0
    other = step(call("rerank"), events={"candidates": ["u", "v"]})
    assert raws([other, picked("u")])["select_hit"] == 1.0
    assert raws([ranked("x"), picked("x"), step(call("search"), events={"candidates": ["x"]})])["select_hit"] == 0.0
    assert raws([picked("g1")])["select_hit"] == 0.0


def test_regions_without_area_are_refused() -> None:
    for gold, word in ((Gold(doc_ids=("g",), regions={"p7": ((3.0, 3.0, 3.0, 9.0),)}), "'p7'"), (Gold(doc_ids=("g",), crop_required=True), "crop")):
        with pytest.raises(ConfigError, match=word):
            alone("page_steps").check(Task("t", "q", gold))


# ---- atoms of reasoning


class Judge:
    """Passes what holds the word sound; abstains on what holds the word service."""

    def __init__(self) -> None:
        self.asked: list[JudgeRequest] = []

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        self.asked += requests
        return [
            Verdict("sound" in r.text, float("sound" in r.text), abstained="service" in r.text) for r in requests
        ]


def judged(*thoughts: str) -> tuple[Any, Judge]:
    suite, judge = alone("atomic_thought"), Judge()
    (done,) = suite.complete([play(suite, [step(call("x"), thought=t) for t in thoughts], Gold())], judge=judge)
    assert suite.rescore(stored(done)) == stored(done)
    return score(done, "atomic_thought"), judge


SOUND = "<PLAN>a sound plan of some length</PLAN>"
WEAK = "<RISK_ANALYSIS>a hollow risk of some length</RISK_ANALYSIS>"


def test_atoms_are_judged_one_by_one() -> None:
    result, judge = judged(SOUND, f"so {WEAK} then")
    assert result.raw == 0.5
    assert [r.channel for r in judge.asked] == ["thought", "thought"]
    assert "risk analysis" in judge.asked[1].criterion


def test_many_tiny_atoms_and_none_at_all() -> None:
    assert judged("<A1>x</A1>", "<OK>sound</OK>" * 200)[0].raw == 0.0
    result, judge = judged(WEAK * 8 + SOUND * 200)
    assert (result.raw, len(judge.asked)) == (0.0, 8)
    assert judged("no atoms here, sound as it is")[0].raw == 0.0
    assert not judged(SOUND, "<PLAN>the service is not here today</PLAN>")[0].valid


@pytest.mark.timeout(20)
def test_atoms_are_found_in_linear_time() -> None:
    assert atoms("<A><PLAN>inner <A> text</PLAN>") == [("PLAN", "inner <A> text")]
    assert atoms("".join(f"<PLAN{'_' * (i % 30)}>" for i in range(20_000))) == []
