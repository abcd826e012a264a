"""Path potential and action reference: only what results recorded counts, and loops add up to nothing."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from reward_episodes import alone, play, raw

from agentgym.errors import ConfigError
from agentgym.rewards.paths import ActionReference, PathPotential, calls_needed, path_f
from agentgym.task import Answer, Entity, Gold, Task
from agentgym.types import ToolCall, ToolResult, Trajectory, Turn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_search.json").read_text(encoding="utf-8"))
KG = GOLDEN["kg_potential"]
NAMED = {
    "t1": ("a", "knows", "b"),
    "t2": ("b", "born_in", "c"),
    "x1": ("a", "likes", "q"),
    "x2": ("q", "near", "z"),
    "x3": ("c", "in", "y"),
}
T1, T2 = NAMED["t1"], NAMED["t2"]
GOLD = Gold(answers=(Answer("C"),), entities=(Entity("a", "A"),), path=(T1, T2))
FIT, STEPS = alone("path_potential"), alone("action_reference")
Triple = tuple[str, str, str]


def walk(*, shows: Iterable[Triple] | None = None, keeps: Iterable[Triple] | None = None, ok: bool = True) -> Turn:
    """A turn of a graph tool, by the events that it records."""
    events = {k: [list(t) for t in v] for k, v in (("triples", shows), ("kept", keeps)) if v is not None}
    result = ToolResult("c", "neighbors", ok, data={}, events=events, code="" if ok else "E_TOOL")
    return Turn(0, "…", (ToolCall("neighbors", {}, "c"),), (result,))


def gains(played: Trajectory, name: str) -> list[float]:
    return [x or 0.0 for x in raw(played, name)]


def test_potential_has_the_golden_values() -> None:
    kept = [[NAMED[name] for name in names] for names in KG["kept_after_each_turn"]]
    assert [path_f(frozenset(k), [frozenset({T1, T2})]) for k in kept] == pytest.approx(KG["phi_F1"], abs=1e-6)
    played = play(FIT, [walk(keeps=k) for k in kept], gold=GOLD)
    found = gains(played, "path_potential")
    assert found == pytest.approx([0.0, *KG["turn_reward"]], abs=1e-6)
    assert sum(found) == pytest.approx(KG["sum"])
    big = frozenset({T1, T2} | {("n", "r", str(i)) for i in range(498)})
    assert len(big) == 500
    assert path_f(big, [frozenset({T1, T2})]) == pytest.approx(KG["return_whole_graph |S|=500"], abs=1e-6)
    broad = frozenset(NAMED[n] for n in ("t1", "t2", "x3"))
    assert path_f(broad, [frozenset({T1, T2})], 2.0) == pytest.approx(KG["recall-heavy F2 of {t1,t2,x3}"], abs=1e-6)


def test_keeping_and_dropping_in_a_loop_adds_up_to_nothing() -> None:
    loop = [walk(keeps=[T1]), walk(keeps=[])] * 3
    found = gains(play(FIT, loop, gold=GOLD), "path_potential")
    naive = sum(max(x, 0.0) for x in found)
    assert naive > 1.9  # paid per turn without the way back
    assert sum(found) == pytest.approx(KG["loop expand/undo x3 sum"], abs=1e-12)


def test_the_best_path_counts_and_all_of_them_where_all_answers_do() -> None:
    other = ("a", "met", "d")
    gold = replace(GOLD, paths=((T1, T2), (other,)))
    assert gains(play(FIT, [walk(keeps=[other])], gold=gold), "path_potential") == [1.0]
    both = replace(gold, answer_mode="all")
    assert gains(play(FIT, [walk(keeps=[other])], gold=both), "path_potential") == [0.5]


def test_what_is_no_event_pays_nothing() -> None:
    """EoG's reward counts a gold triple whose text is in the reasoning."""
    spoken = replace(walk(shows=[]), thought=f"{T1} {T2}", action=f"<think>{T1} {T2}</think>…")
    naive = sum(str(t) in spoken.thought for t in (T1, T2)) / 2
    assert naive == 1.0
    in_data = replace(
        walk(), results=(ToolResult("c", "neighbors", True, data={"kept": [list(T1)], "triples": [list(T1)]}),)
    )
    for turn in (spoken, in_data, walk(shows=[T1, T2], keeps=[T1, T2], ok=False)):
        assert gains(play(FIT, [turn], gold=GOLD), "path_potential") == [0.0]
        assert gains(play(STEPS, [turn], gold=GOLD), "action_reference") == [0.0]


