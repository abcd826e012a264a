"""What holds for the components of tools, users and interfaces on any episode, and for the presets on any numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reward_episodes import alone
from tool_episodes import broken, call, play, step, stored

from agentgym.gold import Assertion, Constraint, GoldCall, GuiAction, HiddenFact, Milestone, Product
from agentgym.rewards import Suite, build_suite
from agentgym.rewards.changes import applied, diff, final_state
from agentgym.seeding import stream
from agentgym.task import Answer, Gold, Task
from agentgym.types import JSON, Score, Trajectory, Turn

EVENTS = {"state", "said", "revealed", "elements", "status", "pages", "purchase", "success"}
NAMES = (
    *("call_match", "trace_match", "matchtir", "state_match", "state_partial", "state_assert", "communicate", "milestones"),
    *("ask_gain", "task_success", "action_match", "hierarchical_action", "shop_r1", "gui_success", "webshop_score"),
    *("rerank_ndcg", "select_hit", "roi_f1", "page_steps"),
)
NEXT_ACTION = ("call_match", "hierarchical_action", "shop_r1")
"""Made for episodes of one action: the first turn is the episode."""
START: JSON = {"orders": {"#1": "open", "#2": "open"}, "log": []}
DONE: JSON = {"orders": {"#1": "refunded", "#2": "open"}, "log": ["#1"]}
STATES = [START, DONE, {"orders": {"#1": "refunded"}, "log": ["#1"]}, {**DONE, "extra": {"a": [1, 2]}}, {**DONE, "log": ["#1", "x"]}]
GOLD = Gold(
    trace=(
        GoldCall("g1", "get", {"id": "#1"}),
        GoldCall("g2", "refund", {"id": "#1", "amount": 12.5}, {"amount": "number(0.01)"}, after=("g1",)),
        GoldCall("g3", "log", {}, optional=True),
    ),
    final_state=DONE,
    assertions=(Assertion("orders.#1", "eq", "refunded", 2.0), Assertion("log", "count", 1)),
    communicate=(Answer("12.50", type="number"), Answer("refunded", ("paid back",))),
    milestones=(Milestone("m1", (Constraint(call="get"),)), Milestone("m2", (Constraint(path="orders.#1", value="refunded"),), ("m1",))),
    minefields=(Milestone("x", (Constraint(call="delete"),)),),
    hidden_facts=(HiddenFact("h1", "a"), HiddenFact("h2", "b", weight=2.0)),
    actions=(GuiAction("click", "new", name="New"), GuiAction("type", "field", text="Ana Reyes"), GuiAction("finish")),
    doc_ids=("p1", "p2"),
    regions={"p1": ((0.0, 0.0, 10.0, 10.0),)},
    crop_required=True,
    product=Product("Trail shoes", attributes=("light",), options=("blue",), price_max=9.0),
)
calls = st.one_of(
    st.builds(lambda i: call("get", id=i), st.sampled_from(["#1", "#2", 1, None])),
    st.builds(lambda i, a: call("refund", id=i, amount=a), st.sampled_from(["#1", "#2"]), st.sampled_from([12.5, 12.505, "12.5", True])),
    st.sampled_from([call("log"), call("delete", id="#1"), call("read"), call("finish", status="complete"), call("reply", text="12.50 refunded")]),
    st.builds(lambda n: call("click", name=n), st.sampled_from(["New", "Old"])),
    st.builds(lambda t: call("type", text=t), st.sampled_from(["Ana Reyes", "Ana"])),
    st.builds(lambda t: call("reply", text=t), st.sampled_from(["paid back", "1 2 3 4 5 6 7 8 9 12.5", "no", "12.5"])),
)
events = st.fixed_dictionaries(
    {},
    optional={
        "element": st.sampled_from(["new", "field", "", 7]),
        "revealed": st.sampled_from([["h1"], ["h2", "h1"], ["v"], "h1", [1]]),
        "candidates": st.just(["x", "p2", "p1"]),
        "ranked": st.sampled_from([["p1", "p1"], ["x", "p2"], [], "p1"]),
        "selected": st.sampled_from(["p2", "p1", "x", 3]),
        "page": st.sampled_from(["p1", "x"]),
        "boxes": st.sampled_from([[[0, 0, 10, 10]], [[0, 0, 100, 100]], [], [[1, "a"]], "no", [[5, 5, 1, 1], [0, 0, 9, 10]]]),
        "bought": st.sampled_from([{"title": "trail shoes", "price": 5, "attributes": ["light"], "options": ["blue"]}, {"price": "5"}, 4]),
        "status": st.sampled_from(["complete", "infeasible", 4]),
        "said": st.sampled_from(["12.50", "refunded 12.5", 5]),
    },
)
turns = st.one_of(
    st.builds(lambda cs, e: step(*cs, events=e), st.lists(calls, min_size=1, max_size=3), events),
    st.builds(lambda c, code: step(c, ok=False, code=code), calls, st.sampled_from(["E_ARGS", "E_TOOL", "E_SERVICE"])),
    st.builds(broken, st.sampled_from(["E_PARSE", "E_RESERVED"])),
)
scripts = st.lists(st.tuples(turns, st.sampled_from(STATES)), min_size=1, max_size=5)
ends = st.sampled_from(["finished", "answered", "gave_up", "max_turns", "loop", "too_many_invalid"])
Script = list[tuple[Turn, JSON]]
SUITES = {name: alone(name) for name in NAMES}
PRESETS = {name: build_suite(name) for name in ("search_cited", "search_gated", "graph", "tools", "gui")}
every = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(suite: Suite, script: Script, end: str, gold: Gold = GOLD, answer: str | None = None) -> Trajectory:
    return play(suite, [t for t, _ in script], gold, states=[START, *(s for _, s in script)], end_reason=end, answer=answer)


def test_every_suite_accepts_the_gold() -> None:
    for suite in SUITES.values():
        suite.check(Task("t", "q", replace(GOLD, answers=(Answer("x"),))), EVENTS)  # turn scores alone ask for answer_em


@every
@few
@given(scripts, ends)
def test_values_add_up_raws_stay_in_range_and_a_policy_cannot_make_a_score_invalid(name: str, script: Script, end: str) -> None:
    suite = SUITES[name]
    done = run(suite, script, end)
    tables = [*(t.scores for t in done.turns), done.scores]
    assert done.total == pytest.approx(sum(s.value for scores in tables for s in scores.values()), abs=1e-9)
    scores = [table[name] for table in tables if name in table]
    assert all(s.valid and s.raw is not None and "clipped" not in s.reason for s in scores)
    low, high = suite.components[name].range
    running = 0.0
    for s in scores:
        running = (s.raw or 0.0) + (running if suite.components[name].scope == "turn" else 0.0)
        assert low - 1e-9 <= running <= high + 1e-9


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NEXT_ACTION])
@few
@given(scripts, ends, st.data())
def test_a_turn_that_does_nothing_or_repeats_one_never_raises_the_total(name: str, script: Script, end: str, data: st.DataObject) -> None:
    suite, at = SUITES[name], data.draw(st.integers(0, len(script) - 1))
    before = START if at == 0 else script[at - 1][1]
    idle = [(broken(), before), (step(call("read"), ok=False, code="E_TOOL"), before)]
    if at:
        idle.append((script[at - 1][0], before))  # the turn before once more, which changed nothing this time
    again = data.draw(st.sampled_from(idle))
    without, padded = run(suite, script, end), run(suite, [*script[:at], again, *script[at:]], end)
    if at and again is idle[-1] and name in ("trace_match", "matchtir", "milestones", "action_match"):
        # gold may hold the same call twice or after another: doing it again can then be what it asks for
        assert padded.total <= suite.bounds().success[1] + 1e-9
    else:
        assert padded.total <= without.total + 1e-9


@every
@few
@given(scripts, ends, st.randoms(use_true_random=False))
def test_the_order_in_which_gold_lists_things_changes_nothing(name: str, script: Script, end: str, random: object) -> None:
    def mixed(items: tuple) -> tuple:
        return tuple(random.sample(items, len(items)))  # pyright: ignore[reportAttributeAccessIssue]

    fields = {f: mixed(getattr(GOLD, f)) for f in ("trace", "assertions", "communicate", "milestones", "hidden_facts", "doc_ids")}
    shuffled = replace(GOLD, **fields)
    assert run(SUITES[name], script, end, shuffled).total == pytest.approx(run(SUITES[name], script, end).total, abs=1e-9)


@every
@few
@given(scripts, ends, st.text(max_size=30))
def test_words_beside_the_calls_change_nothing_and_records_score_the_same(name: str, script: Script, end: str, words: str) -> None:
    suite = SUITES[name]
    spoken = [(replace(turn, thought=words, action=words), state) for turn, state in script]
    done = run(suite, spoken, end)
    assert done.scores == run(suite, script, end).scores
    line = stored(done)
    assert suite.rescore(line) == line
    assert suite.rescore(line).total == done.total
    assert final_state(line.initial_state, line.turns) == script[-1][1]


@pytest.mark.parametrize("name", ["call_match", "trace_match", "matchtir", "action_match", "ask_gain", "milestones"])
@few
@given(st.lists(turns, min_size=1, max_size=4))
def test_a_loop_earns_what_gold_holds_and_then_nothing(name: str, loop: list[Turn]) -> None:
    # every round that earns meets one more item of gold, and no list of gold has more than three
    four, five = (run(SUITES[name], [(turn, START) for turn in loop] * rounds, "max_turns") for rounds in (4, 5))
    assert five.total <= four.total + 1e-9


jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(jsons, jsons)
def test_changes_lead_from_any_state_to_any_other(before: JSON, after: JSON) -> None:
    assert json.dumps(applied(before, diff(before, after)), sort_keys=True) == json.dumps(after, sort_keys=True)
    assert diff(after, after) == ()


# ---- presets


@pytest.mark.parametrize(
    ("name", "failure", "success", "margin"),
    [
        ("search_cited", (-0.5, 0.3), (0.5, 1.6), 0.2),
        ("search_gated", (-0.3, 0.4), (0.7, 1.4), 0.3),
        ("graph", (-0.5, 0.5), (0.7, 1.5), 0.2),
        ("tools", (-0.4, 0.3), (0.6, 1.3), 0.3),
        ("gui", (-0.3, 0.5), (0.9, 1.5), 0.4),
    ],
)
def test_every_success_of_a_preset_beats_every_failure(
    name: str, failure: tuple[float, float], success: tuple[float, float], margin: float
) -> None:
    bounds = PRESETS[name].bounds()
    assert (bounds.failure, bounds.success, bounds.margin) == (failure, success, margin)
    assert not PRESETS[name].warnings


@pytest.mark.parametrize("name", PRESETS)
def test_random_values_of_components_stay_within_the_bounds_of_a_preset(name: str) -> None:
    suite, rng = PRESETS[name], stream("margin", name)
    parts, bounds = suite.program.turn.components, PRESETS[name].bounds()
    lowest, highest = np.inf, -np.inf
    for trial in range(2000):
        state, total, won = suite.blank(), 0.0, bool(trial % 2)
        corner = rng.integers(2, size=len(parts)) if trial % 4 < 2 else None
        for _ in range(int(rng.integers(1, 10))):
            raws = []
            for i, component in enumerate(parts):
                low, high = max(component.range[0], -16.0), component.range[1]
                raws.append(float(rng.uniform(low, high) if corner is None else (low, high)[corner[i]]))
            total += sum(s.value for s in suite.turn_contributions([Score("turn", x) for x in raws], state).values())
        finals = [Score("trajectory", at_end(suite, c.name, won, rng)) for c in suite.program.trajectory.components]
        total += sum(s.value for s in suite.trajectory_contributions(finals, state).values())
        low, high = bounds.success if won else bounds.failure
        assert low - 1e-9 <= total <= high + 1e-9
        lowest, highest = (min(lowest, total), highest) if won else (lowest, max(highest, total))
    assert lowest - highest >= bounds.margin - 1e-9 > 0
    assert lowest - highest < bounds.margin + 0.06, "the search comes near the bound, or it shows nothing"


def at_end(suite: Suite, name: str, won: bool, rng: np.random.Generator) -> float:
    component = suite.components[name]
    if component is suite.outcome:
        return float(won)
    low, high = component.tied.get(suite.outcome.name, (component.range,) * 2)[won]
    return float(rng.choice([low, high, rng.uniform(low, high)]))
