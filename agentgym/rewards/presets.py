"""The suites that environments use by name, and `build_suite`, which makes a suite of anything."""

from typing import Any

from agentgym import hooks
from agentgym.errors import ConfigError, NotRegisteredError, suggestion
from agentgym.rewards.answers import answer_em
from agentgym.rewards.component import Component
from agentgym.rewards.costs import all_valid, call_cost, forgery, invalid_action, step_cost
from agentgym.rewards.expression import Cap, Expression, components
from agentgym.rewards.information import information_gain
from agentgym.rewards.parse import parse_expression
from agentgym.rewards.registering import as_component, component_named
from agentgym.rewards.retrieval import query_novelty, retrieval_gain
from agentgym.rewards.suite import Suite


def search() -> Suite:
    """Exact match; up to .2 for showing the gold passages; a clean record; costs of at most .3 together."""
    return Suite(answer_em + Cap(0.2 * retrieval_gain, -0.2, 0.2) + 0.1 * all_valid + _search_costs(), name="search")


def search_ig() -> Suite:
    """As `search`, with information gain (needs a scorer) in the place of retrieval gain."""
    return Suite(
        answer_em + Cap(0.2 * information_gain, -0.2, 0.2) + 0.1 * all_valid + _search_costs(), name="search_ig"
    )


def _search_costs() -> Cap:
    costs = 0.01 * step_cost + 0.01 * call_cost + 0.1 * invalid_action + 0.05 * query_novelty + 1.0 * forgery
    return Cap(costs, -0.3, 0.0)


def build_suite(spec: Any) -> Suite:
    """Return a suite.

    Args:
        spec: a Suite; an expression; a component, its class, or a function that returns one of these; or text:
            the name of a suite ("search"), of a component ("answer_em", "checklist:refund"), or an expression
            ("answer_em + Cap(0.2*retrieval_gain, -0.2, 0.2)").

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
    if isinstance(spec, type) and issubclass(spec, Component):
        return build_suite(as_component(spec, "reward"))
    if callable(spec):
        made = spec()
        if isinstance(made, (Suite, Expression)):
            return build_suite(made)
    raise ConfigError(
        f"reward={spec!r}: expected a suite, an expression, a component, or the name of one; suites:"
        f" {', '.join(hooks.SUITES.names())}"
    )


def _suite_of_text(text: str) -> Suite:
    if text in hooks.SUITES:
        return build_suite(hooks.SUITES.resolve(text))
    if any(character in text for character in "+*( "):
        expression = parse_expression(text, component_named)
        return Suite(expression, success=_default_outcome(expression), name=text)
    if text.partition(":")[0] not in hooks.COMPONENTS:
        names = (*hooks.SUITES.names(), *hooks.COMPONENTS.names())
        raise NotRegisteredError(
            f"no reward is called {text!r}{suggestion(text, names)}; suites: {', '.join(hooks.SUITES.names())};"
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
        if component.scope == "trajectory" and component.supply == "terminal" and component.range[1] == 1.0:
            return component
    return answer_em


_COMPONENTS = {
    "answer_em": "answers:AnswerEM",
    "answer_f1": "answers:AnswerF1",
    "answer_cover": "answers:AnswerCover",
    "retrieval_gain": "retrieval:RetrievalGain",
    "query_novelty": "retrieval:QueryNovelty",
    "information_gain": "information:InformationGain",
    "all_valid": "costs:AllValid",
    "step_cost": "costs:StepCost",
    "call_cost": "costs:CallCost",
    "invalid_action": "costs:InvalidAction",
    "forgery": "costs:Forgery",
}
for _name, _target in _COMPONENTS.items():
    hooks.COMPONENTS.add(_name, f"agentgym.rewards.{_target}")
for _name in ("search", "search_ig"):
    hooks.SUITES.add(_name, f"agentgym.rewards.presets:{_name}")
