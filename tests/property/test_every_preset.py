"""What must hold for every shipped preset on any episode: sums, bounds, idle and repeated turns, order, records, words."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import reward_episodes as searches
import tool_episodes as tools
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentgym import hooks, schema
from agentgym.gold import Assertion, GoldCall, GuiAction
from agentgym.rewards import build_suite
from agentgym.task import Answer, Entity, Gold, Nugget, Rubric, Task
from agentgym.types import DocRef, ToolCall, ToolResult, Trajectory, Turn

START, DONE = {"orders": {"#1": "open"}}, {"orders": {"#1": "refunded"}}
T1, T2 = ("film", "directed_by", "E1"), ("E1", "born_in", "E0")
GOLD = Gold(
    answers=(Answer("Port Elm", ("Elm Port",)), Answer("P. Elm")),
    entities=(
        Entity("film", "Blue Harbour", role="start"),
        Entity("E1", "Mira Halvorsen", (), 1),
        Entity("E0", "Port Elm", (), 2, "answer"),
    ),
    doc_ids=("film-31", "person-12"),
    path=(T1, T2),
    rubrics=(Rubric("r1", "<E1> directed Blue Harbour"), Rubric("r2", "<E1> was born in <E0>")),
    nuggets=(Nugget("n1", "Mira Halvorsen directed Blue Harbour.", ("film-31",)),),
    trace=(GoldCall("g1", "get", {"id": "#1"}), GoldCall("g2", "refund", {"id": "#1"}, after=("g1",))),
    final_state=DONE,
    assertions=(Assertion("orders.#1", "eq", "refunded"),),
    actions=(GuiAction("click", "new", name="New"), GuiAction("finish")),
    finish="complete",
)
SET = replace(GOLD, answer_mode="all")
EVENTS = {"documents", "citations", "triples", "kept", "state", "said", "elements", "status", "success"}
DOCUMENTS = [
    DocRef("film-31", "Blue Harbour", "A film that Mira Halvorsen directed."),
    DocRef("person-12", "Mira Halvorsen", "Mira Halvorsen was born in Port Elm."),
    DocRef("x", "Tor Lind", "Port Elm and Blue Harbour."),
]
SEARCHES = ("search", "search_ig", "search_cited", "search_gated")
SUITES = {name: build_suite(name) for name in hooks.SUITES.names()}
every = pytest.mark.parametrize("name", sorted(SUITES))
few = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def gold_of(name: str) -> Gold:
    return SET if name == "graph" else GOLD


def kept(keeps: list[tuple[str, str, str]]) -> Turn:
    events = {"triples": [list(t) for t in keeps], "kept": [list(t) for t in keeps]}
    return Turn(0, "g", (ToolCall("keep", {"n": 1}, "c"),), (ToolResult("c", "keep", True, events=events),))


turns = st.one_of(
    st.builds(searches.search, st.sampled_from("abc"), st.sampled_from(DOCUMENTS), st.sampled_from(DOCUMENTS)),
    st.builds(lambda code: searches.search("x", ok=False, code=code), st.sampled_from(["E_TOOL", "E_BUDGET"])),
    st.builds(searches.invalid, st.sampled_from(["E_PARSE", "E_RESERVED"])),
    st.builds(kept, st.lists(st.sampled_from([T1, T2, ("a", "b", "c")]), max_size=3, unique=True)),
    st.sampled_from([tools.step(("get", {"id": "#1"})), tools.step(("refund", {"id": "#1"})), tools.step(("get", {"id": "#2"}))]),
    st.builds(lambda e: tools.step(("click", {"name": "New"}), events={"element": e}), st.sampled_from(["new", "old"])),
)
scripts = st.lists(st.tuples(turns, st.sampled_from([START, DONE, {"orders": {}}])), max_size=5)
answers = st.sampled_from([None, "Port Elm", "port elm.", "Oslo", '["Port Elm", "P. Elm"]', ""])
cited = st.lists(st.sampled_from(["film-31", "person-12", "x", "ghost"]), max_size=3).map(tuple)
Script = list[tuple[Turn, dict]]


def run(name: str, script: Script, text: str | None, citations: tuple[str, ...], gold: Gold | None = None) -> Trajectory:
    suite, gold = SUITES[name], gold or gold_of(name)
    if name in SEARCHES:
        played = searches.play(suite, [t for t, _ in script], text, gold=gold, citations=citations if text is not None else ())
        scorer = searches.TableScorer(lambda shown, target: [-0.1 if target.casefold() in shown.casefold() else -3.0])
        return suite.complete([played], scorer)[0]
    ended = [*script, (tools.step(("finish", {"status": "complete"})), script[-1][1] if script else START)]
    states = [START, *(state for _, state in ended)]
    reason = "answered" if name == "graph" and text is not None else "finished"
    return tools.play(suite, [t for t, _ in ended], gold, states=states, answer=text, end_reason=reason)


def test_every_preset_accepts_the_gold_and_separates() -> None:
    assert set(SUITES) >= {"search", "search_ig", "search_cited", "search_gated", "graph", "tools", "gui"}
    for name, suite in SUITES.items():
        suite.check(Task("t", "q", gold_of(name)), EVENTS)
        assert suite.bounds().margin > 0
        assert not suite.warnings


@every
@few
@given(scripts, answers, cited)
def test_values_add_up_inside_the_bounds_of_their_side(name: str, script: Script, text: str | None, citations: tuple) -> None:
    done = run(name, script, text, citations)
    tables = [*(t.scores for t in done.turns), done.scores]
    assert done.total == pytest.approx(sum(s.value for scores in tables for s in scores.values()), abs=1e-9)
    assert all(t.reward == pytest.approx(sum(s.value for s in t.scores.values()), abs=1e-12) for t in done.turns)
    assert all(s.valid and "clipped" not in s.reason for scores in tables for s in scores.values())
    bounds = SUITES[name].bounds()
    low, high = bounds.success if done.success else bounds.failure
    assert low - 1e-9 <= done.total <= high + 1e-9


@every
@few
@given(scripts, answers, cited, st.data())
def test_idle_and_repeated_turns_never_raise_the_total(
    name: str, script: Script, text: str | None, citations: tuple, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(script)))
    before = script[at - 1][1] if at else START
    idle = [searches.search("never asked", shown=""), searches.search("y", ok=False, code="E_TOOL"), searches.invalid()]
    if at and name in SEARCHES:
        idle.append(script[at - 1][0])  # the turn before, again
    extra = (data.draw(st.sampled_from(idle)), before)
    without, padded = run(name, script, text, citations), run(name, [*script[:at], extra, *script[at:]], text, citations)
    assert padded.total <= without.total + 1e-9


@every
@few
@given(scripts, answers, cited, st.randoms(use_true_random=False))
def test_the_order_of_gold_changes_nothing(name: str, script: Script, text: str | None, citations: tuple, random: object) -> None:
    def mixed(items: tuple) -> tuple:
        return tuple(random.sample(items, len(items)))  # pyright: ignore[reportAttributeAccessIssue]

    gold = gold_of(name)
    fields = {f: mixed(getattr(gold, f)) for f in ("answers", "entities", "doc_ids", "rubrics", "nuggets", "trace", "assertions")}
    assert run(name, script, text, citations, replace(gold, **fields)).total == pytest.approx(run(name, script, text, citations).total)


@every
@few
@given(scripts, answers, cited, st.text(max_size=20))
def test_records_score_the_same_and_words_change_nothing(
    name: str, script: Script, text: str | None, citations: tuple, words: str
) -> None:
    done = run(name, script, text, citations)
    line = json.dumps(schema.to_json(done))
    assert line == json.dumps(schema.to_json(run(name, script, text, citations))), "the same episode, the same bytes"
    again = SUITES[name].rescore(schema.from_json(Trajectory, json.loads(line)))
    assert json.dumps(schema.to_json(again)) == line
    spoken: Callable[[Turn], Turn] = lambda t: replace(t, thought=words, action=words + t.action, error=words)  # noqa: E731
    talked = run(name, [(spoken(t), state) for t, state in script], text, citations)
    assert [t.scores for t in talked.turns] == [t.scores for t in done.turns]
    assert talked.scores == done.scores
