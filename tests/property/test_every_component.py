"""What must hold for each registered component on any episode: sums, ranges, loops, order, records, thoughts.

Covered is every component that the gold below can feed; those that need the gold of other families (state, traces,
widgets) have properties of their own.
"""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reward_episodes import alone, invalid, play, search

from agentgym import hooks, schema
from agentgym.errors import ConfigError
from agentgym.judges import JudgeRequest, Verdict
from agentgym.rewards import Suite
from agentgym.task import Answer, Entity, Gold, Nugget, Rubric, Task
from agentgym.types import DocRef, Message, ToolCall, ToolResult, Trajectory, Turn

SEARCH_FAMILY = {
    *("answer_em", "answer_f1", "answer_cover", "answer_set_f1", "answer_number", "format_ladder", "query_quality"),
    *("info_density", "entity_match", "citation_rubric", "citation_precision", "nugget_coverage", "path_potential"),
    *("citation_rubric_judged", "nugget_coverage_judged", "information_gain", "information_gain_log", "log_ratio"),
    *("reference_probability", "self_aligned", "retrieval_gain", "query_novelty", "action_reference", "all_valid"),
    *("step_cost", "call_cost", "obs_cost", "invalid_action", "forgery"),
}
T1, T2, T3 = ("film", "directed_by", "E1"), ("E1", "born_in", "E0"), ("film", "shot_in", "x")
GOLD = Gold(
    answers=(Answer("Port Elm", ("Elm Port", "P. Elm")),),
    entities=(
        Entity("film", "Blue Harbour", role="start"),
        Entity("E1", "Mira Halvorsen", ("M. Halvorsen",), 1),
        Entity("E2", "Tor Lind", (), 1, "constraint"),
        Entity("E0", "Port Elm", (), 2, "answer"),
    ),
    doc_ids=("film-31", "person-12"),
    path=(T1, T2),
    rubrics=(Rubric("r1", "<E1> directed Blue Harbour"), Rubric("r2", "<E1> was born in <E0>", 2.0)),
    nuggets=(
        Nugget("n1", "Mira Halvorsen directed Blue Harbour.", ("film-31",)),
        Nugget("n2", "Mira Halvorsen was born in Port Elm.", ("person-12",), vital=False, weight=2.0),
    ),
)
NUMBER = replace(GOLD, answers=(Answer("1,961", ("1961 km",), "number", "km", 0.5),))
DOCUMENTS = [
    DocRef("film-31", "Blue Harbour", "A film that Mira Halvorsen directed."),
    DocRef("person-12", "Mira Halvorsen", "M. Halvorsen was born in Port Elm in 1961."),
    DocRef("x-1", "Tor Lind", "Tor Lind knew Blue Harbour and Port Elm."),
    DocRef("n-1", "Nothing", "Nothing is here."),
]
THOUGHTS = ["", "Mira Halvorsen, then Port Elm", "Tor Lind?", "the answer is Port Elm 1961"]
ANSWERS = [
    None,
    "",
    "Port Elm",
    "port elm.",
    "1961",
    "1961 miles",
    "Mira Halvorsen was born in Port Elm.",
    '["P. Elm"]',
]


def graph(shows: list[tuple[str, str, str]], keeps: list[tuple[str, str, str]] | None) -> Turn:
    events = {"triples": [list(t) for t in shows]} | ({} if keeps is None else {"kept": [list(t) for t in keeps]})
    return Turn(0, "g", (ToolCall("neighbors", {"n": 1}, "c"),), (ToolResult("c", "neighbors", True, events=events),))


triples = st.lists(st.sampled_from([T1, T2, T3]), max_size=3, unique=True)
turn = st.one_of(
    st.builds(search, st.sampled_from("abc"), st.sampled_from(DOCUMENTS), st.sampled_from(DOCUMENTS)),
    st.builds(search, st.sampled_from("abc"), st.sampled_from(DOCUMENTS)),
    st.builds(lambda code: search("x", ok=False, code=code), st.sampled_from(["E_TOOL", "E_BUDGET"])),
    st.builds(invalid, st.sampled_from(["E_PARSE", "E_RESERVED"])),
    st.builds(graph, triples, st.none() | triples),
)
thoughtful = st.builds(lambda t, thought: replace(t, thought=thought), turn, st.sampled_from(THOUGHTS))
scripts = st.lists(thoughtful, max_size=6)
answers = st.sampled_from(ANSWERS)
cited = st.lists(st.sampled_from([*(d.id for d in DOCUMENTS), "ghost"]), max_size=4).map(tuple)


