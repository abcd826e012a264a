"""The suites that environments use by name, and `build_suite`, which makes a suite of anything."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym import hooks
from agentgym.errors import ConfigError, NotRegisteredError, suggestion
from agentgym.named import named_object
from agentgym.rewards import catalogue as catalogue  # registers every name
from agentgym.rewards.actions import action_match
from agentgym.rewards.answer_sets import AnswerSetF1
from agentgym.rewards.answers import answer_em
from agentgym.rewards.calls import exact_calls
from agentgym.rewards.checklist import Checklist
from agentgym.rewards.citations import citation_rubric
from agentgym.rewards.component import Component
from agentgym.rewards.config import Reward, read_file, read_reward
from agentgym.rewards.costs import all_valid, call_cost, forgery, invalid_action, step_cost
from agentgym.rewards.expression import Cap, Expression, Gate, components
from agentgym.rewards.gui import GuiSuccess
from agentgym.rewards.information import information_gain
from agentgym.rewards.nodes import OnlyIf
from agentgym.rewards.outcomes import graded, task_success
from agentgym.rewards.parse import is_expression, parse_expression
from agentgym.rewards.paths import path_potential
from agentgym.rewards.registering import as_component, component_named, is_own
from agentgym.rewards.retrieval import query_novelty, retrieval_gain
from agentgym.rewards.suite import Suite
from agentgym.rewards.traces import TraceMatch


def search() -> Suite:
    """Exact match; up to .2 for showing the gold passages; a clean record; costs of at most .3 together."""
    return Suite(answer_em + Cap(0.2 * retrieval_gain, -0.2, 0.2) + 0.1 * all_valid + _search_costs(), name="search")


def search_ig() -> Suite:
    """As `search`, with information gain (needs a scorer) in the place of retrieval gain."""
    return Suite(
        answer_em + Cap(0.2 * information_gain, -0.2, 0.2) + 0.1 * all_valid + _search_costs(), name="search_ig"
    )


def search_cited() -> Suite:
    """As `search`, and up to .3 for a right answer whose chain of facts the cited passages show."""
    return Suite(
        answer_em
        + Cap(0.2 * retrieval_gain, -0.2, 0.2)
        + Gate(answer_em, 0.3 * citation_rubric)
        + 0.1 * all_valid
        + _search_costs(),
        name="search_cited",
    )


def search_gated() -> Suite:
    """As `search_cited`, but only a wrong answer is paid for showing the gold passages, up to .3 and at the end."""
    return Suite(
        answer_em
        + OnlyIf(0, Cap(0.3 * retrieval_gain, 0.0, 0.3))
        + Gate(answer_em, 0.3 * citation_rubric)
        + 0.1 * all_valid
        + _search_costs(),
        name="search_gated",
    )


def graph() -> Suite:
    """All right answers and no other, .2 for their F1, up to .2 for keeping the triples of a gold path."""
    outcome, points = graded(AnswerSetF1())
    return Suite(
        points + Cap(0.2 * path_potential, -0.2, 0.2) + 0.1 * all_valid + _costs(), success=outcome, name="graph"
    )


def tools() -> Suite:
    """All that the task asks for (state, assertions, facts told), up to .2 for the calls of the gold trace, each exact."""
    return Suite(task_success + 0.2 * TraceMatch(min_sim=1.0) + 0.1 * all_valid + _costs(), success=task_success, name="tools")


def calls() -> Suite:
    """The calls of gold, each with accepted values, and no other: for tasks of one turn."""
    return Suite(exact_calls + 0.1 * all_valid + _costs(), success=exact_calls, name="calls")


def gui() -> Suite:
    """The state that the task asks for, .2 for its share, up to .2 for the reference actions in their order."""
    outcome, points = graded(GuiSuccess())
    return Suite(points + 0.2 * action_match + 0.1 * all_valid + _costs(), success=outcome, name="gui")


def _costs() -> Cap:
    return Cap(0.01 * step_cost + 0.01 * call_cost + 0.1 * invalid_action + 1.0 * forgery, -0.3, 0.0)


def _search_costs() -> Cap:
    costs = 0.01 * step_cost + 0.01 * call_cost + 0.1 * invalid_action + 0.05 * query_novelty + 1.0 * forgery
    return Cap(costs, -0.3, 0.0)


def build_suite(spec: Any) -> Suite:
    """Return a suite.

    Args:
        spec: a Suite; an expression; a component, its class, or a function that returns one of these; or text:
            the name of a suite ("search"), of a component ("answer_em", "checklist:refund"), an expression
            ("answer_em + Cap(0.2*retrieval_gain, -0.2, 0.2)"), a TOML file with a table [reward], or one's own
            ("my_rewards:brief", "my_rewards.py:brief", see `agentgym.named`); or such a table
            (`config.RewardConfig`), or a Checklist.

    The outcome of a suite that does not name its own is answer_em if the expression holds it, else the first
    trajectory component that can reach 1 and is no more than that, else answer_em.

    Raises:
        NotRegisteredError: For a name that nobody registered.
        ConfigError: For anything else that is no suite.
    """
    if isinstance(spec, Suite):
        return spec
    if isinstance(spec, Expression):
        return Suite(spec, success=_default_outcome(spec))
    if isinstance(spec, str):
        return _suite_of_text(spec.strip())
    if isinstance(spec, Mapping):
        return _suite_of_reward(read_reward(spec))
    if isinstance(spec, Checklist) or (isinstance(spec, type) and issubclass(spec, Component)):
        return build_suite(as_component(spec, "reward"))
    if callable(spec):
        try:
            inspect.signature(spec).bind()
        except TypeError:
            name = getattr(spec, "__name__", repr(spec))
            raise ConfigError(
                f"reward={name}: a function must take no argument and return a suite or component; to score with a"
                " function of the view, decorate it: @agentgym.reward(scope='trajectory', range=(0, 1))"
            ) from None
        except ValueError:  # builtins without a signature
            pass
        made = spec()
        if isinstance(made, (Suite, Expression)):
            return build_suite(made)
    raise ConfigError(
        f"reward={spec!r}: expected a suite, an expression, a component, or the name of one; suites:"
        f" {', '.join(hooks.SUITES.names())}"
    )


def _suite_of_reward(reward: Reward) -> Suite:
    expression, config = reward.expression, reward.config
    outcome = reward.outcome or _default_outcome(expression)
    return Suite(expression, outcome, config.name, allow_unbounded=config.allow_unbounded)


def _suite_of_text(text: str) -> Suite:
    if text in hooks.SUITES:
        return build_suite(hooks.SUITES.resolve(text))
    if text.endswith(".toml"):
        return _suite_of_reward(read_file(Path(text)))
    if is_own(text) and (not is_expression(text) or Path(text.rpartition(":")[0]).is_file()):
        return build_suite(named_object(text, "reward", (*hooks.SUITES.names(), *hooks.COMPONENTS.names())))
    if is_expression(text):
        expression = parse_expression(text, component_named)
        return Suite(expression, success=_default_outcome(expression), name=text)
    if text.partition(":")[0] not in hooks.COMPONENTS:
        names = (*hooks.SUITES.names(), *hooks.COMPONENTS.names())
        raise NotRegisteredError(
            f"no reward is called {text!r}{suggestion(text, names)}; one of your own is MODULE:NAME or FILE.py:NAME; suites: {', '.join(hooks.SUITES.names())};"
            f" components: {', '.join(hooks.COMPONENTS.names())}"
        )
    component = component_named(text)
    return Suite(component, success=_default_outcome(component), name=text)


def _default_outcome(expression: Expression) -> Component:
    used = list(components(expression))
    for component in used:
        if component.name == answer_em.name:
            return component
    for component in used:
        may = component.is_outcome and component.scope == "trajectory" and component.supply == "terminal"
        if may and component.range[1] == 1.0:
            return component
    own = (component.outcome for component in used if component.outcome is not None)
    return next(own, answer_em)

