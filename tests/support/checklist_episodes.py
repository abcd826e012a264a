"""Scripted tool episodes for checklist tests: turns with calls and states, scored by replay."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentgym import schema
from agentgym.rewards import Suite
from agentgym.rewards.changes import diff
from agentgym.task import Gold
from agentgym.types import JSON, DocRef, Score, ToolCall, ToolResult, Trajectory, Turn

STATE = {"orders": {"#W23": {"status": "open", "amount": 12.5}}}
REFUNDED = {"orders": {"#W23": {"status": "refunded", "amount": 12.5}}}


def call(name: str, *, data: JSON = None, ok: bool = True, documents: tuple[str, ...] = (), **arguments: Any) -> Turn:
    """A turn of one call."""
    refs = tuple(DocRef(d, d, f"Text of {d}") for d in documents)
    result = ToolResult("c1", name, ok, data if ok else None, code="" if ok else "E_TOOL", documents=refs)
    return Turn(0, f"{name}", (ToolCall(name, arguments, "c1"),), (result,))


def reply(text: str, ok: bool = True) -> Turn:
    """A turn that speaks to the user, which ends the user turn."""
    return call("reply", text=text, ok=ok)


def several(*turns: Turn) -> Turn:
    """One turn with the calls of several."""
    return Turn(0, "", tuple(c for t in turns for c in t.calls), tuple(r for t in turns for r in t.results))


def reaching(turn: Turn, state: JSON) -> tuple[Turn, JSON]:
    """A turn after which the state is this one."""
    return turn, state


def record(turns: Sequence[Turn | tuple[Turn, JSON]], end_reason: str = "finished", **fields: Any) -> Trajectory:
    """An unscored record of scripted turns, starting from STATE."""
    state: JSON = STATE
    done = []
    for index, entry in enumerate(turns):
        turn, after = entry if isinstance(entry, tuple) else (entry, state)
        done.append(replace(turn, index=index, changes=diff(state, after)))
        state = after
    gold = schema.to_json(fields.pop("gold", Gold()))
    return Trajectory(
        "t", "test", "task", (), tuple(done), question="Refund order #W23.", end_reason=end_reason,
        initial_state=STATE, gold=gold, **fields,
    )  # fmt: skip


def scored(suite: Suite, trajectory: Trajectory, judge: Any = None) -> Trajectory:
    """The record scored, with a judge where one is given."""
    done = suite.rescore(trajectory)
    if judge is None:
        return done
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return suite.complete([done], judge=judge)[0]


def values(trajectory: Trajectory, name: str) -> list[float | None]:
    """The raw turn scores of a component, rounded."""
    raws = (turn.scores[name].raw for turn in trajectory.turns)
    return [None if raw is None else round(raw, 9) for raw in raws]


def of(trajectory: Trajectory, name: str) -> list[Score]:
    """The turn scores of a component."""
    return [turn.scores[name] for turn in trajectory.turns]
