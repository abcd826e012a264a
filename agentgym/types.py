"""The values that pass between the rooms: frozen, serialisable, without behaviour of their own.

Axis letters used in all array docs: B sequences, T tokens, G group, K turns.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentgym.quick import quick

Role = Literal["system", "user", "assistant", "tool"]
Scope = Literal["turn", "trajectory"]
JSON = Any
"""Anything that `json.dumps` writes without help: dict, list, str, int, finite float, bool, None."""


@quick
@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a message: text, or a reference to an image."""

    type: Literal["text", "image"] = "text"
    text: str = ""
    source: str = ""
    """For images: a path or data URI. Empty for text."""


@quick
@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, as a policy reads it."""

    role: Role
    content: tuple[Block, ...]
    name: str = ""
    """For role "tool": the tool that answered."""
    call_id: str = ""
    """For role "tool": the id of the call that is answered."""

    @property
    def text(self) -> str:
        """The text blocks, joined."""
        return "".join(b.text for b in self.content if b.type == "text")

    @staticmethod
    def of(role: Role, text: str, *, name: str = "", call_id: str = "") -> "Message":
        """Return a message of one text block."""
        return Message(role, (Block(text=text),), name, call_id)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a policy may know of a tool."""

    name: str
    description: str
    parameters: dict[str, JSON]
    """JSON schema of the arguments: type object, closed, properties in the order of the signature."""
    mutates: bool = False
    """The tool changes the state: it runs on a copy that is dropped when it fails."""
    final: bool = False
    """A successful call ends the episode (answer, finish)."""
    timeout_s: float | None = None


@quick
@dataclass(frozen=True, slots=True)
class ToolCall:
    """One parsed request of a policy."""

    name: str
    arguments: dict[str, JSON]
    id: str = ""


@quick
@dataclass(frozen=True, slots=True)
class Passage:
    """One unit of text that a retriever returns."""

    id: str
    title: str
    text: str


@quick
@dataclass(frozen=True, slots=True)
class DocRef:
    """A passage as it was shown to the policy in one tool result."""

    id: str
    title: str
    text: str
    """The text that was shown, after cutting."""
    rank: int = 0
    """0-based position in its result."""
    score: float = 0.0
    seen_before: bool = False
    """An earlier result of the same episode showed the same id."""


@quick
@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the environment answered to one call."""

    call_id: str
    name: str
    ok: bool
    data: JSON = None
    """JSON value of a successful call."""
    code: str = ""
    """E_… code of a failed call, else empty."""
    error: str = ""
    """Message to the policy for a failed call: names the fix, never gold."""
    documents: tuple[DocRef, ...] = ()
    truncated: bool = False
    mutated: bool = False
    events: dict[str, JSON] = field(default_factory=dict)
    """What happened, for rewards alone: the policy never reads it. Kinds: `agentgym.rewards.events`."""

    def showing(self, documents: tuple[DocRef, ...]) -> "ToolResult":
        """Return the result with these documents."""
        return ToolResult(
            self.call_id, self.name, self.ok, self.data, self.code, self.error, documents, self.truncated, self.mutated, self.events
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion of a policy."""

    text: str
    token_ids: tuple[int, ...] = ()
    """The sampled ids, stop tokens included; empty for policies without tokens."""
    logprobs: tuple[float, ...] = ()
    """Natural log-probabilities of `token_ids` under the sampling distribution."""
    finish_reason: Literal["stop", "length", "context", "error"] = "stop"
    """"context": the conversation leaves no room for a completion; "error": the service failed."""
    policy_version: int = 0
    entropies: tuple[float, ...] = ()
    """Optional entropies of the sampling distribution in nats, one per token."""
    error: str = ""
    """For finish_reason "error": what failed (the service, never the policy)."""
    context_ids: tuple[int, ...] = ()
    """All ids that the sampler conditioned on; the ledger checks them and they are not kept."""


@quick
@dataclass(frozen=True, slots=True)
class Score:
    """What one component says at one place."""

    scope: Scope
    raw: float | None
    """The component's own value, inside its declared range; None while deferred or invalid."""
    weight: float = 1.0
    value: float = 0.0
    """Contribution to the reward after weight, gates and caps."""
    valid: bool = True
    """False: a service failed; the trajectory leaves loss and statistics (abstain is not zero)."""
    deferred: bool = False
    """True until `suite.complete` fills it."""
    reason: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    """Named numbers behind `raw`; deferred scores keep the log-probability of every target here."""
    evidence: tuple[str, ...] = ()
    """May name gold: stays in the trajectory, never in `info`."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two JSON states."""

    path: tuple[str | int, ...]
    """Keys and list positions from the root; empty: the whole state."""
    value: JSON = None
    removed: bool = False


