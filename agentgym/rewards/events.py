"""What tools tell rewards beside their data: `ToolResult.events`, plain JSON that no policy ever reads.

A tool returns `ToolOutput(data, events={...})`. An environment names the kinds that it records in
`ToolEnv.events`; a component that needs another kind is refused when it meets the first task.

| kind | key of `events` | value | who reads it |
|---|---|---|---|
| documents, citations | (none: `ToolResult.documents`, the `citations` of the final call) | what was shown and cited | citation_rubric, entity_match, query_quality, … |
| state | (none: `ToolEnv.scored_state`, `Turn.changes`) | the state that rewards read | state_match, state_assert, milestones |
| said | said | text that the call told the user; the final answer and the tools `reply`, `finish` need none | communicate |
| user_turn_ended | user_turn_ended | true: the word went back to the user; `reply` does so without it | checklist |
| revealed | revealed | ids of hidden facts that the simulated user gave away, in order | ask_gain |
| elements | element, name | stable id and visible name of the element that the action hit; "" for none | action_match, hierarchical_action |
| status | status | what the closing call stated: "complete" or "infeasible" | gui_success, `Gold.finish` |
| success | success | 0..1 by the environment's own check, for devices whose state is no JSON | gui_success |
| pages | candidates, ranked, selected, page, boxes | ids in the order offered, ids in the order chosen, the id picked, the page of a crop, its boxes [[x0, y0, x1, y1]] | rerank_ndcg, select_hit, roi_f1 |
| triples | triples | the [head, relation, tail] that a graph tool showed, by entity id | action_reference |
| kept | kept | all kept [head, relation, tail] after the call | path_potential, action_reference |
| purchase | bought | {title, query, category, attributes: [], options: [], price} of what was bought | webshop_score |

Only events of successful results count.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from agentgym.types import JSON, ToolCall, ToolResult, Turn

TALK = frozenset(("answer", "finish", "reply", "ask_user"))
"""Tools that talk to the user or close the episode: gold traces list them only where they mean to."""
SPOKEN = {"reply": ("text", "message"), "finish": ("message", "text")}
"""Arguments whose text the user hears, by tool; other tools record the event "said"."""


def succeeded(turn: Turn) -> Iterator[tuple[ToolCall, ToolResult]]:
    """Yield the calls of a turn that ran and succeeded, with their results."""
    for call, result in zip(turn.calls, turn.results, strict=False):
        if result.ok:
            yield call, result


def recorded(turns: Sequence[Turn], key: str) -> Iterator[JSON]:
    """Yield the values of one event key over the episode, in order."""
    for turn in turns:
        for result in turn.results:
            if result.ok and key in result.events:
                yield result.events[key]


def last(turns: Sequence[Turn], key: str, default: Any = None) -> Any:
    """Return the value of an event key that was recorded last, or the default."""
    for turn in reversed(turns):
        for result in reversed(turn.results):
            if result.ok and key in result.events:
                return result.events[key]
    return default


def status(turns: Sequence[Turn]) -> str:
    """Return the status that the last turn's closing call stated; empty for none."""
    if not turns:
        return ""
    for call, result in reversed(list(succeeded(turns[-1]))):
        given = result.events.get("status")
        if given is None and call.name == "finish":
            given = call.arguments.get("status", "complete")
        if isinstance(given, str):
            return given
    return ""


def replies(turns: Sequence[Turn], answer: str | None = None) -> list[str]:
    """Return what the user was told, in order; the final answer comes last where it was not told already."""
    told: list[str] = []
    for turn in turns:
        for call, result in succeeded(turn):
            said = result.events.get("said")
            if said is None:
                arguments = (call.arguments.get(name) for name in SPOKEN.get(call.name, ()))
                said = next((text for text in arguments if isinstance(text, str)), None)
            if isinstance(said, str):
                told.append(said)
    if answer is not None and answer not in told[-1:]:
        told.append(answer)
    return told


def words_of(value: JSON) -> list[str]:
    """Return the texts of a list of texts, or nothing: events are written by tools that anyone may register."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
