"""Scripted episodes for reward tests: turns by hand, played through a suite as an environment does."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

from agentgym import schema
from agentgym.rewards import Component, EpisodeView, Expression, Suite, build_suite
from agentgym.task import Answer, Gold
from agentgym.types import DocRef, Message, Score, ToolCall, ToolResult, Trajectory, Turn

GOLD = Gold(
    answers=(Answer("Mira Halvorsen", ("M. Halvorsen", "Halvorsen, Mira")),), doc_ids=("film-31", "person-12")
)
PROMPT = (Message.of("system", "Search, then answer."), Message.of("user", "Who directed Blue Harbour?"))


def search(query: str, *documents: str | DocRef, ok: bool = True, code: str = "", shown: str | None = None) -> Turn:
    """A turn with one search; documents are ids or DocRefs."""
    refs = tuple(d if isinstance(d, DocRef) else DocRef(d, f"Title {d}", f"Text of {d}.") for d in documents)
    text = " ".join(d.text for d in refs) or "no results" if shown is None else shown
    return Turn(
        index=0,
        action=f"<search>{query}</search>",
        calls=(ToolCall("search", {"query": query}, "c"),),
        results=(ToolResult("c", "search", ok, code=code, error="failed" if code else "", documents=refs),),
        messages=(Message.of("user", text),),
    )


def invalid(code: str = "E_PARSE", shown: str = "not understood", action: str = "???") -> Turn:
    """A turn that is no action."""
    return Turn(0, action, error_code=code, error=shown, messages=(Message.of("user", shown),))


def answer(text: str) -> Turn:
    """The turn that answers."""
    result = ToolResult("a", "answer", True, data={"answer": text})
    return Turn(0, f"<answer>{text}</answer>", (ToolCall("answer", {"text": text}, "a"),), (result,))


def play(
    suite: Suite,
    turns: Sequence[Turn],
    given: str | None = None,
    *,
    gold: Gold = GOLD,
    end_reason: str = "",
    prompt: tuple[Message, ...] = PROMPT,
    name: str = "t",
    citations: tuple[str, ...] = (),
    progress: float | None = None,
) -> Trajectory:
    """Score scripted turns as an environment does; `given` is the submitted answer (adds the answering turn)."""
    script = [*turns, answer(given)] if given is not None else list(turns)
    reason = end_reason or ("answered" if given is not None else "max_turns")
    view = EpisodeView("Who directed Blue Harbour?", gold, prompt, progress=progress)
    state, done = suite.start(view), []
    for i, turn in enumerate(script):
        last = i == len(script) - 1
        done.append(replace(turn, index=i))
        view.turns = done
        if last:
            # ends from outside come after the last turn was scored
            view.answer, view.end_reason = given, "" if reason in ("max_tokens", "service_error") else reason
        scores = suite.score_turn(view, state)
        done[-1] = replace(done[-1], scores=scores, reward=sum((s.value for s in scores.values()), 0.0))
    view.answer, view.citations, view.end_reason = given, citations, reason
    scores = suite.score_trajectory(view, state)
    return Trajectory(
        id=name,
        env_id="test",
        task_id="task",
        prompt=prompt,
        turns=tuple(done),
        question=view.question,
        answer=given,
        citations=citations,
        end_reason=reason,
        terminated=given is not None,
        success=suite.success(view),
        scores=scores,
        reward=sum((s.value for s in scores.values()), 0.0),
        gold=schema.to_json(gold),
        reward_spec=suite.name,
        info={} if progress is None else {"progress": progress},
    )


def alone(reward: str | Expression) -> Suite:
    """The suite of one component or expression; whether it separates success from failure is not asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return build_suite(reward)


def raw(trajectory: Trajectory, name: str) -> list[float | None]:
    """The raw turn scores of a component."""
    return [turn.scores[name].raw for turn in trajectory.turns]


class Fixed(Component):
    """A component that gives the numbers it was told to, turn after turn; at the end the first."""

    def __init__(self, name: str, numbers: Sequence[float], **attributes: object) -> None:
        self.name, self.numbers = name, tuple(numbers)
        self.scope, self.range, self.supply = "trajectory", (0.0, 1.0), "terminal"
        for key, value in attributes.items():
            setattr(self, key, value)

    def score(self, view: EpisodeView, state: object) -> Score:
        return Score(self.scope, self.numbers[len(view.turns) - 1 if self.scope == "turn" else 0])


def potential(name: str, numbers: Sequence[float], **attributes: object) -> Fixed:
    """A turn component of potential supply."""
    defaults = {"scope": "turn", "supply": "potential", "range": (-1.0, 1.0)}
    return Fixed(name, numbers, **(defaults | attributes))


def outcome(name: str = "won", value: float = 0.0, **attributes: object) -> Fixed:
    """A yes-no outcome."""
    return Fixed(name, [value], **({"failure_max": 0.0} | attributes))


class TableScorer:
    """A scorer that reads mean log-probabilities from a function; counts its calls."""

    def __init__(self, table: object) -> None:
        self.table = table
        self.calls = 0
        self.asked: list[tuple[tuple[Message, ...], str, str, str]] = []

    def score(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> list[list[float]]:
        self.calls += 1
        pairs = list(zip(contexts, targets, strict=True))
        self.asked += [(tuple(context), prefix, target, suffix) for context, target in pairs]
        return [self.table(context[-1].text, target) for context, target in pairs]