@quick
@dataclass(frozen=True, slots=True)
class Turn:
    """One completion and what the environment answered: one `step`."""

    index: int
    action: str
    """The policy's text as the environment read it: sanitised; over-long text keeps head and hash."""
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    error_code: str = ""
    """E_… code if the action itself was bad; empty otherwise. A failed call has its code in `results`."""
    error: str = ""
    messages: tuple[Message, ...] = ()
    """What the environment answered, roles kept."""
    dropped_chars: int = 0
    """Length of the trailing prose that was not read."""
    state_hash_before: str = ""
    state_hash_after: str = ""
    changes: tuple[Change, ...] = ()
    """How the turn changed the state that rewards read (`Trajectory.initial_state`)."""
    scores: dict[str, Score] = field(default_factory=dict)
    """Turn-scope scores by component name."""
    reward: float = 0.0
    """Sum of the turn's contributions (deferred ones join after `suite.complete`)."""
    entropies: tuple[float, ...] = ()
    thought: str = ""
    """The think block and the prose before the first call, as the dialect read them; nothing in it was run."""

    def scored(self, scores: dict[str, Score], reward: float) -> "Turn":
        """Return the turn with its scores and their sum; half the cost of `dataclasses.replace`, and every turn pays it."""
        return Turn(
            self.index, self.action, self.calls, self.results, self.error_code, self.error, self.messages, self.dropped_chars,
            self.state_hash_before, self.state_hash_after, self.changes, scores, reward, self.entropies, self.thought,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens of one turn's action inside a segment: [start, end)."""

    turn: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One append-only run of tokens, exactly as the sampler saw them.

    All sequences have the segment's length. A trajectory usually has one segment; a compacted context
    starts another.
    """

    ids: tuple[int, ...]
    mask: tuple[int, ...]
    """1 on sampled tokens, 0 on what the renderer appended."""
    logprobs: tuple[float, ...]
    """Natural log-probabilities at sampling time; 0.0 where mask is 0."""
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The recorded episode: all that the learner, the views and re-scoring need."""

    id: str
    env_id: str
    task_id: str
    prompt: tuple[Message, ...]
    turns: tuple[Turn, ...]
    question: str = ""
    """The task's own words, without instructions."""
    answer: str | None = None
    citations: tuple[str, ...] = ()
    end_reason: str = ""
    terminated: bool = False
    truncated: bool = False
    success: bool = False
    scores: dict[str, Score] = field(default_factory=dict)
    """Trajectory-scope scores by component name."""
    reward: float = 0.0
    """Sum of the trajectory-scope contributions; the total is this plus the turns' rewards."""
    segments: tuple[Segment, ...] = ()
    group_id: str = ""
    member: int = 0
    policy_version: int = 0
    seed: tuple[int, ...] = ()
    """The key of the episode's random streams: (run, step, group, member)."""
    parent: tuple[str, int] | None = None
    """For branches: (trajectory id, turn) of the snapshot it started from."""
    in_statistics: bool = True
    in_loss: bool = True
    error: str = ""
    """For env_error and service_error: what failed; else the first score that a service left invalid."""
    gold: JSON = None
    """The task's gold as plain JSON; stripped on export."""
    initial_state: JSON = None
    """The state that rewards read, before the first turn; None where the environment shows them none."""
    reward_spec: str = ""
    """Name or expression of the suite that scored it."""
    info: dict[str, JSON] = field(default_factory=dict)
    """Plain facts of the task for tables: kind, hops, split, world, policy."""

    @property
    def total(self) -> float:
        """Sum of all contributions of all turns and of the trajectory."""
        return sum(t.reward for t in self.turns) + self.reward

    @property
    def first_turn(self) -> int:
        """Index of the first turn of its own: above 0 for branches, whose earlier turns are their parent's."""
        return self.parent[1] if self.parent is not None else 0

    @property
    def own_turns(self) -> tuple[Turn, ...]:
        """The turns that it took itself: all of them, but for branches."""
        return self.turns[self.first_turn :]

    def with_(self, **changes: Any) -> "Trajectory":
        """Return a copy with some fields replaced."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Group:
    """The sibling trajectories of one task from one policy version."""

    id: str
    task_id: str
    trajectories: tuple[Trajectory, ...]


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Plain rows of tokens, ragged: what a learnable policy scores."""

    ids: tuple[tuple[int, ...], ...]
    mask: tuple[tuple[int, ...], ...]
    """1 where a log-probability is wanted (never at position 0)."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One training step as the learner reports it; plain data, so views need no torch."""

    step: int
    metrics: dict[str, float]
    scales: dict[str, float]
    """s_T, s_O and c that this step used."""
    advantages: dict[str, tuple[float, ...]]
    """[K] per trajectory id."""
    warnings: tuple[str, ...] = ()
    """What the guards found, in words."""
