"""Faults of released reward code: the formula as released shows the fault, ours does not. And one worked total."""

import re

import pytest
from reward_episodes import GOLD, Fixed, TableScorer, alone, answer, play, potential, search

from agentgym.dialects.tags import TagsDialect
from agentgym.rewards import Cap, Gate, Suite, all_valid, answer_em, build_suite, forgery, query_novelty
from agentgym.task import Limits
from agentgym.types import ToolSpec

WORD = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"], "additionalProperties": False}
SPECS = (ToolSpec("search", "", WORD), ToolSpec("answer", "", WORD, final=True))


def test_an_answer_before_a_search_is_cut_off_at_the_search() -> None:
    """Search-R1 ends a generation at the first </search>, else at the first </answer>."""
    text = "<answer>Mira</answer> or <search>Mira</search>"

    def released(generated: str) -> str:
        for closer in ("</search>", "</answer>"):
            if closer in generated:
                cut = generated.split(closer)[0] + closer
                return re.findall(r"<(search|answer)>(.*?)</\1>", cut)[-1][0]
        return ""

    assert released(text) == "search"
    assert TagsDialect().parse(text, SPECS, Limits()).error_code == "E_MULTI"  # neither runs: one call a turn
    assert TagsDialect().parse("<answer>Mira</answer> or so", SPECS, Limits()).calls[0].name == "answer"


def test_information_gain_is_never_dropped_for_its_number() -> None:
    """IGPO's release splits a transcript by a marker and drops all gains when the counts disagree."""
    turns = [
        search("a", shown="shown one"),
        search("b", shown="a marker: <tool_call> in a page"),
        search("c", shown="three"),
    ]

    def released(gains: list[float], transcript: str) -> list[float]:
        segments = transcript.split("<tool_call>")[1:]
        return gains if len(gains) == len(segments) else []

    transcript = "".join(f"<tool_call>{t.messages[0].text}" for t in turns)
    assert released([0.1, 0.2, 0.3], transcript) == []
    suite = build_suite("search_ig")
    (done,) = suite.complete([play(suite, turns, "x")], TableScorer(lambda text, target: [-9.0 / (1 + len(text))]))
    gains = [t.scores["information_gain"].raw for t in done.turns]
    assert len(gains) == 4
    assert all((gain or 0) > 0 for gain in gains[:3])


def test_a_blind_answer_is_worth_little() -> None:
    """KG-R1 pays .5 for the form of each turn and .5 for any answer: half of all there is, for a guess."""
    released = 0.5 * 1 + 0.5 * 1
    assert released == 1.0
    blind = play(build_suite("search"), [], "a guess")
    assert blind.total <= 0.1 + 1e-12
    best = play(build_suite("search"), [search("a", "film-31"), search("b", "person-12")], "Mira Halvorsen")
    assert blind.total < 0.1 * best.total


def test_presence_of_evidence_is_not_read_from_text() -> None:
    loud = answer("x")
    claims = "film-31 person-12 Mira Halvorsen was shown"
    for name in ("format_ladder", "query_quality", "info_density", "citation_precision"):
        quiet_total = play(alone(name), [loud], "x", gold=GOLD).total
        spoken = play(alone(name), [search(claims, shown=claims), loud], "x", gold=GOLD)
        assert spoken.total <= quiet_total


def test_a_worked_total() -> None:
    """Exact match, capped information gain, a clean record, rubrics behind the outcome, and capped costs."""
    gain = potential("gain", [0.16232, -0.040447, 0.636047, 0.0])
    rubric = Fixed("rubric", [4 / 7], is_outcome=False)
    suite = Suite(
        answer_em
        + Cap(0.2 * gain, -0.2, 0.2)
        + 0.1 * all_valid
        + Gate(answer_em, 0.3 * rubric)
        + Cap(0.05 * query_novelty + 1.0 * forgery, -0.3, 0.0),
        success=answer_em,
    )
    turns = [search("a", "d1"), search("b", "d2"), search("A!", "d3")]  # the last asks the first again
    right, wrong = play(suite, turns, "Mira Halvorsen"), play(suite, turns, "Tor Lind")
    assert right.total == pytest.approx(1.373013, abs=1e-6)
    assert wrong.total == pytest.approx(0.201584, abs=1e-6)
    assert right.total - wrong.total == pytest.approx(1.171429, abs=1e-6)
