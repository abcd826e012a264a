"""Components by name, and components from plain functions."""

import inspect
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any, get_args

import numpy as np

from agentgym import hooks
from agentgym.errors import ConfigError, suggestion
from agentgym.named import is_object_name, named_object
from agentgym.rewards.checklist import Checklist
from agentgym.rewards.component import Component, EpisodeView, Supply
from agentgym.types import Scope, Score

RewardFunction = Callable[[EpisodeView], float | bool | Score]


class FunctionComponent(Component):
    """A component without private state: one function of the view. Calling it calls the function."""

    def __init__(
        self,
        function: RewardFunction,
        *,
        name: str,
        scope: Scope,
        range: tuple[float, float],
        supply: Supply,
        needs: Iterable[str] = (),
        failure_max: float | None = None,
    ) -> None:
        """Wrap `function`; the rest are the attributes of `Component`."""
        self.function = function
        self.name, self.scope, self.range, self.supply = name, scope, range, supply
        self.needs = frozenset(needs)
        self.failure_max = failure_max
        self.__doc__ = function.__doc__

    def __call__(self, view: EpisodeView) -> float | bool | Score:
        """Call the function as it was written."""
        return self.function(view)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Return the function's value as a score."""
        raw = self.function(view)
        if isinstance(raw, Score):
            return raw
        if not isinstance(raw, (Real, np.bool_)):
            raise ConfigError(f"reward {self.name!r} must return a number or a Score, not {raw!r}")
        return Score(self.scope, float(raw))


def reward(
    *,
    scope: Scope,
    range: tuple[float, float],
    supply: Supply | None = None,
    name: str = "",
    needs: Iterable[str] = (),
    failure_max: float | None = None,
    replace: bool = False,
) -> Callable[[RewardFunction], FunctionComponent]:
    """Make a function a registered component.

    ::

        @agentgym.reward(scope="turn", range=(-1, 0), supply="cost")
        def long_query(view):
            return -1.0 if any(len(c.arguments.get("query", "")) > 200 for c in view.turns[-1].calls) else 0.0

        env = gym.make("SearchQA-v0", reward=answer_em + Cap(0.1 * long_query, -0.2, 0))

    Args:
        scope: "turn" (the function scores `view.turns[-1]`) or "trajectory" (the finished episode).
        range: bounds of one value (turn costs) or of the sum over the episode; the suite clips what leaves it.
        supply: why a loop earns nothing: "potential", "once", "cost" or "terminal". By default "terminal" at
            trajectory scope, "cost" at turn scope where the range allows nothing positive.
        name: by default the function's.
        needs: what the task must offer, e.g. ("gold.answers",).
        failure_max: for an outcome, the largest value that is no success; 0 for yes-no.
        replace: replace a component of the same name instead of refusing (useful in notebooks).

    Raises:
        ConfigError: the scope, range or supply is none; supply is left out at turn scope and is not a cost.
        RegistrationError: the name is taken.
    """
    _check_options(scope, range, supply)
    if supply is None:
        supply = "terminal" if scope == "trajectory" else "cost" if range[1] <= 0 else None
    if supply is None:
        raise ConfigError(
            f"reward(scope='turn', range={range}): say supply='potential' (differences of a bounded potential) or"
            " 'once' (each thing pays one time); a turn score that a loop can repeat is not allowed"
        )
    chosen: Supply = supply

    def register(function: RewardFunction) -> FunctionComponent:
        component = FunctionComponent(
            function,
            name=name or getattr(function, "__name__", ""),
            scope=scope,
            range=(float(range[0]), float(range[1])),
            supply=chosen,
            needs=needs,
            failure_max=failure_max,
        )
        hooks.COMPONENTS.add(component.name, component, replace=replace)
        return component

    return register


def _check_options(scope: Any, range: Any, supply: Any) -> None:
    """Refuse at the decoration what a suite would refuse later, when the name is taken."""
    for option, given, allowed in (("scope", scope, get_args(Scope)), ("supply", supply, (None, *get_args(Supply)))):
        if given not in allowed:
            known = [name for name in allowed if name]
            hint = suggestion(str(given), known)
            raise ConfigError(f"reward({option}={given!r}): allowed: {', '.join(known)}{hint}")
    try:
        low, high = map(float, range)
        in_order = low <= high
    except (TypeError, ValueError):
        in_order = False
    if not in_order:
        raise ConfigError(f"reward(range={range!r}) must be (lowest, highest), e.g. (0, 1)")


def component_named(name: str) -> Component:
    """Return the registered component of a name; "kind:argument" calls what is registered as kind with the argument.

    "MODULE:NAME" and "FILE.py:NAME" name one that lies there (`agentgym.named`).

    Raises:
        NotRegisteredError: Nobody registered it (the message suggests the nearest name).
        ConfigError: What is registered, or lies there, is no component.
    """
    if is_own(name):
        return as_component(named_object(name, "component", hooks.COMPONENTS.names()), f"component {name!r}")
    kind, colon, argument = name.partition(":")
    target = hooks.COMPONENTS.resolve(kind)
    if colon:
        target = target(argument)
    return as_component(target, f"component {name!r}")


def is_own(text: str) -> bool:
    """Say whether a text names code ("my_rewards:brief"), not a registered kind and its argument ("checklist:refund")."""
    return is_object_name(text) and text.partition(":")[0] not in hooks.COMPONENTS


def as_component(target: Any, where: str) -> Component:
    """Return a component from an instance, from a class or function that makes one without arguments, or of a checklist."""
    if isinstance(target, Checklist):
        return hooks.COMPONENTS.resolve("checklist")(target)
    if inspect.isfunction(target) and any(p.default is p.empty for p in inspect.signature(target).parameters.values()):
        raise ConfigError(
            f"{where} is a plain function that takes arguments; to score with a function of the view, decorate it:"
            " @agentgym.reward(scope='trajectory', range=(0, 1))"
        )
    if not isinstance(target, Component) and callable(target):
        target = target()
    if not isinstance(target, Component):
        raise ConfigError(f"{where}: expected a Component, its class or a function that returns one, got {target!r}")
    return target
