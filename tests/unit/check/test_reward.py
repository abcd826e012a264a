"""check_reward: every shipped component that fits passes, and each planted fault is found and named."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from agentgym import hooks
from agentgym.check import CheckFailed, check_reward, iter_reward_checks
from agentgym.check.episodes import environment, fits, play
from agentgym.errors import ConfigError
from agentgym.judges import JudgeRequest
from agentgym.rewards import Component, DeferredComponent, EpisodeView, component_named
from agentgym.types import Score, Trajectory

ENV = "SearchQA-v0"


@pytest.fixture(scope="module")
def records() -> list[Trajectory]:
    return play(environment(ENV, world="synthetic:closed?worlds=8"))


class Plain(Component):
    """A sound component: −1 for a turn with a failed call."""

    name = "own"
    scope = "turn"
    range = (-1.0, 0.0)
    supply = "cost"

    def score(self, view: EpisodeView, state: Any) -> Score:
        return Score(self.scope, self.value(view, state))

    def value(self, view: EpisodeView, state: Any) -> Any:
        return -float(any(not r.ok for r in view.turns[-1].results))


def faulty(value: Callable[..., Any], **attributes: Any) -> Component:
    """A component with another value and other attributes."""
    made = type("Faulty", (Plain,), {"value": lambda self, view, state: value(self, view, state), **attributes})
    return made()


def at_end(value: Callable[..., Any], **attributes: Any) -> Component:
    return faulty(value, **{"scope": "trajectory", "range": (0.0, 1.0), "supply": "terminal", **attributes})


def searches(view: EpisodeView) -> int:
    return sum(c.name == "search" for t in view.turns for c in t.calls)


def counting(self: Any, view: EpisodeView, state: Any) -> float:
    self.n = getattr(self, "n", 0) + 1
    return -float(self.n % 2)


def cached(self: Any, view: EpisodeView, state: Any) -> float:
    """The sum of an episode kept on the component: right as long as episodes run one after the other."""
    if len(view.turns) == 1:
        self.seen = set()
    new = {d.id for r in view.turns[-1].results for d in r.documents} - self.seen
    self.seen |= new
    return -float(bool(new))


def rewriting(self: Any, view: EpisodeView, state: Any) -> float:
    for call in view.turns[-1].calls:
        call.arguments["seen"] = True
    return 0.0


def emptying(self: Any, view: EpisodeView, state: Any) -> float:
    view.turns = ()
    return 0.0


def python_random(self: Any, view: EpisodeView, state: Any) -> float:
    importlib.import_module("random").random()
    return 0.0


def first_alias(self: Any, view: EpisodeView, state: Any) -> float:
    return float(view.answer == view.gold.answers[0].text)


def found(self: Any, view: EpisodeView, state: Any) -> float:
    shown = {d.id for t in view.turns for r in t.results for d in r.documents}
    return len(shown & set(view.gold.doc_ids)) / max(1, len(view.gold.doc_ids))


class Abstaining(DeferredComponent):
    """Reads the verdict without asking whether there is one."""

    name, scope, range, supply, needs = "own", "trajectory", (0.0, 1.0), "terminal", frozenset({"judge"})

    def complete(self, trajectories: Sequence[Trajectory], service: Any) -> list[dict[int, Score]]:
        verdicts = service.judge([JudgeRequest("Is short.", t.answer or "-") for t in trajectories])
        return [{-1: Score("trajectory", float(v.passed))} for v in verdicts]


class Forgetful(DeferredComponent):
    """Cannot give its scores again from what is stored."""

    name, scope, range, supply, needs = "own", "trajectory", (0.0, 1.0), "terminal", frozenset({"judge"})

    def complete(self, trajectories: Sequence[Trajectory], service: Any) -> list[dict[int, Score]]:
        return [{-1: Score("trajectory", 0.75)} for _ in trajectories]

    def recompute(self, stored: Any) -> dict[int, Score]:
        return {index: Score("trajectory", 0.5) for index in stored}


FAULTS: dict[str, tuple[Component, str, str]] = {
    "name": (faulty(lambda *_: 0.0, name=""), "declaration", "non-empty"),
    "cost above 0": (faulty(lambda *_: 0.0, range=(-1.0, 1.0)), "declaration", "a cost is never positive"),
    "a service, but nobody asks": (faulty(lambda *_: 0.0, needs=frozenset({"judge"})), "declaration", "DeferredComponent"),
    "gold that is no field": (faulty(lambda *_: 0.0, needs=frozenset({"gold.anwsers"})), "needs", "did you mean 'answers'"),
    "gold that the tasks lack": (faulty(lambda *_: 0.0, needs=frozenset({"gold.trace"})), "needs", "needs gold trace"),
    "raises without undeclared gold": (at_end(first_alias), "needs", "IndexError without gold.answers"),
    "dead without undeclared gold": (at_end(found), "needs", "without gold.doc_ids"),
    "above the range": (at_end(lambda s, v, _: float(searches(v))), "range", "declared is 0 .. 1"),
    "sum above the range": (
        faulty(lambda s, v, _: 0.5, supply="once", range=(0.0, 1.0)), "range", "the sum so far is 1.5",
    ),
    "below the range": (faulty(lambda *_: -2.0), "range", "the value is -2"),
    "not finite": (faulty(lambda *_: float("nan")), "scores are finite", "nan"),
    "neither number nor reason": (faulty(lambda *_: None), "scores are finite", "neither deferred nor invalid"),
    "pays every turn": (
        faulty(lambda s, v, _: 0.01 * bool(v.turns[-1].calls), supply="once", range=(0.0, 1.0)), "supply", "3 times more",
    ),
    "mean over turns": (
        at_end(lambda s, v, _: sum(not t.error_code for t in v.turns) / len(v.turns)), "supply", "raises the score",
    ),
    "remembers calls": (faulty(counting), "same view, same score", "two results"),
    "state on self": (faulty(cached), "same view, same score", "not to self"),
    "draws unseeded": (faulty(lambda *_: -float(np.random.default_rng().random())), "same view, same score", "two results"),
    "draws from numpy": (faulty(lambda *_: 0.0 * np.random.rand()), "random numbers", "numpy.random"),  # noqa: NPY002
    "draws from python": (faulty(python_random), "random numbers", "random"),
    "rewrites a call": (faulty(rewriting), "the view stays", "changed the view"),
    "rewrites the view": (faulty(emptying), "the view stays", "changed the view"),
    "reads prose": (faulty(lambda s, v, _: -len(v.turns[-1].action) / 1e6), "words", "reads_thought is False"),
    "raises": (faulty(lambda s, v, _: v.nonsense), "range", "AttributeError"),
    "zero for an abstention": (Abstaining(), "abstain is not zero", "not invalid"),
    "not repeatable from the record": (Forgetful(), "a stored record scores to the same", "was 0.75"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:suite")
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_planted_fault_is_found_by_its_rule_and_named(fault: str, records: list[Trajectory]) -> None:
    component, rule, says = FAULTS[fault]
    on = {"env_id": ENV, "world": "synthetic:closed?worlds=8"} if rule == "needs" and component.needs else {"records": records}
    failed = [r for r in iter_reward_checks(component, **on) if not r.passed]
    named = [r for r in failed if rule in r.name and says in r.detail]
    assert named, [(r.name, r.detail) for r in failed]
    with pytest.raises(CheckFailed):
        check_reward(component, **on)


def test_sound_components_pass_every_rule(records: list[Trajectory]) -> None:
    check_reward(Plain(), records=records)
    names = [*hooks.COMPONENTS.names(), *hooks.SUITES.names()]
    fitting = [n for n in names if fits(n, ENV, world="synthetic:closed?worlds=8")]
    assert len(fitting) >= 20
    for name in fitting:
        failed = [(r.name, r.detail) for r in iter_reward_checks(name, records=records) if not r.passed]
        assert not failed, name


def test_an_expression_is_checked_component_by_component(records: list[Trajectory]) -> None:
    expression = component_named("answer_em") + 0.1 * faulty(counting)
    failed = {r.name for r in iter_reward_checks(expression, records=records) if not r.passed}
    assert "own: purity: same view, same score" in failed
    assert not any(name.startswith("answer_em:") for name in failed)
    alone = {r.name.partition(":")[0] for r in iter_reward_checks(0.1 * faulty(counting), records=records)}
    assert alone == {"own", "0.1 * own"}, "the outcome that stands in for one is not what was asked about"


def test_without_episodes_or_gold_there_is_nothing_to_check(records: list[Trajectory]) -> None:
    with pytest.raises(ConfigError, match="give an environment id, or records"):
        check_reward("answer_em")
    exported = [record.with_(gold=None) for record in records]
    assert "has no gold" in next(r.detail for r in iter_reward_checks("answer_em", records=exported) if not r.passed)
