"""The tools that talk: to ask the user, to answer, to close. And the user, who is scripted and cannot be talked over.

A user holds wishes that are told only when a question asks for them. Which wish a question asks for is decided by its
words alone, so no instruction inside a question does anything, and a question gets two facts at most.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from agentgym.tools import Tool, ToolContext, ToolOutput, tool
from agentgym.types import JSON

MAX_FACTS = 2
"""Wishes that one question brings out."""
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that the user tells only when asked."""

    id: str
    """As in `Gold.hidden_facts`."""
    text: str
    """What the user says."""
    words: tuple[str, ...]
    """A question that holds one of these words (or runs of words) asks for it; in lower case."""


@dataclass(frozen=True, slots=True)
class Script:
    """What a scripted user says. `Task.meta["user"]` holds it as JSON."""

    wishes: tuple[Wish, ...] = ()
    turns: tuple[str, ...] = ()
    """What the user says after the first request was answered, one message a user turn."""
    nothing: str = "I have nothing to add to that."
    """The answer to a question that asks for no wish."""


@runtime_checkable
class User(Protocol):
    """Whoever the policy talks to."""

    def answer(self, question: str, told: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """Return the answer to a question, and the ids of the wishes that it gives away; `told` are those before."""
        ...

    def follow_up(self, user_turn: int, said: str) -> str | None:
        """Return the next message after the reply `said` to user turn number `user_turn` (from 0); None: none."""
        ...


class ScriptedUser:
    """A user who follows a script."""

    def __init__(self, script: Script) -> None:
        """Take the script."""
        self.script = script

    def answer(self, question: str, told: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """Tell the wishes whose words the question holds, the first two at most."""
        words = f" {' '.join(_WORD.findall(question.lower()[:2_000]))} "
        asked = [w for w in self.script.wishes if any(f" {word} " in words for word in w.words)][:MAX_FACTS]
        if not asked:
            return self.script.nothing, ()
        return " ".join(w.text for w in asked), tuple(w.id for w in asked)

    def follow_up(self, user_turn: int, said: str) -> str | None:
        """Return the next message of the script."""
        return self.script.turns[user_turn] if user_turn < len(self.script.turns) else None


@tool(mutates=True)
def ask_user(question: Annotated[str, "one question to the user"], ctx: ToolContext) -> ToolOutput:
    """Ask the user for something that only the user knows."""
    own = talk_state(ctx)
    text, facts = ctx.services["user"].answer(question, tuple(own["told"]))
    own["told"] += [id_ for id_ in facts if id_ not in own["told"]]
    return ToolOutput(text, events={"revealed": list(facts)} if facts else {})


@tool(mutates=True)
def reply(text: Annotated[str, "what to tell the user"], ctx: ToolContext) -> ToolOutput:
    """Answer the user and wait for the next message; if there is none, the task is over."""
    own = talk_state(ctx)
    message = ctx.services["user"].follow_up(own["turn"], text)
    events: dict[str, JSON] = {"said": text, "user_turn_ended": True}
    if message is None:
        return ToolOutput({"user": None}, events={**events, "status": "complete"})
    own["turn"] += 1
    return ToolOutput({"user": message}, events=events)


@tool(final=True)
def finish(message: Annotated[str, "the last words to the user: what was done, what was asked for"]) -> dict:
    """Close the task as done."""
    return {"answer": message}


@tool(final=True)
def refuse(reason: Annotated[str, "why, with the fact that forbids it"]) -> ToolOutput:
    """Close the task as one that the rules forbid, or that cannot be done."""
    return ToolOutput({"answer": reason}, events={"status": "infeasible", "said": reason})


TALK_TOOLS: dict[str, Tool] = {item.name: item for item in (ask_user, reply, finish, refuse)}
"""In the order in which the policy is shown them, after the tools of the world."""
EMPTY: dict[str, JSON] = {"turn": 0, "told": []}
"""State of the talk: user turns that were answered, wishes that were told."""


def talk_state(ctx: ToolContext) -> dict[str, Any]:
    """Return the state of the talk, which no reward reads."""
    return ctx.state.setdefault("_user", {"turn": 0, "told": []})
