"""Gold must not reach a policy: the same actions under other gold must show the same, and marked gold must not appear."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from agentgym.audit.hacks import WRONG
from agentgym.audit.players import Player, advance, answer_tool, begin, look_tool, oracle
from agentgym.audit.report import Finding, run_checks
from agentgym.env import ToolEnv
from agentgym.rollout.batcher import Batcher
from agentgym.rollout.episode import SamplingConfig, run_episode
from agentgym.rollout.policy import Request
from agentgym.task import Answer, Entity, Nugget, Rubric, Task
from agentgym.tools.waiting import run_waiting
from agentgym.types import Completion, ToolSpec, Trajectory

MARK = "GOLDMARK"
PRIVILEGED = frozenset({"task", "trajectory", "tasks", "source", "snapshot", "suite", "oracle_action", "oracle_call"})
"""What the public interface of an environment offers to checks, learners and demonstrators; a policy is handed none."""
SHORT = 4
"""Gold answers below this length are not searched for in ids: they occur by chance."""


def check_isolation(env: ToolEnv, tasks: Sequence[Task]) -> list[Finding]:
    """Look for gold wherever a policy could read it."""
    return run_checks(
        (
            ("secure", "gold does not change what is shown", lambda: (p for t in tasks[:4] for p in _interference(env, t))),
            ("secure", "marked gold appears nowhere", lambda: (p for t in tasks[:2] for p in _marked_gold(env, t))),
            ("secure", "task ids do not name the answer", lambda: (_id_leak(t) for t in tasks)),
            ("secure", "the opening does not name the answer", lambda: (_opening(env, t) for t in tasks[:12])),
            ("secure", "tools are handed no gold", lambda: (p for t in tasks[:2] for p in _services(env, t))),
            ("secure", "the driver hands the oracle to nobody else", lambda: _driver(env, tasks[0])),
            ("secure", "errors name no gold", lambda: (p for t in tasks[:4] for p in _errors(env, t))),
        )
    )


def other_gold(task: Task, mark: str = MARK) -> Task:
    """Return the task with gold that stands nowhere else, of the same shape."""
    gold = task.gold
    answers = tuple(Answer(f"{mark} answer {n}", (f"{mark} alias",), a.type) for n, a in enumerate(gold.answers))
    return replace(
        task,
        gold=replace(
            gold,
            answers=answers,
            entities=tuple(Entity(e.id, f"{mark} entity {n}", (), e.hop, e.role) for n, e in enumerate(gold.entities)),
            doc_ids=tuple(f"{mark}-doc-{n}" for n in range(len(gold.doc_ids))),
            path=tuple((f"{mark}-{n}", f"{mark} relation", f"{mark}-t{n}") for n in range(len(gold.path))),
            path_doc_ids=tuple(f"{mark}-doc-{n}" for n in range(len(gold.path_doc_ids))),
            paths=(),
            rubrics=tuple(Rubric(r.id, f"{mark} <E0>", r.weight) for r in gold.rubrics),
            nuggets=tuple(Nugget(n.id, f"{mark} fact", (), n.vital, n.weight) for n in gold.nuggets),
            communicate=tuple(replace(a, text=f"{mark} 1", aliases=()) for a in gold.communicate),
            hidden_facts=tuple(replace(f, text=f"{mark} wish") for f in gold.hidden_facts),
            final_state={mark: mark} if gold.final_state is not None else None,
            assertions=tuple(replace(a, value=mark) for a in gold.assertions),
            trace=tuple(replace(c, arguments={mark: mark}, compare={}) for c in gold.trace),
        ),
    )


def visit(env: ToolEnv, player: Player) -> Iterator[str]:
    """Yield actions that reach every tool, every error and the answer; the same for every gold."""
    yield player.look(player.question)
    yield player.look(player.question.split()[-2] if len(player.question.split()) > 1 else "x")
    for spec in env.specs:
        if not spec.final:
            yield env.dialect.example(spec)
            yield player.call(spec.name, _arguments(spec, player))
    yield player.call("unknown_tool", {})
    yield player.look(player.names[-1])
    yield player.bad
    yield player.answer(WRONG)


def _arguments(spec: ToolSpec, player: Player) -> dict[str, Any]:
    ids = player.doc_ids or ["d1"]
    return {name: ids[0] if "id" in name else "the" for name in spec.parameters.get("required", ())}


def _seen(env: ToolEnv, task: Task) -> list[str]:
    """Return all that a policy and its loop see on the way through a task, scores left out."""
    env.render_mode, mode = "ansi", env.render_mode
    player = begin(env, replace(task, limits=replace(task.limits or env.limits, max_turns=40, max_invalid=30)))
    texts = [_text(player.observations[0]), _text(player.infos[0]), _text(env.specs), _text(env.stop_strings)]
    for action in visit(env, player):
        if env.ended:
            break
        advance(player, action)
        info = {k: v for k, v in player.infos[-1].items() if k not in ("rewards", "deferred")}
        texts += [action, player.observations[-1], _text(info), _text(env.last_messages), str(env.render())]
    env.render_mode = mode
    return texts + list(_attributes(env))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)


def _attributes(env: ToolEnv) -> Iterator[str]:
    """Yield the public attributes of an environment that a loop may read, as text."""
    for name in sorted(set(dir(env)) - PRIVILEGED):
        if name.startswith("_") or name in ("np_random", "np_random_seed"):
            continue
        value = getattr(env, name, None)
        if isinstance(value, str | int | float | list | tuple | dict | set | frozenset):
            yield f"{name}: {_text(value if not isinstance(value, set | frozenset) else sorted(map(str, value)))}"
    yield _text([list(getattr(s, "examples", ())) for s in (env.action_space, env.observation_space)])


def _interference(env: ToolEnv, task: Task) -> Iterator[str]:
    plain, marked = _seen(env, task), _seen(env, other_gold(task))
    if len(plain) != len(marked):
        yield f"task {task.id}: with other gold the episode has another length"
    for n, (one, two) in enumerate(zip(plain, marked, strict=False)):
        if one != two:
            at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
            yield f"task {task.id}: text {n} depends on gold: {one[max(0, at - 40) : at + 60]!r}"


def _marked_gold(env: ToolEnv, task: Task) -> Iterator[str]:
    marked = other_gold(task)
    texts = _seen(env, marked)
    begin(env, marked)
    player = begin(env, marked)
    while not env.ended and player.turn < 4:
        advance(player, player.look(f"{player.question} {player.turn}"))
        texts.append(_text(player.infos[-1]))
    if not env.ended:
        advance(player, player.answer(WRONG))
        texts.append(_text(player.infos[-1]))
    for text in texts:
        if MARK in text:
            at = text.index(MARK)
            yield f"task {task.id}: gold is shown: {text[max(0, at - 60) : at + 40]!r}"


def _id_leak(task: Task) -> str:
    plain = task.id.casefold()
    for answer in task.gold.answers:
        text = answer.text.casefold()
        if len(text) >= SHORT and (text in plain or text.replace(" ", "_") in plain or text.replace(" ", "-") in plain):
            return f"task id {task.id!r} holds the answer {answer.text!r}"
    return ""


def _opening(env: ToolEnv, task: Task) -> str:
    """The instructions must not name the answer; the question may (a choice between two)."""
    player = begin(env, task)
    opening = player.observations[0].replace(player.question, "").replace(task.question, "").casefold()
    for answer in task.gold.answers:
        if len(answer.text) >= SHORT and answer.text.casefold() in opening:
            return f"task {task.id}: the opening names the answer {answer.text!r}"
    return ""


def _services(env: ToolEnv, task: Task) -> Iterator[str]:
    marked = other_gold(task)
    begin(env, marked)
    if MARK in repr(env.initial_state(marked)):
        yield "the initial state holds gold"
    for name, service in env.services(marked).items():
        if service is marked or service is marked.gold:
            yield f"the service {name!r} is the task or its gold"
        held = vars(service) if hasattr(service, "__dict__") else service
        if (isinstance(service, dict | list | tuple | str) and MARK in repr(service)) or MARK in repr(held)[:200_000]:
            yield f"the service {name!r} holds gold"


class _Spy:
    """A policy without privileges that keeps what it is handed."""

    privileged = False
    served = False

    def __init__(self, env: ToolEnv) -> None:
        self.env, self.requests = env, []

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.requests += requests
        return [Completion(text=_next(self.env, request)) for request in requests]

    def release(self, episodes: Any) -> None:
        """Keep everything."""


def _next(env: ToolEnv, request: Request) -> str:
    turns = sum(m.role == "assistant" for m in request.messages)
    player = Player(env, request.messages[-1].text, [""])
    return player.answer(WRONG) if turns > 1 else player.look(f"where {turns}")


def _driver(env: ToolEnv, task: Task) -> Iterator[str]:
    if look_tool(env) is None or answer_tool(env) is None:
        return
    spy, marked = _Spy(env), other_gold(task)

    async def run() -> Trajectory:
        batcher = Batcher(spy)
        batcher.enter(1)
        return await run_episode(env, batcher, marked, (0, 0, 0, 0), SamplingConfig(), "audit", 1.0)

    record = run_waiting(run())
    if record.error:
        yield f"the driver's episode failed: {record.error}"
    if any(request.oracle is not None for request in spy.requests):
        yield "a policy without privileges was handed the oracle's action"
    if any(MARK in repr(request) for request in spy.requests):
        yield "a request of the driver holds gold"
    if len(spy.requests) != len(record.turns):
        yield f"{len(spy.requests)} requests for {len(record.turns)} turns"


def _errors(env: ToolEnv, task: Task) -> Iterator[str]:
    """Make every tool fail and look for the answer in what it says."""
    for spec in env.specs:
        for value in ("", "no such thing", 5, None, [], {"a": 1}):
            player = begin(env, task)
            arguments = dict.fromkeys(spec.parameters.get("properties", {}), value)
            try:
                action = player.call(spec.name, arguments)
            except Exception:  # noqa: BLE001 (the dialect cannot even write it)
                continue
            advance(player, action)
            said = "\n".join([player.observations[-1], *(r.error for r in env.trajectory.turns[-1].results)]).casefold()
            turn = env.trajectory.turns[-1]
            failed = bool(turn.error_code) or not turn.results[0].ok
            for answer in task.gold.answers:
                if failed and len(answer.text) >= SHORT and answer.text.casefold() in said:
                    yield f"task {task.id}: an error of {spec.name} names the answer"
    player = begin(env, task)
    if env.ended:
        yield f"task {task.id}: ended at once"
    oracle()(player)
