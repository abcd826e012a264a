"""Components that compare the actions in an interface, or the next action of a shopper, with a reference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentgym.errors import ConfigError
from agentgym.gold import GuiAction
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.events import succeeded
from agentgym.statement import rouge_l
from agentgym.task import Gold
from agentgym.types import JSON, Score, ToolCall, ToolResult, Turn

SIMILAR = 0.75
"""ROUGE-L from which a typed text counts as similar."""


def action_fits(call: ToolCall, result: ToolResult, wanted: GuiAction) -> bool:
    """Whether an action that ran is the wanted one, or one of its alternatives.

    The type (tool name) is the same; the element that it hit (event "element", never the distance to a point) is the
    wanted one or an accepted one; text, app name, direction and status are equal where the wanted action has them.
    """
    if any(action_fits(call, result, other) for other in wanted.alternatives):
        return True
    if call.name != wanted.type:
        return False
    hit = result.events.get("element", "")
    if wanted.target and (not hit or hit not in (wanted.target, *wanted.accept)):
        return False
    given = call.arguments
    return (
        (not wanted.text or given.get("text") == wanted.text)
        and (not wanted.direction or given.get("direction") == wanted.direction)
        and (not wanted.status or given.get("status", "complete") == wanted.status)
        and (not wanted.name or bool(wanted.target) or _app(given) == wanted.name)
    )


def _app(arguments: dict[str, JSON]) -> JSON:
    return arguments.get("name", arguments.get("app_name"))


@dataclass(slots=True)
class MatchState:
    """The last row of the table of the longest common subsequence: best match with each prefix of the reference."""

    row: list[int] = field(default_factory=list)


class ActionMatch(Component):
    """ΔΦ, Φ = longest order-preserving match with the reference actions / their number.

    Actions match by type, element and text (`action_fits`). What does not match neither earns nor costs, so a detour
    is free but for the costs of its turns; doing a reference action again earns nothing.

    Source: the per-step action match of AndroidControl and UI-Genie. Deviations: the element that was hit in the
    place of a radius of .14 of the screen (368 pixels on a phone: neighbouring buttons); any order-preserving match
    in the place of step against step.
    """

    name = "action_match"
    scope = "turn"
    range = (0.0, 1.0)
    supply = "potential"
    needs = frozenset({"gold.actions", "events.elements"})

    def complaint(self, gold: Gold) -> str:
        """Refuse reference actions without a type."""
        return "" if all(action.type for action in gold.actions) else "one of its reference actions has no type"

    def start(self, view: EpisodeView) -> MatchState:
        """Return an empty match."""
        return MatchState([0] * (len(view.gold.actions) + 1))

    def score(self, view: EpisodeView, state: MatchState) -> Score:
        """Score the last turn."""
        wanted, before = view.gold.actions, state.row[-1]
        for call, result in succeeded(view.turns[-1]):
            old = state.row
            state.row = [0] * len(old)
            for j, action in enumerate(wanted, 1):
                fits = action_fits(call, result, action)
                state.row[j] = old[j - 1] + 1 if fits else max(old[j], state.row[j - 1])
        matched = state.row[-1]
        if matched == before:
            return Score("turn", 0.0)
        raw = matched / len(wanted) - before / len(wanted)
        return Score("turn", raw, reason=f"{matched} of {len(wanted)} reference actions")


# ---- next-action prediction


def slots_of(wanted: GuiAction) -> dict[str, str]:
    """Return the slots of an action that have a value: name and text."""
    return {slot: value for slot, value in (("name", wanted.name), ("text", wanted.text)) if value}


def _first_action(turns: Sequence[Turn]) -> tuple[ToolCall, dict[str, str]] | None:
    """Return the call of the first turn and its slots; None where that turn is no single action.

    A call that was not run (next-action tasks need no interface) counts as long as it was parsed.
    """
    if not turns or turns[0].error_code or not turns[0].calls:
        return None
    call = turns[0].calls[0]
    result = turns[0].results[0] if turns[0].results else None
    hit = result.events.get("name") if result is not None else None
    given = {"name": call.arguments.get("name", hit), "text": call.arguments.get("text")}
    return call, {slot: value for slot, value in given.items() if isinstance(value, str) and value}


class HierarchicalAction(Component):
    """.2 valid + .2 type + .2·share of slots with similarity ≥ .75 + .4·mean of those similarities, for one action.

    The first turn's call against the first reference action. Similarity is ROUGE-L, 0 below .75. An action without
    slots (terminate) is worth .4 at most, so that always ending is no strategy; report accuracy by class beside it.

    Source: Shop-R1's hierarchical reward. Deviations: bounded by 1 (there a weight of 1,000 on one term), nothing for
    the mere presence of a name or text. `shop_r1` has the published formula.
    """

    name = "hierarchical_action"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.actions"})

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the first action."""
        wanted, given = view.gold.actions[0], _first_action(view.turns)
        if given is None:
            return Score("trajectory", 0.0, reason="no action")
        call, slots = given
        if call.name != wanted.type:
            return Score("trajectory", 0.2, reason=f"another type: {call.name[:40]}")
        similar = _similarities(slots, slots_of(wanted))
        if not similar:
            return Score("trajectory", 0.4, reason="type alone")
        share = sum(s > 0 for s in similar.values()) / len(similar)
        mean = sum(similar.values()) / len(similar)
        return Score("trajectory", 0.4 + 0.2 * share + 0.4 * mean, reason="type and slots", parts=similar)


