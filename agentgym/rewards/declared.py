"""What components declare, checked when a suite is built and when it meets its tasks."""

from collections.abc import Collection, Sequence
from dataclasses import fields as dataclass_fields
from typing import get_args

from agentgym.errors import ConfigError, suggestion
from agentgym.rewards.component import Component, Supply
from agentgym.rewards.registering import component_named
from agentgym.task import Gold, Task
from agentgym.types import Scope


def outcome_of(success: Component | str, used: Sequence[Component]) -> Component:
    """Return the success component: one of the expression's where the name fits, else a registered one."""
    if isinstance(success, str):
        success = next((c for c in used if c.name == success), None) or component_named(success)
    if not isinstance(success, Component) or success.scope != "trajectory":
        raise ConfigError(f"success={success!r} must be a component of trajectory scope, e.g. 'answer_em'")
    return success


def check_declaration(component: Component) -> None:
    """Raise ConfigError for a component whose class attributes do not add up to a finite supply."""
    name = getattr(component, "name", "")
    where = f"component {name or type(component).__name__!r}"
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: set `name` to a non-empty string")
    for attribute, allowed in (("scope", get_args(Scope)), ("supply", get_args(Supply))):
        given = getattr(component, attribute, None)
        if given not in allowed:
            raise ConfigError(f"{where}: {attribute}={given!r}; allowed: {', '.join(allowed)}{suggestion(str(given), allowed)}")
    try:
        lo, hi = component.range
        in_order = lo <= hi
    except (AttributeError, TypeError, ValueError):
        in_order = False
    if not in_order:
        raise ConfigError(f"{where}: range={getattr(component, 'range', None)!r} must be (lowest, highest)")
    if component.supply == "cost" and hi > 0:
        raise ConfigError(f"{where}: a cost is never positive, but range is {component.range}")
    if component.scope == "trajectory" and component.supply == "unbounded":
        raise ConfigError(f"{where}: supply 'unbounded' belongs to turn scope; a trajectory score has its range")
    if component.scope == "turn" and component.supply == "terminal":
        raise ConfigError(f"{where}: supply 'terminal' belongs to trajectory scope; a turn score is potential, once or cost")
    if component.scope == "turn" and component.supply in ("potential", "once") and not lo <= 0 <= hi:
        raise ConfigError(f"{where}: the sum of a {component.supply} starts at 0, so range {component.range} must hold 0")


def says(gold: Gold, attribute: str) -> bool:
    """Whether gold says something in a field. An empty final state ({}, []) is a state; other empty fields say nothing."""
    value = getattr(gold, attribute)
    return value is not None if attribute == "final_state" else bool(value)


def offered(gold: Gold, need: str, component: str, events: Collection[str] | None) -> bool:
    """Whether gold or the environment has one of the alternatives of a need; services are always offered."""
    for option in need.split("|"):
        kind, _, attribute = option.partition(".")
        if kind == "events":
            if events is None or attribute in events:
                return True
            continue
        if kind != "gold":
            return True
        try:
            if says(gold, attribute):
                return True
        except AttributeError:
            fields = tuple(f.name for f in dataclass_fields(Gold))
            raise ConfigError(
                f"{component}: needs {option!r}, but gold has the fields {', '.join(fields)}{suggestion(attribute, fields)}"
            ) from None
    return False


def check_tools(component: Component, gold: Gold, tools: Collection[str]) -> None:
    """Raise ConfigError for a component that waits for calls of a tool that the environment does not have."""
    for place, tool in component.named_tools(gold):
        if tool not in tools:
            raise ConfigError(
                f"{component.name}: {place} names the tool {tool!r}, which this environment does not have"
                f"{suggestion(tool, tools)}; tools: {', '.join(tools)}"
            )


def missing(component: str, need: str, task: Task, events: Collection[str]) -> str:
    """Return the complaint about a need that neither gold nor the environment offers."""
    options = need.split("|")
    fields = " or ".join(option.partition(".")[2] for option in options)
    if all(option.startswith("events.") for option in options):
        return (
            f"{component} needs the events {fields}, which this environment does not record (it records:"
            f" {', '.join(sorted(events)) or 'none'}); choose a reward without {component}"
        )
    return (
        f"{component} needs gold {fields}, which task {task.id!r} does not have; add it to the task's gold or choose a"
        f" reward without {component}"
    )
