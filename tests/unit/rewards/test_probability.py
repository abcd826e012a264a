"""Reference probability, self-aligned reward and log-ratio: golden numbers, contexts, faults, scoring again."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from reward_episodes import PROMPT, TableScorer, alone, answer, play, raw, search

from agentgym.errors import ConfigError, ServiceError
from agentgym.rewards import Gate, Suite, answer_em
from agentgym.rewards.costs import all_valid
from agentgym.rewards.log_ratio import LogRatio
from agentgym.rewards.probability import ReferenceProbability, SelfAligned
from agentgym.task import Answer, Gold, Task
from agentgym.types import Message, Trajectory

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_search.json").read_text(encoding="utf-8"))
ONE = Gold(answers=(Answer("Mira"),))
RLPR, SAR, RATIO = (alone(n) for n in ("reference_probability", "self_aligned", "log_ratio"))


class Down:
    """A service that fails."""

    def score(self, *_: object) -> list[list[float]]:
        raise ServiceError("endpoint is down")


def thinking(text: str, thought: str) -> Trajectory:
    """An episode of one search and an answer behind a thought."""
    last = replace(answer(text), thought=thought, action=f"<think>{thought}</think><answer>{text}</answer>")
    return replace(play(RLPR, [search("q", shown="shown"), last], gold=ONE), answer=text)


# ---- reference probability


def test_reference_probability_has_the_golden_values() -> None:
    table = GOLDEN["rlpr"]
    after = [math.log(p) for p in table["probs"]]
    scorer = TableScorer(lambda text, target: after if text == "shown" else [math.log(table["p0"])] * 3)
    suite = alone(0.9 * ReferenceProbability() + 0.1 * all_valid)
    (done,) = suite.complete([play(suite, [search("q", shown="shown")], "x", gold=ONE)], scorer)
    found = done.scores["reference_probability"]
    assert found.parts == pytest.approx({"before.0": table["p0"], "after.0": table["mean"]})
    assert found.raw == pytest.approx(table["d"], abs=1e-6)
    assert done.total == pytest.approx(table["reward_with_format_1"], abs=1e-6)
    worse = TableScorer(lambda text, target: [-3.0] if text == "shown" else [-0.1])
    (done,) = suite.complete([play(suite, [search("q", shown="shown")], "x", gold=ONE)], worse)
    assert done.scores["reference_probability"].raw == 0.0


def test_the_gold_answer_follows_the_conversation_and_the_last_thought() -> None:
    scorer = TableScorer(lambda text, target: [-1.0])
    RLPR.complete([thinking("Tor", "it must be Mira")], scorer)
    (before, prefix_before, target, suffix), (after, prefix_after, *_) = scorer.asked
    assert before == PROMPT
    assert (target, suffix) == ("Mira", "</answer>")
    assert prefix_before == "<answer>"
    assert prefix_after == "<think>it must be Mira</think><answer>"
    assert [m.role for m in after[len(PROMPT) :]] == ["assistant", "user"]
    assert after[-1].text == "shown"
    assert "Tor" not in str(scorer.asked)  # the submitted answer is what the gold one replaces
    quiet = alone(ReferenceProbability(context="observations"))
    assert not quiet.components["reference_probability"].reads_thought
    scorer = TableScorer(lambda text, target: [-1.0])
    quiet.complete([thinking("Tor", "it must be Mira")], scorer)
    assert {prefix for _, prefix, *_ in scorer.asked} == {"<answer>"}
    assert scorer.asked[-1][0][-1].text == "Who directed Blue Harbour?\n\nshown"


def test_the_best_alias_counts_on_each_side() -> None:
    gold = Gold(answers=(Answer("A", ("B",)),))
    table = {("A", False): 0.3, ("B", False): 0.1, ("A", True): 0.2, ("B", True): 0.7}
    scorer = TableScorer(lambda text, target: [math.log(table[target, text == "shown"])])
    (done,) = RLPR.complete([play(RLPR, [search("q", shown="shown")], "x", gold=gold)], scorer)
    assert done.scores["reference_probability"].raw == pytest.approx(0.4)


# ---- self-aligned


def test_self_aligned_has_the_golden_values() -> None:
    table = GOLDEN["sar"]
    scorer = TableScorer(lambda text, target: table["logp_asked"] if text else table["logp_alone"])
    suite = Suite(answer_em + Gate(answer_em, 0.2 * SelfAligned()), success=answer_em)
    (done,) = suite.complete([play(suite, [], "Mira", gold=ONE)], scorer)
    assert done.scores["self_aligned"].raw == pytest.approx(table["value"], abs=1e-6)
    assert done.total == pytest.approx(table["reward_alpha_.2_right"], abs=1e-6)
    assert [target for _, _, target, _ in scorer.asked] == ["Mira", "Mira"]
    (wrong,) = suite.complete([play(suite, [], "Tor", gold=ONE)], scorer)
    assert wrong.total == 0.0  # copying the question's words pays nothing without being right


@pytest.mark.parametrize(
    ("alone_", "asked", "value"), [(-1.0, -9.0, -1.0), (-900.0, -1.0, 1.0), (-1.0, -900.0, -1.0), (-2.0, -2.0, 0.0)]
)
def test_self_aligned_is_clipped(alone_: float, asked: float, value: float) -> None:
    scorer = TableScorer(lambda text, target: [asked if text else alone_])
    (done,) = SAR.complete([play(SAR, [], "Mira", gold=ONE)], scorer)
    assert done.scores["self_aligned"].raw == pytest.approx(value)


# ---- log-ratio


def pair(policy: Sequence[float], reference: Sequence[float]) -> dict[str, TableScorer]:
    """Two models that give one token per turn, by the number of assistant turns so far."""
    return {name: _BySpoken(row) for name, row in (("scorer", list(policy)), ("reference", list(reference)))}


class _BySpoken(TableScorer):
    def __init__(self, row: list[float]) -> None:
        super().__init__(None)
        self.row = row

    def score(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> list[list[float]]:
        self.calls += 1
        self.asked += [(tuple(c), prefix, t, suffix) for c, t in zip(contexts, targets, strict=True)]
        return [[self.row[sum(m.role == "assistant" for m in context)]] for context in contexts]


def test_log_ratio_has_the_golden_values_and_telescopes() -> None:
    table = GOLDEN["prime"]
    suite = alone(LogRatio(beta=table["beta"]))
    for policy, reference, gains in zip(table["policy"], table["reference"], table["r"], strict=True):
        played = play(suite, [search("q", shown="seen")], "Mira", gold=ONE)
        services = pair(policy, reference)
        (done,) = suite.complete([played], **services)
        assert raw(done, "log_ratio") == pytest.approx(gains, abs=1e-9)
        assert [target for *_, target, _ in services["scorer"].asked] == [t.action for t in played.turns]
        assert services["scorer"].asked == services["reference"].asked
        assert suite.rescore(done) == done
        twice = alone(LogRatio(beta=2 * table["beta"]))
        assert raw(twice.rescore(done), "log_ratio") == pytest.approx([2 * x for x in gains], abs=1e-9)


def test_log_ratio_is_capped_whatever_the_models_say() -> None:
    suite = alone(LogRatio(beta=1.0, cap=0.5))
    turns = [search(str(i), shown="seen") for i in range(3)]
    (done,) = suite.complete(
        [play(suite, turns, "x", gold=ONE)], **pair([-0.1, -9.0, -0.1, -0.1], [-7.0, -0.1, -5.0, -9.0])
    )
    gains = [x or 0.0 for x in raw(done, "log_ratio")]
    assert gains == pytest.approx([0.5, -1.0, 1.0, 0.0])  # sums 6.9, -2, 2.9, 11.8, each clipped
    assert all(abs(sum(gains[: i + 1])) <= 0.5 + 1e-12 for i in range(4))
    assert sum(gains) == pytest.approx(0.5)


# ---- services and policies


def test_a_failed_model_is_invalid_and_an_episode_without_answer_is_zero() -> None:
    for suite in (RLPR, SAR):
        silent, spoken = play(suite, [search("q")], gold=ONE), play(suite, [], "Mira", gold=ONE)
        done = suite.complete([silent, spoken], Down())
        assert [t.in_loss for t in done] == [True, False]
        assert next(iter(done[0].scores.values())).raw == 0.0
        for bad in ([math.nan], [], [0.5]):
            (out,) = suite.complete([spoken], TableScorer(lambda text, target, bad=bad: bad))
            assert not out.in_loss, bad
        with pytest.raises(ConfigError, match="needs a scorer"):
            suite.complete([spoken])
    played = play(RATIO, [], "Mira", gold=ONE)
    for services in ({"scorer": Down(), "reference": TableScorer(lambda *_: [-1.0])}, pair([math.nan], [-1.0])):
        (out,) = RATIO.complete([played], **services)
        assert not out.in_loss
    with pytest.raises(ConfigError, match="log_ratio needs a reference"):
        RATIO.complete([played], TableScorer(lambda *_: [-1.0]))


def test_a_policy_cannot_make_a_model_fail_by_length_or_emptiness() -> None:
    seen: list[int] = []

    def strict(text: str, target: str) -> list[float]:
        seen.append(len(text) + len(target))
        return [-1.0] * min(len(target), 1)

    long = replace(
        thinking("y" * 60_000, "z" * 60_000),
        turns=tuple(replace(t, action="w" * 60_000) for t in thinking("y", "z" * 60_000).turns),
    )
    for suite in (RLPR, SAR):
        scorer = TableScorer(strict)
        (done,) = suite.complete([replace(long, scores=play(suite, [], "x", gold=ONE).scores)], scorer)
        assert done.in_loss
        assert all(sum(len(m.text) for m in c) + len(p) + len(t) < 13_000 for c, p, t, _ in scorer.asked)
    empty = play(RATIO, [replace(search("q"), action="")], gold=ONE)
    (done,) = RATIO.complete([empty], scorer=TableScorer(strict), reference=TableScorer(strict))
    assert done.in_loss
    assert raw(done, "log_ratio") == [0.0]


def test_stored_scores_need_no_model() -> None:
    scorer = TableScorer(lambda text, target: [-1.0 / (1 + len(text))])
    for suite in (RLPR, SAR):
        (done,) = suite.complete([play(suite, [search("q", shown="shown")], "Mira", gold=ONE)], scorer)
        assert suite.rescore(done) == done
        assert suite.complete([done]) == [done]


def test_misuse_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'conversation', 'observations'"):
        ReferenceProbability(context="all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="positive numbers"):
        LogRatio(cap=0)
    with pytest.raises(ConfigError, match="no gold answers"):
        RLPR.complete([replace(play(RLPR, [], "x", gold=ONE), gold=None)], TableScorer(lambda *_: [-1.0]))
    with pytest.raises(ConfigError, match="needs gold answers"):
        RLPR.check(Task("t", "q"))

    class Short:
        def score(self, *_: object) -> list[list[float]]:
            return []

    with pytest.raises(ConfigError, match="0 rows for"):
        RLPR.complete([play(RLPR, [], "x", gold=ONE)], Short())
