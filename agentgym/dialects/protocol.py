"""What every way of writing a tool call shares: the protocol, the result of parsing, the codes, the opening checks.

Codes of a bad action (`Parsed.error_code`; nothing runs and the state stays as it is):

| code | meaning |
|---|---|
| E_LENGTH | the action is longer than `Limits.max_action_chars` (checked before anything else) |
| E_RESERVED | it holds a tag that only the environment writes, or a token that opens a turn |
| E_PARSE | no call, or a call that cannot be read: not closed, bad attribute, bad JSON, a second thought |
| E_MULTI | more complete calls than `Limits.max_calls_per_turn` |
| E_UNKNOWN_TOOL | a call of a tool that there is not |
| E_ARGS | text in a call of a tool that takes none |

Codes of a call that could be read but failed are the toolbox's: E_ARGS, E_BUDGET, E_TOOL, E_TIMEOUT.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from agentgym.errors import suggestion
from agentgym.quick import quick
from agentgym.sanitize import forged, sanitize, strip_end_tokens
from agentgym.task import Limits
from agentgym.types import Message, ToolCall, ToolSpec

BLANKS = " \n\t"
"""The white space that is dropped around what a policy writes."""

_THINK, _THINK_END = "<think>", "</think>"
_BRACKETS = "</|｜> \n\t"


@quick
@dataclass(frozen=True, slots=True)
class Parsed:
    """One action, read. Either `calls` or `error_code` is filled."""

    calls: tuple[ToolCall, ...] = ()
    """Ids are c1, c2, … in the order of the action."""
    thought: str = ""
    """The think block, and prose before the first call. Nothing in it is ever run."""
    error_code: str = ""
    error: str = ""
    """Message to the policy: what was wrong and how to write it."""
    dropped_chars: int = 0
    """Length of the prose after the first call; it was not read."""


@runtime_checkable
class Dialect(Protocol):
    """How a policy writes a call. `parse` and `render` are inverse of each other; no tokenizers here."""

    name: str
    reserved: frozenset[str]
    """Names that no tool may have."""

    def parse(self, text: str, specs: Sequence[ToolSpec], limits: Limits) -> Parsed:
        """Read an action. Linear time; never raises on what a policy wrote."""
        ...

    def render(self, calls: Sequence[ToolCall], specs: Sequence[ToolSpec] = ()) -> str:
        """Write calls so that `parse` gives them back.

        Without `specs` the first argument is taken to be the first parameter and every value to have the
        type of its parameter.

        Raises:
            EnvError: there is nothing to write, or a value does not fit its parameter.
        """
        ...

    def observation(
        self, parts: Sequence[tuple[ToolCall | None, str]], *, compact: bool = False
    ) -> tuple[Message, ...]:
        """Wrap what the environment answers. Tags that only it may write are escaped inside.

        Args:
            parts: a call and the text of its result each; None for text that answers no call.
            compact: the same facts in fewer tokens.
        """
        ...

    def stop(self, specs: Sequence[ToolSpec], max_calls: int = 1) -> tuple[str, ...]:
        """Return strings after which sampling may stop; none where several calls may follow each other."""
        ...

    def instructions(self, specs: Sequence[ToolSpec], max_calls: int = 1) -> str:
        """Return how to write calls of these tools, for the system prompt."""
        ...

    def example(self, spec: ToolSpec) -> str:
        """Return one call of the tool with placeholder arguments: the expected form for error messages."""
        ...


def read(text: str, limits: Limits) -> tuple[str, Parsed | None]:
    """Check the length, sanitise, drop end tokens. Returns the text, or the error that ends the parse."""
    if len(text) > limits.max_action_chars:
        message = f"the action has {len(text)} characters; at most {limits.max_action_chars} are read"
        return "", Parsed(error_code="E_LENGTH", error=message)
    return strip_end_tokens(sanitize(text)), None


def reserved_error(text: str, thought: str = "", how: str = "in an argument write its < as &lt;") -> Parsed | None:
    """Return the error for text of a policy that holds something only an environment writes, else None.

    What was found is named without its brackets: messages are escaped like all that a policy reads.

    Args:
        text: What the policy wrote.
        thought: The thought so far.
        how: Where or how the same text may be written.
    """
    found = forged(text)
    if not found:
        return None
    what = "token" if found[1] in "|｜" else "tag"
    message = f"the {what} {found.strip(_BRACKETS)} is written by the environment alone; {how}"
    return Parsed(thought=thought, error_code="E_RESERVED", error=message)


def split_thought(text: str) -> tuple[str, str, Parsed | None]:
    """Return (thought, rest, error). The text up to the first </think> is thought, with or without <think>.

    Some chat templates open the thought in the prompt, so the opening tag may be missing.
    """
    end = text.find(_THINK_END)
    opened = text.startswith(_THINK, len(text) - len(text.lstrip(BLANKS)))
    if end < 0:
        if opened:
            return "", "", Parsed(error_code="E_PARSE", error="the think tag is not closed; write its closing tag before the call")
        return "", text, None
    thought = text[:end].strip(BLANKS)
    return thought.removeprefix(_THINK).strip(BLANKS), text[end + len(_THINK_END) :], None


def join_thought(thought: str, prose: str) -> str:
    """Return the think block and the prose before the first call as one thought."""
    prose = prose.strip(BLANKS)
    return f"{thought}\n{prose}" if thought and prose else thought or prose


def unknown_tool(name: str, specs: Sequence[ToolSpec], thought: str = "") -> Parsed:
    """Return the error for a call of a tool that there is not."""
    names = [spec.name for spec in specs]
    message = f"there is no tool {name[:80]!r}{suggestion(name[:80], names)}; allowed: {', '.join(names)}"
    return Parsed(thought=thought, error_code="E_UNKNOWN_TOOL", error=message)


def too_many(n: int, limits: Limits, thought: str = "") -> Parsed:
    """Return the error for more calls than one turn may hold."""
    most = limits.max_calls_per_turn
    allowed = "one call" if most == 1 else f"at most {most} calls"
    message = f"more than {allowed} in one turn (call {n} begins); nothing ran; write {allowed} and wait for the result"
    return Parsed(thought=thought, error_code="E_MULTI", error=message)
