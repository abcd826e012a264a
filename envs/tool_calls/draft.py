"""From a plan to a task: the calls of a solution are carried out, and what they do becomes the gold.

A kind of task says only what is asked, what is done, what must be told and what must never happen; final state,
assertions, trace, milestones, minefields and checklist follow from the plan.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from agentgym import schema
from agentgym.criterion import Criterion
from agentgym.envs.tool_calls.domain import Domain
from agentgym.envs.tool_calls.talk import TALK_TOOLS, Script, Wish
from agentgym.errors import ConfigError, ToolError
from agentgym.gold import Assertion, Constraint, GoldCall, HiddenFact, Milestone
from agentgym.rewards.changes import diff, leaves
from agentgym.task import Answer, Gold, Limits, Task
from agentgym.tools import Tool, ToolContext
from agentgym.tools.toolbox import copy_state, plain_json
from agentgym.types import JSON, ToolCall, ToolResult
from agentgym.worlds.app_data import TODAY


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a plan."""

    tool: str
    arguments: dict[str, JSON] = field(default_factory=dict)
    compare: dict[str, str] = field(default_factory=dict)
    told: tuple[Answer, ...] = ()
    """Of reply, finish and refuse: the facts that it must state."""
    optional: bool = False
    """It may be made or left out: it earns nothing."""
    after_all: bool = False
    """It rests on what the calls before it found, so it comes after them in milestones, trace and checklist."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a kind of task says."""

    question: str
    plan: tuple[Step, ...]
    """To the closing call."""
    later: tuple[str, ...] = ()
    """Messages of the user after the first; each follows a step `reply`."""
    wishes: tuple[Wish, ...] = ()
    forbidden: tuple[tuple[str, tuple[Constraint, ...]], ...] = ()
    """Minefields: an id, and what must never be seen at once."""
    state: dict[str, JSON] | None = None
    """The state after the plan, where it is not carried out here (a sandbox would have to run)."""
    assertions: tuple[Assertion, ...] | None = None
    """In the place of the whole final state: what must hold of it."""


def ask(text: str) -> Step:
    """Return a question to the user."""
    return Step("ask_user", {"question": text})


def told(tool: str, text: str, *facts: Answer) -> Step:
    """Return a step that says `text` to the user, which must state the facts."""
    argument = {"reply": "text", "finish": "message", "refuse": "reason"}[tool]
    return Step(tool, {argument: text}, told=facts)


def build(
    domain: Domain, draft: Draft, *, id: str, world: str, split: str, kind: str, limits: Limits | None = None
) -> Task:
    """Return the task of a draft.

    Raises:
        ConfigError: The plan does not go through: the domain contradicts itself.
    """
    meta: dict[str, JSON] = {"now": f"{TODAY.isoformat()}T09:00:00+00:00"}
    if draft.wishes or draft.later:
        meta["user"] = schema.to_json(Script(wishes=draft.wishes, turns=draft.later))
    task = Task(id, draft.question, world=world, split=split, kind=kind, source=domain.name, meta=meta, limits=limits)
    before = domain.initial_state(task)
    after = draft.state if draft.state is not None else carried_out(domain, task, draft.plan)
    facts = tuple(fact for step in draft.plan for fact in step.told)
    trace = tuple(_trace(draft.plan))
    required = [call for call in trace if not call.optional]
    refused = draft.plan[-1].tool == "refuse"
    gold = Gold(
        answers=draft.plan[-1].told[:1],
        trace=trace,
        final_state=scored(after) if draft.assertions is None else None,
        assertions=draft.assertions if draft.assertions is not None else tuple(_assertions(before, after)),
        communicate=facts,
        finish="infeasible" if refused else "complete",
        milestones=tuple(Milestone(c.id, (_constraint(c),), c.after) for c in required),
        minefields=tuple(Milestone(id_, constraints) for id_, constraints in draft.forbidden),
        hidden_facts=tuple(HiddenFact(w.id, w.text) for w in draft.wishes),
        checklist=tuple(_checklist(draft)),
    )
    return replace(task, gold=gold, hops=len(required))


def scored(state: dict[str, JSON]) -> dict[str, JSON]:
    """Return the part of a state that rewards read."""
    return {key: value for key, value in state.items() if not key.startswith("_")}