class ShopR1(Component):
    """.5 valid + .3 type + slots: click .2 name present + d·ROUGE-L(name); typing .1 + .1 present + .1·name + d·text.

    The formula as published, with d = `dars`; ROUGE-L is 0 below .75. At d = 1,000 one term is three orders of
    magnitude above the rest, and a wrong name earns .2 by its presence: for comparison, not for training.

    Source: Shop-R1, equations of the hierarchical reward; the rationale's self-certainty (weight .005) is left out.
    """

    name = "shop_r1"
    scope = "trajectory"
    supply = "terminal"
    needs = frozenset({"gold.actions"})
    is_outcome = False

    def __init__(self, dars: float = 1000.0) -> None:
        """Set the difficulty-aware scale of the long text. Raises ConfigError for a negative one."""
        if not dars >= 0:
            raise ConfigError(f"{self.name}: dars={dars!r}; allowed: 0 or more")
        self.dars = dars
        self.range = (0.0, 1.1 + dars)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the first action."""
        wanted, given = view.gold.actions[0], _first_action(view.turns)
        if given is None:
            return Score("trajectory", 0.0, reason="no action")
        call, slots = given
        if call.name != wanted.type:
            return Score("trajectory", 0.5, reason="valid")
        wanted_slots = slots_of(wanted)
        similar = _similarities(slots, wanted_slots)
        raw = 0.8
        if "text" in wanted_slots:
            raw += 0.1 * ("name" in slots) + 0.1 * ("text" in slots)
            raw += 0.1 * similar.get("name", 0.0) + self.dars * similar["text"]
        elif "name" in wanted_slots:
            raw += 0.2 * ("name" in slots) + self.dars * similar["name"]
        return Score("trajectory", raw, reason="type and slots", parts=similar)


def _similarities(given: dict[str, str], wanted: dict[str, str]) -> dict[str, float]:
    """Return the thresholded ROUGE-L of every wanted slot."""
    return dict(_thresholded(given, wanted))


def _thresholded(given: dict[str, str], wanted: dict[str, str]) -> Iterator[tuple[str, float]]:
    for slot, value in wanted.items():
        similarity = rouge_l(given[slot], value) if slot in given else 0.0
        yield slot, similarity if similarity >= SIMILAR else 0.0


action_match = ActionMatch()
hierarchical_action = HierarchicalAction()
