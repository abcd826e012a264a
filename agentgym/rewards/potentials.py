"""A potential from any function of the episode so far: paid as its differences."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from agentgym.errors import ConfigError
from agentgym.rewards.component import Component, DeferredComponent, EpisodeView
from agentgym.task import Gold
from agentgym.types import Score

Phi = Callable[[EpisodeView], float]


class Potential(Component):
    """Φ_t − Φ_{t−1} of a bounded function of the episode so far; Φ_0 is its value before the first turn.

    ::

        shown = Potential(lambda view: min(1.0, len(view.turns) / 4), name="progress")
        suite = answer_em + 0.2 * shown                       # the sum Φ_last − Φ_0 counts
        suite = answer_em + Shaped(shown, gamma=1.0)          # potential-based shaping: taken back at the end

    Of a component the value that it would give now is the potential: `Potential(answer_set_f1)`.
    """

    scope = "turn"
    supply = "potential"

    def __init__(
        self,
        phi: Phi | Component,
        name: str = "",
        range: tuple[float, float] = (0.0, 1.0),
        *,
        start: float | None = None,
        needs: Iterable[str] = (),
    ) -> None:
        """Make a component of a function or of another component.

        Args:
            phi: a function of the view, bounded by `range`, or a component that scores at once.
            name: the component's name; by default that of `phi`, with "potential_" before it for a component.
            range: bounds of the function (a component has its own); what leaves them is clipped.
            start: value before the first turn where it is always the same; it makes the bounds tighter.
            needs: what the task must offer (a component has its own).

        Raises:
            ConfigError: `phi` is no function, waits for a service, gives differences itself or scores single turns.
        """
        if isinstance(phi, Component):
            if isinstance(phi, DeferredComponent) or phi.supply in ("potential", "cost"):
                what = "waits for a service" if isinstance(phi, DeferredComponent) else "gives differences already"
                raise ConfigError(f"Potential({phi!r}): {phi!r} {what}; a potential is a value that is known now")
            if phi.scope == "turn":
                raise ConfigError(f"Potential({phi!r}): {phi!r} scores single turns; a potential is a value of the episode so far")
            name, range, needs = name or f"potential_{phi.name}", phi.range, phi.needs
            self.reads_thought = phi.reads_thought
        elif not callable(phi):
            raise ConfigError(f"Potential({phi!r}): give a function of the view, or a component")
        lo, hi = range
        if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
            raise ConfigError(f"Potential({phi!r}): range {range} must be two finite numbers (lowest, highest)")
        if start is not None and not lo <= start <= hi:
            raise ConfigError(f"Potential({phi!r}): start={start!r} lies outside the range {range}")
        self.phi, self.bounds = phi, (float(lo), float(hi))
        self.name = name or getattr(phi, "__name__", "")
        self.range = (lo - hi, hi - lo) if start is None else (lo - start, hi - start)
        self.needs = frozenset(needs)

    def __repr__(self) -> str:
        """Return how an expression spells it; a function has its name only."""
        return f"Potential({self.phi!r})" if isinstance(self.phi, Component) else self.name

    def complaint(self, gold: Gold) -> str:
        """Refuse the gold that the component behind it refuses."""
        return self.phi.complaint(gold) if isinstance(self.phi, Component) else ""

    def named_tools(self, gold: Gold) -> Iterable[tuple[str, str]]:
        """Return the tools that the component behind it waits for."""
        return self.phi.named_tools(gold) if isinstance(self.phi, Component) else ()

    def start(self, view: EpisodeView) -> dict[str, Any]:
        """Return the value before the first turn, and the private state of the component behind it."""
        own = self.phi.start(view) if isinstance(self.phi, Component) else None
        return {"own": own, "value": self._value(view, own)}

    def score(self, view: EpisodeView, state: dict[str, Any]) -> Score:
        """Score the last turn."""
        value = self._value(view, state["own"])
        if value is None:
            return Score("turn", None, valid=False, reason=f"{self.name}: the potential is not known")
        before = state["value"]
        state["value"] = value
        return Score("turn", value - (value if before is None else before), parts={"potential": value})

    def _value(self, view: EpisodeView, own: Any) -> float | None:
        """Return Φ, clipped to its range; None where it is not known."""
        if isinstance(self.phi, Component):
            value = self.phi.score(view, own).raw
        else:
            value = float(self.phi(view))
        lo, hi = self.bounds
        return None if value is None or not math.isfinite(value) else min(max(value, lo), hi)
