"""Rewards in TOML: an outcome and a list of terms, or one expression; with checklists of its own in the same file.

::

    [reward]
    outcome = "answer_em"
    terms = [
      { use = "information_gain", weight = 0.2, cap = 0.2 },
      { use = "citation_rubric", weight = 0.3, gate = "answer_em", group = "max" },
    ]

A term is built from the inside out: use, group, once, mean, weight, schedule, shaped, clip, cap, gate, only_if.
"""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentgym import schema
from agentgym.errors import ConfigError, suggestion
from agentgym.rewards.checklist_toml import load_checklists
from agentgym.rewards.component import Component
from agentgym.rewards.expression import Cap, Expression, Gate, Sum
from agentgym.rewards.nodes import Clip, MaxNorm, Mean, Once, OnlyIf, Schedule, Shaped
from agentgym.rewards.parse import is_expression, parse_expression
from agentgym.rewards.registering import component_named
from agentgym.types import JSON

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class TermConfig:
    """One term of a reward."""

    use: str
    """Name of a component, or an expression."""
    weight: float = 1.0
    schedule: Pair | tuple[Pair, ...] | None = None
    """Weight over training: [first, last], or points [[progress, weight], …]; multiplies `weight`."""
    cap: float | Pair | None = None
    """Keeps the running sum within ±cap, or within [lo, hi]; in units of the reward, so after the weight."""
    clip: Pair | None = None
    """Clips each value to [lo, hi], after the weight."""
    once: bool = False
    """Pays the first turn in which it gives something, and nothing after."""
    mean: bool = False
    """The mean over turns in the place of the sum."""
    group: Literal["", "max"] = ""
    """"max" divides by the largest raw value in the group."""
    shaped: float | None = None
    """γ of potential-based shaping: the potential is taken back at the end."""
    gate: str = ""
    """Name of a trajectory component that multiplies the term (plus `base`) at the end."""
    base: float = 0.0
    """Beside a gate: gate · (base + term)."""
    only_if: Literal[0, 1] | None = None
    """1: only after a success; 0: only without one."""


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """The table [reward] of a settings file."""

    outcome: str = ""
    """Name of the component whose 1 is success; it is a term of its own."""
    outcome_weight: float | None = None
    """Weight of that term, 1 where nothing is said; 0 leaves it out."""
    terms: tuple[TermConfig, ...] = ()
    expression: str = ""
    """In the place of terms: the whole expression as text; `outcome` only names the success."""
    name: str = ""
    """What records call the suite; by default the expression."""
    allow_unbounded: bool = False
    """Accept terms that a longer episode can raise without end."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward as read: what a suite is built from."""

    expression: Expression
    outcome: Component | None
    config: RewardConfig


def read_file(path: Path) -> Reward:
    """Return the reward of a TOML file: its table [reward], which may name the tables [checklist.NAME] beside it.

    Raises:
        ConfigError: The file cannot be read, has no table [reward], or a checklist that cannot score.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"reward {str(path)!r}: the file cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(body.get("reward"), dict):
        raise ConfigError(f"{path}: there is no table [reward]{suggestion('reward', tuple(body))}")
    if "checklist" in body:
        load_checklists(path, replace=True)
    return read_reward(body["reward"], f"{path}: reward")


def read_reward(table: Mapping[str, JSON], where: str = "reward") -> Reward:
    """Return the reward that a table describes.

    Raises:
        ConfigError: An unknown key (with the nearest known one), a value of another type, a name that nobody
            registered, or terms that do not go together.
    """
    config = schema.from_json(RewardConfig, dict(table), where, error=ConfigError)
    if bool(config.terms) == bool(config.expression) and not (config.outcome and not config.terms):
        raise ConfigError(f"{where}: give `terms` or `expression`, not {'both' if config.terms else 'neither'}")
    known: dict[str, Component] = {}

    def component(name: str) -> Component:
        if name not in known:
            known[name] = component_named(name)
        return known[name]

    outcome = component(config.outcome) if config.outcome else None
    if config.expression:
        if config.outcome_weight is not None:
            raise ConfigError(f"{where}: outcome_weight belongs to `terms`; write the weight into the expression")
        return Reward(parse_expression(config.expression, component), outcome, config)
    terms = [_term(term, component, f"{where}.terms[{i}]") for i, term in enumerate(config.terms)]
    weight = _outcome_weight(config, where)
    if outcome is not None and weight:
        terms.insert(0, outcome if weight == 1.0 else weight * outcome)
    if not terms:
        raise ConfigError(f"{where}: there is no term; give `terms`, or an outcome with a weight")
    return Reward(terms[0] if len(terms) == 1 else Sum(tuple(terms)), outcome, config)


def _outcome_weight(config: RewardConfig, where: str) -> float:
    if config.outcome_weight is not None:
        return config.outcome_weight
    if config.outcome and any(term.use == config.outcome for term in config.terms):
        raise ConfigError(
            f"{where}: {config.outcome} is the outcome, which counts with weight 1, and a term too; leave out the term,"
            " or say outcome_weight = 0"
        )
    return 1.0


def _term(term: TermConfig, component: Callable[[str], Component], where: str) -> Expression:
    _check(term, where)
    try:
        return _built(term, component)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from None


def _check(term: TermConfig, where: str) -> None:
    numbers: dict[str, Any] = {"weight": term.weight, "base": term.base, "cap": term.cap, "clip": term.clip}
    for name, value in numbers.items():
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not math.isfinite(number):
                raise ConfigError(f"{where}.{name}: must be finite, not {number!r}")
    if term.base and not term.gate:
        raise ConfigError(f"{where}: base = {term.base} belongs to a gate; set gate to the component that gates")
    if isinstance(term.cap, float) and term.cap <= 0:
        raise ConfigError(f"{where}: cap = {term.cap}: must be above 0, or a pair [lo, hi] with lo <= 0 <= hi")


def _built(term: TermConfig, component: Callable[[str], Component]) -> Expression:
    node = parse_expression(term.use, component) if is_expression(term.use) else component(term.use)
    if term.group:
        node = MaxNorm(node)  # pyright: ignore[reportArgumentType]  # refuses what is no component
    node = Once(node) if term.once else node
    node = Mean(node) if term.mean else node
    node = term.weight * node if term.weight != 1.0 else node
    node = Schedule(node, term.schedule) if term.schedule is not None else node
    node = Shaped(node, term.shaped) if term.shaped is not None else node
    node = Clip(node, *term.clip) if term.clip is not None else node
    if term.cap is not None:
        lo, hi = term.cap if isinstance(term.cap, tuple) else (-term.cap, term.cap)
        node = Cap(node, lo, hi)
    node = Gate(component(term.gate), node, term.base) if term.gate else node
    return OnlyIf(term.only_if, node) if term.only_if is not None else node
