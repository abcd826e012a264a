"""Settings of credit, and the running scales: one number per level, frozen before the step that uses it."""

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from agentgym import hooks
from agentgym.credit.arrays import CreditArrays
from agentgym.errors import ConfigError, DataError, suggestion
from agentgym.registry import load_plugins
from agentgym.types import JSON

log = logging.getLogger(__name__)

SCALE_NAMES = ("running", "none", "shared", "batch", "loo", "group")


@dataclass(frozen=True, slots=True)
class CreditConfig:
    """How scores become advantages.

    Raises:
        ConfigError: for an unknown recipe, scale or option and for a number outside its range.

    A combination that biases or cancels is logged once per process, in one sentence.
    """

    recipe: str = "turn_grpo"
    """A registered recipe, such as turn_grpo (turn and trajectory scores) or grpo (trajectory scores only)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Constants of the recipe's own, see its documentation."""
    turn_weight: float = 0.5
    """Weight of the turn level; 0 leaves its blocks out. Read by turn_grpo and per_index."""
    gamma: float = 1.0
    """Discount per turn, in [0, 1]. Below 1 the expectation is no objective's gradient. Read by turn_grpo, per_index."""
    scale: str = "running"
    """running, none, shared, batch, loo or group (biased). Read by turn_grpo and per_index."""
    decay: float = 0.9
    """Decay of the exponential mean behind the running scales, in [0, 1)."""
    floor: float = 0.05
    """Least value of a running, shared or batch scale, in units of score."""
    loo_floor: float = 0.2
    """Floor of the leave-one-out scale, sqrt(variance of the others + loo_floor^2), in units of score."""
    both_levels: bool = False
    """Accept a component that scores at both scopes: a hidden weight, refused by default."""

    def __post_init__(self) -> None:
        if self.recipe not in hooks.RECIPES:
            load_plugins()
            _one_of("recipe", self.recipe, hooks.RECIPES.names())
        _one_of("scale", self.scale, SCALE_NAMES)
        _within("turn_weight", self.turn_weight, 0.0 <= self.turn_weight < math.inf, "a finite number >= 0")
        _within("gamma", self.gamma, 0.0 <= self.gamma <= 1.0, "a number in [0, 1]")
        _within("decay", self.decay, 0.0 <= self.decay < 1.0, "a number in [0, 1)")
        _within("floor", self.floor, 0.0 < self.floor < math.inf, "a finite number > 0")
        _within("loo_floor", self.loo_floor, 0.0 < self.loo_floor < math.inf, "a finite number > 0")
        if self.recipe == "per_index" and self.scale not in ("none", "group", "running"):
            raise ConfigError(
                f"credit.scale: per_index knows 'group' (a z-score per turn index) and 'none', not {self.scale!r}."
            )
        factory = hooks.RECIPES.resolve(self.recipe)
        _check_options(self.recipe, factory, self.options)
        cautions = factory(self, **self.options).cautions
        if self.both_levels:
            cautions += ("credit.both_levels = true: a score at both scopes counts twice in the objective.",)
        if factory.__module__.startswith("agentgym."):  # what a recipe of one's own reads is its own affair
            cautions += _unread(self, factory)
        for sentence in cautions:
            _say_once(sentence)


class Measured(Protocol):
    """What `Scales.update` needs of a recipe."""

    @property
    def remembers(self) -> tuple[str, ...]:
        """Names of what is kept beside the scales: "steps", "spread"."""
        ...

    def mean_squares(self, arrays: CreditArrays) -> dict[str, float]:
        """Return the mean square of the centred values per level; a level without values is left out."""
        ...

    def next_spread(self, arrays: CreditArrays, scales: "Scales") -> float:
        """Return the exponential mean of the groups' spread after this batch."""
        ...


@dataclass(frozen=True, slots=True)
class RunningSquare:
    """Exponential mean of the mean squares of one level."""

    mean: float = 0.0
    """Before bias correction."""
    n_steps: int = 0

    def update(self, square: float, decay: float) -> "RunningSquare":
        """Return the mean with one more step in it."""
        return RunningSquare(decay * self.mean + (1.0 - decay) * square, self.n_steps + 1)

    def root(self, decay: float, floor: float) -> float:
        """Return 1 before the first step, then the root of the bias-corrected mean, at least `floor`."""
        if self.n_steps == 0:
            return 1.0
        return max(math.sqrt(self.mean / (1.0 - decay**self.n_steps)), floor)


