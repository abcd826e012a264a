"""Grounding, votes, ensembles, faithfulness, comparisons, canaries, and the service around them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agentgym.errors import ConfigError
from agentgym.judges import Comparison, JudgeRequest, ProgramJudge, RuleJudge, StubJudge, Verdict, judge_service
from agentgym.judges.canary import CanaryJudge, corrected
from agentgym.judges.combine import Ensemble, FaithfulThenCorrect, Votes
from agentgym.judges.grounding import ground, locate
from agentgym.judges.protocol import Judge, abstention, decided
from agentgym.judges.service import JudgeRunner

ASK = JudgeRequest("The reply names the amount.", "You get 12.50 back.")


def decide(judge: Judge, *requests: JudgeRequest) -> list[Verdict]:
    return asyncio.run(judge.decide(requests))


class Scripted:
    """Says what a list says, one entry a request."""

    id = "scripted"

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), []

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        self.asked += requests
        given = [self.answers.pop(0) for _ in requests]
        return [abstention("service", "down") if a is None else decided(bool(a), quote="12.50") for a in given]

    def metrics(self) -> dict[str, float]:
        return {"calls": float(len(self.asked))}


# ---- grounding


@pytest.mark.parametrize(
    ("quote", "text", "found"),
    [
        ("12.50", "You get 12.50 back", "12.50"),
        ('"You  GET"', "you get it", "you get"),
        ("caf\u00e9 \u201cnoir\u201d", 'the CAF\u00c9 "noir" here', 'CAF\u00c9 "noir'),
        ("amount", "am\u200bount", "am\u200bount"),
        ("ﬁne", "it is fine", "fine"),
        ("", "text", None),
        (":", "a: b", None),
        ("...", "a... b", None),
        ("13.50", "You get 12.50 back", None),
    ],
)
def test_a_quote_is_found_as_a_reader_would_find_it(quote: str, text: str, found: str | None) -> None:
    span = locate(quote, text)
    assert (None if span is None else text[span[0] : span[1]]) == found


def test_what_an_ungrounded_quote_does_to_a_verdict() -> None:
    absent = replace(ASK, polarity="absent")
    claimed, real = decided(True, quote="you get 99"), decided(True, quote="you get 12.50")
    assert (ground(ASK, claimed).passed, ground(ASK, claimed).code) == (False, "ungrounded")
    assert (ground(ASK, real).passed, ground(ASK, real).quote) == (True, "You get 12.50")
    assert ground(absent, decided(False, quote="12.50")).passed is False
    assert ground(absent, decided(False, quote="a lie")).code == "ungrounded"
    assert ground(absent, decided(False, quote="a lie")).passed is True
    assert ground(absent, decided(True)).code == ""
    half = Verdict(False, 0.5, "nothing of it", label="partly")
    assert ground(replace(ASK, labels=("no", "partly", "yes")), half).score == 0.0


def test_a_quote_with_an_ellipsis_must_hold_in_order() -> None:
    request = replace(ASK, text="first part, much between, last part")
    assert ground(request, decided(True, quote="first part ... last part")).span == (0, 35)
    assert ground(request, decided(True, quote="last part ... first part")).code == "ungrounded"


# ---- judges without a model


def test_the_rule_judge_reads_words() -> None:
    judge = RuleJudge()
    request = JudgeRequest(
        "Mira Halvorsen directed Blue Harbour", "Blue Harbour was directed by Mira Halvorsen. It rained."
    )
    assert decide(judge, request)[0].quote == "Blue Harbour was directed by Mira Halvorsen"
    assert not decide(judge, replace(request, text="Blue Harbour rained. Mira Halvorsen directed."))[0].passed
    assert decide(judge, replace(request, evidence=("It rained",)))[0].passed
    assert not decide(judge, replace(request, evidence=("It rained",), polarity="absent"))[0].passed


def test_the_program_judge_asks_a_function_by_name() -> None:
    assert decide(ProgramJudge(lambda request: 0.5), ASK)[0].score == 0.5
    assert ProgramJudge("agentgym.judges.rules:content_words").id == "program:agentgym.judges.rules:content_words"
    with pytest.raises(ConfigError, match=r"program 'no_such_module:f': the module 'no_such_module' cannot be imported: none is installed"):
        ProgramJudge("no_such_module:f")
    with pytest.raises(ConfigError, match="write MODULE:NAME or FILE"):
        ProgramJudge("agentgym")


# ---- judges of judges


def test_votes_take_the_majority_of_distinct_samples() -> None:
    inner = Scripted(1, 0, 1, 0, 0, 1)
    verdicts = decide(Votes(inner, 3), ASK, replace(ASK, text="other 12.50"))
    assert [v.passed for v in verdicts] == [True, False]
    assert [r.sample for r in inner.asked] == [0, 1, 2, 0, 1, 2]
    assert verdicts[0].members == (True, False, True)


@pytest.mark.parametrize(
    ("said", "passed", "valid"),
    [
        ((1, 1, None), True, True),
        ((1, 0, None), False, True),
        ((1, None, None), False, False),
        ((0, 0, 1), False, True),
    ],
)
def test_lost_votes_are_left_out_until_too_few_are_left(said: tuple[Any, ...], passed: bool, valid: bool) -> None:
    verdict = decide(Votes(Scripted(*said), 3), ASK)[0]
    assert (verdict.passed, verdict.valid) == (passed, valid)
    verdict = decide(Ensemble([Scripted(s) for s in said]), ASK)[0]
    assert (verdict.passed, verdict.valid) == (passed, valid)


def test_faithfulness_comes_before_correctness() -> None:
    supported = replace(ASK, context="The tool returned 12.50.")
    inner = Scripted(1, 0, 1)
    verdicts = decide(FaithfulThenCorrect(inner), supported, replace(supported, text="made up 12.50"))
    assert [(v.passed, v.code) for v in verdicts] == [(True, ""), (False, "unfaithful")]
    assert len(inner.asked) == 3, "the unfaithful text is not asked about again"


class Leaning(StubJudge):
    """Prefers the text with more letters, or always the first."""

    def __init__(self, biased: bool) -> None:
        super().__init__()
        self.biased = biased

    def one(self, request: JudgeRequest) -> Verdict:
        import json

        pair = json.loads(request.text)
        first = self.biased or len(pair["first"]) > len(pair["second"])
        return Verdict(first, float(first), label=request.labels[-1 if first else 0])


def test_a_preference_for_a_place_cancels_out() -> None:
    pair = Comparison("clarity", "a long and clear text", "short")
    fair, biased = (
        JudgeRunner(Leaning(b)).compare([pair, replace(pair, first="x", second="yy")]) for b in (False, True)
    )
    assert [(p.value, p.consistent) for p in fair] == [(1.0, True), (0.0, True)]
    assert [(p.value, p.consistent) for p in biased] == [(0.5, False), (0.5, False)]


# ---- canaries


def test_canaries_are_judged_beside_the_requests_and_never_returned() -> None:
    inner = StubJudge(default=True)
    judge = CanaryJudge(inner, every=4)
    with pytest.warns(UserWarning, match=r"3 of 5 worthless texts passed \(60%"):
        quotes = [decide(judge, replace(ASK, text=f"text {i}"))[0].quote for i in range(24)]
    assert quotes == [f"text {i}" for i in range(24)]
    assert len(inner.asked) == 24 + 6
    bad = [r.text for r in inner.asked if not r.text.startswith("text")]
    assert "" in bad
    assert ASK.criterion in bad
    # ":" and "" have nothing to quote; what passes are texts with words
    assert judge.metrics()["canary_false_positive_rate"] == judge.n_passed / 6
    assert judge.metrics()["canaries"] == 6


def test_the_backward_correction_is_unbiased() -> None:
    fp, fn = 0.1, 0.2
    assert corrected(1.0, fp, fn) == pytest.approx(1.285714, abs=1e-6)
    assert corrected(0.0, fp, fn) == pytest.approx(-0.142857, abs=1e-6)
    assert (1 - fn) * corrected(1, fp, fn) + fn * corrected(0, fp, fn) == pytest.approx(1.0)
    assert fp * corrected(1, fp, fn) + (1 - fp) * corrected(0, fp, fn) == pytest.approx(0.0)
    with pytest.raises(ConfigError, match="no information"):
        corrected(1.0, 0.6, 0.4)


# ---- the service


def test_equal_requests_are_asked_once_and_empty_ones_never() -> None:
    stub = StubJudge({"12.50": True})
    runner = JudgeRunner(stub)
    empty = replace(ASK, text=" \x00\n")
    verdicts = runner.judge([ASK, empty, ASK, replace(empty, polarity="absent")])
    assert [v.passed for v in verdicts] == [True, False, True, False]
    assert [v.code for v in verdicts] == ["", "empty", "", "empty"]
    assert len(stub.asked) == 1
    assert runner.metrics()["judge/requests"] == 4


def test_the_service_works_inside_a_running_loop_and_counts_abstentions() -> None:
    runner = JudgeRunner(StubJudge(default=None))

    async def inside() -> list[Verdict]:
        return runner.judge([ASK])

    with pytest.warns(UserWarning, match="the judge abstained"):
        assert not asyncio.run(inside())[0].valid
    runner.judge([ASK])  # said once
    assert runner.metrics()["judge/abstain_rate"] == 1.0


def test_labels_must_be_a_scale() -> None:
    for labels, polarity in ((("one",), "present"), (("no", "yes"), "absent")):
        with pytest.raises(ConfigError, match="labels="):
            JudgeRunner(StubJudge()).judge([replace(ASK, labels=labels, polarity=polarity)])


def test_several_judges_make_an_ensemble_behind_one_service() -> None:
    runner = judge_service([StubJudge(default=True), StubJudge(default=True), StubJudge(default=False)], canary_every=0)
    assert runner.judge([ASK])[0].members == (True, True, False)
    with pytest.raises(ConfigError, match="options"):
        judge_service(StubJudge(), model="x")