class Services:
    """A model and a judge that are functions of what they read."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def score(
        self, contexts: list[tuple[Message, ...]], prefix: str, targets: list[str], suffix: str
    ) -> list[list[float]]:
        lengths = [sum(len(m.text) for m in c) + len(prefix) + len(t) for c, t in zip(contexts, targets, strict=True)]
        return [[-self.scale / (1 + n % 13), -0.5] for n in lengths]

    def judge(self, requests: list[JudgeRequest]) -> list[Verdict]:
        return [
            Verdict(
                len(r.text) % 2 == 0,
                float(len(r.text) % 2 == 0),
                label=r.labels[len(r.text) % len(r.labels)] if r.labels else "",
            )
            for r in requests
        ]


def feedable() -> dict[str, tuple[Suite, Gold]]:
    """Every registered component that one of the golds can feed."""
    found = {}
    for name in hooks.COMPONENTS.names():
        try:
            suite = alone(name)
        except (ConfigError, TypeError):  # it needs an argument
            continue
        for gold in (GOLD, NUMBER):
            try:
                suite.check(Task("t", "q", gold), {"documents", "citations", "triples", "kept"})
            except ConfigError:
                continue
            found[name] = suite, gold
            break
    return found


FED = feedable()
every = pytest.mark.parametrize("name", sorted(FED))
no_model = pytest.mark.parametrize(  # a model may think what it likes of a longer conversation
    "name", sorted(n for n, (suite, _) in FED.items() if not suite.components[n].needs & {"scorer", "reference"})
)
no_thought = pytest.mark.parametrize(
    "name", sorted(n for n, (suite, _) in FED.items() if not suite.components[n].reads_thought)
)
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(
    name: str, script: list[Turn], text: str | None, citations: tuple[str, ...], gold: Gold | None = None
) -> Trajectory:
    suite, own = FED[name]
    played = play(suite, script, text, gold=gold or own, citations=citations if text is not None else ())
    (done,) = suite.complete([played], scorer=Services(), judge=Services(), reference=Services(2.0))
    return done


def test_the_search_family_is_covered() -> None:
    assert set(FED) >= SEARCH_FAMILY


@every
@few
@given(script=scripts, text=answers, citations=cited)
def test_values_add_up_and_raws_stay_in_their_range(
    name: str, script: list[Turn], text: str | None, citations: tuple[str, ...]
) -> None:
    done = run(name, script, text, citations)
    component = FED[name][0].components[name]
    low, high = component.range
    tables = [*(t.scores for t in done.turns), done.scores]
    assert done.total == pytest.approx(sum(s.value for scores in tables for s in scores.values()), abs=1e-9)
    raws = [scores[name].raw for scores in tables if name in scores]
    assert not any(x is None for x in raws), "a policy cannot make a score invalid"
    assert not any("clipped" in scores[name].reason for scores in tables if name in scores)
    running = 0.0
    for raw in raws:
        running = raw if component.supply == "cost" or component.scope == "trajectory" else running + raw
        assert low - 1e-9 <= running <= high + 1e-9
    assert done.in_loss
    if (tied := component.tied.get(FED[name][0].outcome.name)) and raws:
        low, high = tied[done.success]
        assert low - 1e-9 <= raws[-1] <= high + 1e-9


@no_model
@few
@given(script=scripts, text=answers, citations=cited, data=st.data())
def test_a_turn_that_changes_nothing_never_raises_the_total(
    name: str, script: list[Turn], text: str | None, citations: tuple[str, ...], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(script)))
    extra = [search("something never asked"), search("y", ok=False, code="E_TOOL"), invalid(), graph([], None)]
    if at:
        extra.append(replace(script[at - 1], thought=""))  # the turn before, again
    noop = data.draw(st.sampled_from(extra))
    without = run(name, script, text, citations)
    padded = run(name, [*script[:at], noop, *script[at:]], text, citations)
    assert padded.total <= without.total + 1e-9


@every
@few
@given(script=scripts, text=answers, citations=cited, data=st.data())
def test_the_order_of_gold_changes_nothing(
    name: str, script: list[Turn], text: str | None, citations: tuple[str, ...], data: st.DataObject
) -> None:
    gold = FED[name][1]
    first, *_ = gold.answers
    names = data.draw(st.permutations([first.text, *first.aliases]))
    shuffled = replace(
        gold,
        answers=(replace(first, text=names[0], aliases=tuple(names[1:])),),
        **{
            f: tuple(data.draw(st.permutations(getattr(gold, f))))
            for f in ("entities", "doc_ids", "rubrics", "nuggets")
        },
    )
    assert run(name, script, text, citations, shuffled).total == pytest.approx(run(name, script, text, citations).total)


@every
@few
@given(script=scripts, text=answers, citations=cited)
def test_a_stored_record_scores_to_the_same_numbers(
    name: str, script: list[Turn], text: str | None, citations: tuple[str, ...]
) -> None:
    done = run(name, script, text, citations)
    stored = json.dumps(schema.to_json(done))
    assert stored == json.dumps(schema.to_json(run(name, script, text, citations)))
    again = FED[name][0].rescore(schema.from_json(Trajectory, json.loads(stored)))
    assert json.dumps(schema.to_json(again)) == stored


@no_thought
@few
@given(script=scripts, text=answers, citations=cited, words=st.text(max_size=30))
def test_words_of_the_policy_change_nothing_unless_declared(
    name: str, script: list[Turn], text: str | None, citations: tuple[str, ...], words: str
) -> None:
    spoken = [replace(t, thought=words + t.thought, action=words + t.action, error=words) for t in script]
    one, other = run(name, spoken, text, citations), run(name, script, text, citations)
    assert [t.scores for t in one.turns] == [t.scores for t in other.turns]
    assert one.scores == other.scores