# ---- distance


@pytest.mark.parametrize(
    ("missing", "known", "calls"),
    [
        ([], "a", 0),
        ([T1], "a", 1),
        ([T1, T2], "a", 2),
        ([T2, T1], "a", 2),
        ([T1, T2], "ab", 2),
        ([("a", "r", "b"), ("a", "r", "c"), ("a", "s", "d")], "a", 2),  # one relation in one call
        ([("a", "r", "b"), ("c", "r", "b"), ("d", "r", "b")], "b", 1),  # backwards along the same
        ([("a", "r", "b"), ("b", "r", "c"), ("d", "r", "c")], "a", 3),
        ([("u", "r", "v")], "a", 1),  # nothing leads there: one call on its own
        ([("a", "r", "b"), ("a", "r", "c"), ("d", "s", "b"), ("e", "s", "b")], "ad", 2),
    ],
)
def test_shortest_lists_of_calls(missing: list[Triple], known: str, calls: int) -> None:
    assert calls_needed(missing, known) == calls


def test_many_triples_are_covered_greedily_but_never_too_short() -> None:
    fan = [("a", "r", str(i)) for i in range(30)]
    assert calls_needed(fan, "a") == 1
    line = [(str(i), "r", str(i + 1)) for i in range(20)]
    assert calls_needed(line, ["0"]) == 20


def test_each_step_of_a_shortest_way_pays_the_same_and_detours_nothing() -> None:
    way = [walk(shows=[T1, NAMED["x1"]]), walk(shows=[T2]), walk(keeps=[T1, T2])]
    assert gains(play(STEPS, way, gold=GOLD), "action_reference") == pytest.approx([1 / 3] * 3)
    detour = [walk(shows=[NAMED["x2"]]), *way]
    found = gains(play(STEPS, detour, gold=GOLD), "action_reference")
    assert found == pytest.approx([0.0, 1 / 3, 1 / 3, 1 / 3])
    backwards = [walk(shows=[T2]), walk(shows=[T1]), walk(keeps=[T1, T2])]
    assert sum(gains(play(STEPS, backwards, gold=GOLD), "action_reference")) == pytest.approx(1.0)


def test_dropping_takes_back_and_loops_earn_nothing() -> None:
    way = [walk(shows=[T1, T2]), walk(keeps=[T1, T2]), walk(keeps=[]), walk(keeps=[T1, T2]), walk(keeps=[T2])]
    found = gains(play(STEPS, way, gold=GOLD), "action_reference")
    assert found == pytest.approx([2 / 3, 1 / 3, -1 / 3, 1 / 3, -1 / 3])
    again = [walk(shows=[T1])] * 6
    assert gains(play(STEPS, again, gold=GOLD), "action_reference") == pytest.approx([1 / 3, 0, 0, 0, 0, 0])
    seen_only = alone(ActionReference(keep=False))
    found = gains(play(seen_only, [walk(shows=[T1]), walk(shows=[T2])], gold=GOLD), "action_reference")
    assert found == pytest.approx([0.5, 0.5])


def test_environments_that_record_no_graph_are_refused() -> None:
    task = Task("t", "q", GOLD)
    for suite, kind in ((FIT, "kept"), (STEPS, "kept|triples")):
        with pytest.raises(ConfigError, match=rf"needs the events ({kind})"):
            suite.check(task, events={"documents", "citations"})
        suite.check(task, events={"kept", "triples"})
        with pytest.raises(ConfigError, match="needs gold path or paths"):
            suite.check(Task("t", "q", Gold(answers=(Answer("x"),))), events={"kept", "triples"})
    alone(ActionReference(keep=False)).check(task, events={"triples"})
    with pytest.raises(ConfigError, match="beta=0"):
        PathPotential(beta=0)