def carried_out(domain: Domain, task: Task, plan: Sequence[Step]) -> dict[str, JSON]:
    """Return the state that a plan leaves behind."""
    tools = {item.name: item for item in domain.tools(task)}
    context = ToolContext(domain.initial_state(task), services={**domain.services(task), "user": domain.user(task)})
    for step in plan:
        if step.tool in tools and step.tool not in TALK_TOOLS:
            _run(tools[step.tool], step, context, task)
        elif step.tool not in TALK_TOOLS:
            raise ConfigError(f"task {task.id!r}: the plan calls {step.tool!r}, which {domain.name} does not have")
    return copy_state(context.state)


def recording(domain: Domain, task: Task) -> list[tuple[ToolCall, ToolResult]]:
    """Return the calls of a task's solution, talk left out, with what the domain's tools give."""
    tools = {item.name: item for item in domain.tools(task)}
    context = ToolContext(domain.initial_state(task), services={**domain.services(task), "user": domain.user(task)})
    found = []
    for step in domain.solution(task):
        if step.name in tools and step.name not in TALK_TOOLS:
            data = tools[step.name].fn(**tools[step.name].keywords(step.arguments, context))
            found.append((ToolCall(step.name, step.arguments), ToolResult("", step.name, True, plain_json(data))))
    return found


def _run(item: Tool, step: Step, context: ToolContext, task: Task) -> None:
    try:
        item.fn(**item.keywords(step.arguments, context))
    except ToolError as error:
        raise ConfigError(f"task {task.id!r}: the plan's call {step.tool}({step.arguments}) fails: {error}") from error


def _trace(plan: Sequence[Step]) -> Iterator[GoldCall]:
    earlier: list[str] = []
    for n, step in enumerate(plan):
        talks = step.tool in TALK_TOOLS
        compare = dict.fromkeys(step.arguments, "any") if talks else step.compare
        after = tuple(earlier) if step.after_all and not talks else ()
        call = GoldCall(f"g{n}", step.tool, step.arguments, compare, optional=talks or step.optional, after=after, turn=n)
        if not call.optional:
            earlier.append(call.id)
        yield call


def _constraint(call: GoldCall) -> Constraint:
    return Constraint(call=call.name, arguments=call.arguments, compare=call.compare)


def _assertions(before: dict[str, JSON], after: dict[str, JSON]) -> Iterator[Assertion]:
    """Yield what a solution changed, leaf by leaf; where it changed nothing, that nothing was."""
    changes = diff(scored(before), scored(after))
    for change in changes:
        if change.removed:
            yield Assertion(_path(change.path), "absent")
            continue
        for path, value in leaves(change.value, change.path):
            yield Assertion(_path(path), "count" if value in ({}, []) else "eq", 0 if value in ({}, []) else value)
    for table, rows in scored(after).items() if not changes else ():
        if isinstance(rows, dict | list):
            yield Assertion(_path((table,)), "count", len(rows))


def _path(keys: Sequence[str | int]) -> str:
    parts = []
    for key in keys:
        plain = isinstance(key, str) and key and not set(key) & set('.[]"\\')
        text = str(key).replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key}" if plain else f'["{text}"]')
    return "".join(parts).removeprefix(".")


def _checklist(draft: Draft) -> Iterator[Criterion]:
    """Yield a statement for each needed call, each fact told and each minefield; user turn by user turn."""
    many, user_turn, earlier = bool(draft.later), 0, []
    for n, step in enumerate(draft.plan):
        turn = user_turn if many else "any"
        if step.tool not in TALK_TOOLS and not step.optional:
            last = many and user_turn < len(draft.later) and draft.plan[n + 1].tool == "reply"
            after = tuple(earlier) if step.after_all else ()
            yield Criterion(f"c{n}", call=step.tool, args=step.arguments, compare=step.compare, after=after,
                            turn=turn, critical=last, weight=2.0 if step.after_all else 1.0)  # fmt: skip
            earlier.append(f"c{n}")
        for k, fact in enumerate(step.told):
            number = _number(fact)
            yield Criterion(f"t{n}.{k}", reply="" if number is not None else fact.text, reply_number=number,
                            after=tuple(earlier[-1:]), turn=turn)  # fmt: skip
        if step.tool == "ask_user":
            yield Criterion(f"a{n}", call="ask_user", turn=turn)
        user_turn += step.tool == "reply"
    for id_, constraints in draft.forbidden:
        if len(constraints) == 1 and (c := constraints[0]).call:
            yield Criterion(id_, call=c.call, args=c.arguments, compare=c.compare, never=True)


def _number(fact: Answer) -> float | None:
    if fact.type != "number":
        return None
    return float(fact.text.replace(",", ""))
