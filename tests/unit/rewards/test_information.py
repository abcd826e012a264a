"""Information gain: golden numbers, what enters the context, failures, and scoring again without the model."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from reward_episodes import GOLD, PROMPT, TableScorer, invalid, play, raw, search

from agentgym.errors import ConfigError, ServiceError
from agentgym.rewards import Cap, InformationGain, Suite, answer_em, build_suite, information_gain
from agentgym.task import Answer, Gold
from agentgym.types import Message, Trajectory

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards.json").read_text(encoding="utf-8"))["info_gain"]
ONE = Gold(answers=(Answer("Mira"),))
IG = Suite(answer_em + Cap(0.2 * information_gain, -0.2, 0.2))


def by_count(rows: dict[str, list[list[float]]]) -> TableScorer:
    """Rows per target; the number of observations in the context picks the row."""
    return TableScorer(lambda text, target: rows[target][text.count("shown")])


def three_searches(suite: Suite = IG, gold: Gold = ONE) -> Trajectory:
    return play(suite, [search(str(i), shown="shown") for i in range(3)], "Mira", gold=gold)


def test_golden_numbers_and_the_sum_telescopes() -> None:
    scorer = by_count({"Mira": GOLDEN["gold_token_logprobs_before_each_turn"]})
    before = three_searches()
    assert [t.scores["information_gain"].deferred for t in before.turns] == [True] * 4
    assert before.total == 1.0
    (after,) = IG.complete([before], scorer)
    gains = raw(after, "information_gain")
    assert gains == pytest.approx([*GOLDEN["ig"], 0.0], abs=1e-6)  # the answering turn shows nothing
    assert sum(gains) == pytest.approx(GOLDEN["p_last_minus_p_first"], abs=1e-6)
    assert after.total == pytest.approx(1 + 0.2 * GOLDEN["sum_ig"], abs=1e-6)
    assert not any(t.scores["information_gain"].deferred for t in after.turns)


def test_log_form_and_its_floor() -> None:
    component = InformationGain(form="log")
    with pytest.warns(UserWarning, match="margin"):
        suite = Suite(answer_em + component)
    scorer = by_count({"Mira": GOLDEN["gold_token_logprobs_before_each_turn"]})
    (after,) = suite.complete([three_searches(suite)], scorer)
    assert raw(after, "information_gain")[:3] == pytest.approx(GOLDEN["log_ig"], abs=1e-6)
    far = by_count({"Mira": [[-50.0], [-12.0], [-9.0], [-0.5]]})
    (after,) = suite.complete([three_searches(suite)], far)
    assert raw(after, "information_gain") == pytest.approx([0.0, 1.0, 8.5, 0.0])
    with pytest.raises(ConfigError, match="'prob', 'log'"):
        InformationGain(form="logit")  # pyright: ignore[reportArgumentType]


def test_the_best_alias_is_taken_before_the_difference() -> None:
    table = GOLDEN["alias_max"]
    rows = {"A": [[math.log(p)] for p in table["p_alias_a"]], "B": [[math.log(p)] for p in table["p_alias_b"]]}
    turns = [search("1", shown="shown"), search("2", shown="shown")]
    gains = []
    for gold in (Gold(answers=(Answer("A", ("B",)),)), Gold(answers=(Answer("B"), Answer("A")))):
        (after,) = IG.complete([play(IG, turns, gold=gold)], by_count(rows))
        gains.append(raw(after, "information_gain"))
    assert gains[0] == gains[1] == pytest.approx(table["ig"], abs=1e-6)


def test_one_call_for_the_batch_and_one_context_per_observation() -> None:
    scorer = TableScorer(lambda text, target: [-1.0])
    batch = [three_searches(gold=ONE), play(IG, [search("a", shown="shown")], "x", gold=GOLD)]
    IG.complete(batch, scorer)
    assert scorer.calls == 1
    assert len(scorer.asked) == 4 * 1 + 2 * 3  # contexts (the start, each observation) times aliases
    assert {(prefix, suffix) for _, prefix, _, suffix in scorer.asked} == {("<answer>", "</answer>")}


def test_the_context_is_prompt_and_observations_only() -> None:
    scorer = TableScorer(lambda text, target: [-1.0])
    guess = replace(search("Mira?", shown="passage one"), action="<think>the answer is Mira</think><search>…")
    echo = invalid("E_UNKNOWN_TOOL", shown="unknown tool 'Mira'")
    failed = search("x", ok=False, code="E_TOOL", shown="no document 'Mira'")
    IG.complete([play(IG, [guess, echo, failed, search("y", shown="passage two")], gold=ONE)], scorer)
    contexts = [context for context, *_ in scorer.asked]
    assert contexts[0] == PROMPT
    assert [c[-1].text for c in contexts[1:]] == [
        "Who directed Blue Harbour?\n\npassage one",
        "Who directed Blue Harbour?\n\npassage one\n\npassage two",
    ]
    assert all(c[0] == PROMPT[0] and len(c) == 2 for c in contexts)
    only_system = (Message.of("system", "s"),)
    IG.complete([play(IG, [search("y", shown="seen")], gold=ONE, prompt=only_system)], scorer)
    assert scorer.asked[-1][0] == (*only_system, Message.of("user", "seen"))


def test_lowering_p_first_and_restoring_it_earns_nothing() -> None:
    scorer = by_count({"Mira": [[-1.0], [-9.0], [-1.0], [-1.0]]})
    (after,) = IG.complete([three_searches()], scorer)
    assert raw(after, "information_gain")[0] < -0.3
    assert sum(raw(after, "information_gain")) == pytest.approx(0.0)
    assert sum(t.reward for t in after.turns) == pytest.approx(0.0, abs=1e-12)  # the cap lets nothing through either


def test_a_scorer_that_fails_makes_scores_invalid_and_takes_the_trajectory_out() -> None:
    class Down:
        def score(self, *_: object) -> list[list[float]]:
            raise ServiceError("endpoint is down")

    (after,) = IG.complete([three_searches()], Down())
    score = after.turns[0].scores["information_gain"]
    assert (score.valid, score.deferred, score.raw, score.value) == (False, False, None, 0.0)
    assert "endpoint is down" in score.reason
    assert not after.in_loss
    assert not after.in_statistics
    for bad in ([math.nan], [-math.inf], [0.7], []):
        (after,) = IG.complete([three_searches()], TableScorer(lambda text, target, bad=bad: bad))
        assert not after.in_loss, bad


def test_misuse_is_an_error_and_nothing_falls_back() -> None:
    with pytest.raises(ConfigError, match=r"information_gain needs a scorer"):
        IG.complete([three_searches()])
    with pytest.raises(ConfigError, match="no gold answers"):
        IG.complete([replace(three_searches(), gold=None)], TableScorer(lambda text, target: [-1.0]))

    class Short:
        def score(self, *_: object) -> list[list[float]]:
            return [[-1.0]]

    with pytest.raises(ConfigError, match="1 rows for 4 pairs"):
        IG.complete([three_searches()], Short())


def test_scoring_again_needs_no_model_and_may_use_the_other_form() -> None:
    suite = build_suite("search_ig")
    rows = GOLDEN["gold_token_logprobs_before_each_turn"]
    (after,) = suite.complete([three_searches(suite)], by_count({"Mira": rows}))
    again = suite.rescore(after)
    assert [t.reward for t in again.turns] == [t.reward for t in after.turns]
    assert again == after
    with pytest.warns(UserWarning, match="margin"):
        logged = Suite(answer_em + InformationGain(form="log"))
    assert raw(logged.rescore(after), "information_gain")[:3] == pytest.approx(GOLDEN["log_ig"], abs=1e-6)
    assert suite.complete([after], None) == [after]  # nothing waits, so no scorer is needed


def test_completing_leaves_out_what_is_in_neither_mask() -> None:
    scorer = TableScorer(lambda text, target: [-1.0])
    crashed = replace(three_searches(), in_loss=False, in_statistics=False)
    assert IG.complete([crashed], scorer) == [crashed]
    assert scorer.calls == 0