@dataclass(frozen=True, slots=True)
class Scales:
    """The running scales s_T, s_O and the shared one. `update` returns the scales of the next step.

    A step divides by scales that only earlier steps have formed: they do not depend on the actions that they
    scale, so they change the objective's weights and leave its gradient exact.
    """

    decay: float = 0.9
    floor: float = 0.05
    turn_square: RunningSquare = field(default_factory=RunningSquare)
    """Of the centred turn values, over live turns."""
    trajectory_square: RunningSquare = field(default_factory=RunningSquare)
    """Of the centred outcomes, over episodes."""
    shared_square: RunningSquare = field(default_factory=RunningSquare)
    """Of the weighted sum of both, over live turns."""
    n_steps: int = 0
    """Steps done, for recipes with a schedule; others leave it at 0."""
    spread: float = 0.0
    """Exponential mean of the groups' std of the outcome, for recipes that filter by it; 0 before the first step."""

    @staticmethod
    def start(config: CreditConfig) -> "Scales":
        """Return the scales of the first step: all 1."""
        return Scales(config.decay, config.floor)

    @property
    def turn(self) -> float:
        """s_T, in units of score."""
        return self.turn_square.root(self.decay, self.floor)

    @property
    def trajectory(self) -> float:
        """s_O, in units of score."""
        return self.trajectory_square.root(self.decay, self.floor)

    @property
    def shared(self) -> float:
        """The one scale of both levels under scale="shared", in units of score."""
        return self.shared_square.root(self.decay, self.floor)

    def objective_weight(self, turn_weight: float) -> float:
        """Return w = turn_weight * s_O / s_T: what one unit of turn score is worth in units of outcome."""
        return turn_weight * self.trajectory / self.turn

    def update(self, arrays: CreditArrays, recipe: Measured) -> "Scales":
        """Return the scales of the next step; a level that the batch says nothing about stays as it is."""
        squares = recipe.mean_squares(arrays)
        changed = {
            f"{level}_square": getattr(self, f"{level}_square").update(square, self.decay)
            for level, square in squares.items()
        }
        if "steps" in recipe.remembers:
            changed["n_steps"] = self.n_steps + 1
        if "spread" in recipe.remembers:
            changed["spread"] = recipe.next_spread(arrays, self)
        return replace(self, **changed)

    def to_dict(self) -> dict[str, JSON]:
        """Return plain data for a checkpoint."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, JSON]) -> "Scales":
        """Return the scales that `to_dict` wrote.

        Raises:
            DataError: for missing or unknown keys and for values that are no numbers.
        """
        try:
            squares = {
                key: RunningSquare(float(data[key]["mean"]), int(data[key]["n_steps"]))
                for key in ("turn_square", "trajectory_square", "shared_square")
            }
            more = {"n_steps": int(data.get("n_steps", 0)), "spread": float(data.get("spread", 0.0))}
            return Scales(float(data["decay"]), float(data["floor"]), **squares, **more)  # pyright: ignore[reportArgumentType]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"checkpoint, scales: cannot be read ({error!r}). Expected decay, floor and, for each of turn_square, "
                "trajectory_square and shared_square, mean and n_steps."
            ) from error


def _check_options(recipe: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options that the recipe does not have, or of another kind than their default."""
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for name, given in options.items():
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise ConfigError(
                f"credit.options.{name}: {recipe} has no such option{suggestion(name, tuple(known))}; options: {allowed}"
            )
        default = known[name]
        kind = (int, float) if isinstance(default, float) and not isinstance(default, bool) else type(default)
        wrong = not isinstance(given, kind) or (isinstance(given, bool) and not isinstance(default, bool))
        if default is not None and (wrong or (isinstance(given, float) and not math.isfinite(given))):
            raise ConfigError(f"credit.options.{name}: {given!r} is not of the kind of its default, {default!r}")


_READ = {
    "turn_grpo": ("turn_weight", "gamma", "scale"),
    "per_index": ("turn_weight", "gamma", "scale"),
    "discount_schedule": ("turn_weight",),
}
"""Settings beside `options` that recipes of ours read."""


def _unread(config: CreditConfig, factory: Callable[..., Any]) -> tuple[str, ...]:
    """Return one sentence for each setting that was given and that the recipe does not read."""
    found = []
    for name, parameter in inspect.signature(CreditConfig).parameters.items():
        given = getattr(config, name)
        if name in _READ["turn_grpo"] and name not in _READ.get(config.recipe, ()) and given != parameter.default:
            own = f"; its own is credit.options.{name}" if name in inspect.signature(factory).parameters else ""
            found.append(f"credit.{name} = {given!r}: recipe {config.recipe!r} does not read it{own}.")
    return tuple(found)


_said: set[str] = set()


def _say_once(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        log.warning("%s", sentence)


def one_of(key: str, given: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value of an option that is not among the allowed ones. Raises ConfigError."""
    _one_of(f"options.{key}", given, allowed)


def within(key: str, given: float, least: float, most: float) -> None:
    """Refuse an option outside [least, most]. Raises ConfigError."""
    _within(f"options.{key}", given, least <= given <= most, f"a number in [{least:g}, {most:g}]")


def _one_of(key: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        hint = suggestion(given, allowed) or "."
        raise ConfigError(f"credit.{key}: unknown value {given!r}{hint} Allowed: {', '.join(allowed)}.")


def _within(key: str, given: float, fine: bool, allowed: str) -> None:
    if not fine:
        raise ConfigError(f"credit.{key}: {given!r} is not {allowed}.")
