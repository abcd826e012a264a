"""ATIF documents as records: checked against the format first, then read."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from agentgym import schema
from agentgym.errors import DataError, suggestion
from agentgym.interop.atif_write import INFO, OURS, call_name, rebuilt
from agentgym.interop.conversation import Draft, composed, recorded
from agentgym.jsonl import json_type
from agentgym.rollout.logs import EVENTS
from agentgym.types import JSON, Block, Message, Role, Segment, ToolCall, Trajectory, Turn

_VERSION = re.compile(r"ATIF-v1\.[0-8]")
_STEP_KEYS = (
    "step_id", "timestamp", "source", "model_name", "reasoning_effort", "message", "reasoning_content", "tool_calls",
    "observation", "metrics", "is_copied_context", "llm_call_count", "extra",
)  # fmt: skip
_AGENT_ONLY = ("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics")
_HUGE = 1e300
_NULLS_STAY = ("arguments", "extra", "tool_definitions")


@dataclass(frozen=True, slots=True)
class _Who:
    """What a message of ours has beside its content."""

    role: Role | Literal[""] = ""
    name: str = ""
    call_id: str = ""


def checked(document: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the document without nulls, which mean the same as nothing.

    Raises:
        DataError: it breaks a rule of the format; names the key.
    """
    document = _without_nulls(document)
    version = document.get("schema_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise DataError(f"{where}: schema_version is {version!r}; this version reads ATIF-v1.0 to ATIF-v1.8")
    _check_extras(document, where)
    _need(document, "agent", dict, where)
    _need(document, "steps", list, where)
    if not document["steps"]:
        raise DataError(f"{where}: steps is empty; a trajectory has at least one")
    for number, step in enumerate(document["steps"], 1):
        _check_step(step, number, f"{where}: steps[{number - 1}]")
    return document


def trajectory(document: dict[str, Any], where: str) -> Trajectory:
    """Return the record of a checked document, without what only the document knows."""
    ours = document.get("extra", {}).get(OURS)
    first, prompt = _prompt(document["steps"], where)
    steps = document["steps"][first:]
    id_ = str(document.get("trajectory_id") or document.get("session_id") or where.rpartition("/")[2])
    if isinstance(ours, dict):
        turns = tuple(_our_turns(steps, where))
        body = {**ours, "id": id_, "prompt": [], "turns": []}
        record = schema.from_json(Trajectory, body, f"{where}: extra.{OURS}").with_(prompt=prompt, turns=turns)
        record = record.with_(info={k: v for k, v in record.info.items() if k != INFO})
        return record if record.segments else record.with_(segments=_segments(steps))
    question = next((m.text for m in reversed(prompt) if m.role == "user"), "")
    record = recorded(
        [draft for draft, _ in _drafts(steps, where, theirs=True)],
        id=id_,
        env_id=INFO,
        task_id=id_,
        prompt=prompt,
        question=question,
        info={EVENTS: [], "agent": str(document["agent"].get("name", ""))},
    )
    return record.with_(segments=_segments(steps))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {k: v if k in _NULLS_STAY else _without_nulls(v) for k, v in value.items() if v is not None}
    return value


def _need(row: dict[str, Any], name: str, kind: type, where: str) -> Any:
    words = {str: "a string", dict: "an object", list: "a list"}
    if not isinstance(row.get(name), kind):
        found = json_type(row[name]) if name in row else f"nothing{suggestion(name, row)}"
        raise DataError(f"{where}: {name} must be {words[kind]}, found {found}")
    return row[name]


def _check_extras(value: Any, where: str) -> None:
    """Refuse an `extra` that is no object, at any level but inside arguments and other extras."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_extras(item, f"{where}[{index}]")
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "extra":
                _need(value, "extra", dict, where)
                if OURS in item:
                    _need(item, OURS, dict, f"{where}: extra")
            elif key not in _NULLS_STAY and key != "subagent_trajectories":
                _check_extras(item, f"{where}.{key}" if where.endswith("]") else f"{where}: {key}")


def _check_step(step: Any, number: int, where: str) -> None:
    if not isinstance(step, dict):
        raise DataError(f"{where}: a step is an object, found {json_type(step)}")
    for key in step:
        if key not in _STEP_KEYS:
            raise DataError(f"{where}: unknown key {key!r}{suggestion(key, _STEP_KEYS)}; own keys go under extra")
    if type(step.get("step_id")) is not int or step["step_id"] != number:
        raise DataError(f"{where}: step_id is {step.get('step_id')!r}; steps are numbered from 1, so {number} is next")
    source = step.get("source")
    if source not in ("system", "user", "agent"):
        raise DataError(f"{where}: source is {source!r}; allowed: system, user, agent{suggestion(str(source), ('system', 'user', 'agent'))}")
    alien = [name for name in _AGENT_ONLY if name in step]
    if source != "agent" and alien:
        raise DataError(f"{where}: {alien[0]} belongs to agent steps, this one is of source {source!r}")
    _check_content(step.get("message"), f"{where}: message")
    calls = _need(step, "tool_calls", list, where) if "tool_calls" in step else []
    for i, call in enumerate(calls):
        if not isinstance(call, dict):
            raise DataError(f"{where}: tool_calls[{i}] must be an object, found {json_type(call)}")
        for name, kind in (("tool_call_id", str), ("function_name", str), ("arguments", dict)):
            _need(call, name, kind, f"{where}: tool_calls[{i}]")
    ids = [call["tool_call_id"] for call in calls]
    for i, result in enumerate(_results(step, where)):
        source_id = result.get("source_call_id")
        if source_id is not None and source_id not in ids:
            raise DataError(
                f"{where}: observation.results[{i}] answers the call {source_id!r}, which the step does not make"
                f"{suggestion(str(source_id), ids)}"
            )
        if "content" in result:
            _check_content(result["content"], f"{where}: observation.results[{i}].content")
    _check_metrics(step.get("metrics", {}), f"{where}: metrics")


def _check_content(content: Any, where: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not all(isinstance(p, dict) and isinstance(p.get("type"), str) for p in content):
        raise DataError(f"{where} must be a string or a list of parts with a type, found {content!r:.80}")


def _check_metrics(metrics: Any, where: str) -> None:
    if not isinstance(metrics, dict):
        raise DataError(f"{where} must be an object, found {json_type(metrics)}")
    for name, kinds in (("prompt_token_ids", int), ("completion_token_ids", int), ("logprobs", (int, float))):
        values = metrics.get(name, [])
        if not isinstance(values, list) or not all(isinstance(v, kinds) and not isinstance(v, bool) for v in values):
            raise DataError(f"{where}.{name} must be a list of numbers, found {values!r:.80}")
    ids, logprobs = metrics.get("completion_token_ids"), metrics.get("logprobs")
    if not all(abs(value) < _HUGE for value in logprobs or ()):
        raise DataError(f"{where}.logprobs must be finite")
    if ids is not None and logprobs is not None and len(ids) != len(logprobs):
        raise DataError(f"{where}: {len(ids)} completion_token_ids but {len(logprobs)} logprobs; each token has one")


def _results(step: dict[str, Any], where: str) -> list[dict[str, Any]]:
    if "observation" not in step:
        return []
    results = _need(_need(step, "observation", dict, where), "results", list, f"{where}: observation")
    for i, result in enumerate(results):
        if not isinstance(result, dict):
            raise DataError(f"{where}: observation.results[{i}] must be an object, found {json_type(result)}")
    return results


# ---- reading


def _blocks(content: Any) -> tuple[Block, ...]:
    """Return content as blocks; a part of a kind that AgentGym does not know is named in a text."""
    if isinstance(content, str):
        return (Block(text=content),)
    blocks = []
    for part in content or ():
        source = part.get("source")
        path = str(source.get("path", "")) if isinstance(source, dict) else ""
        if part["type"] == "text":
            blocks.append(Block(text=str(part.get("text", ""))))
        elif part["type"] == "image":
            blocks.append(Block("image", source=path))
        else:
            blocks.append(Block(text=f"[{part['type']}: {path}]"))
    return tuple(blocks)


def _prompt(steps: Sequence[dict[str, Any]], where: str) -> tuple[int, tuple[Message, ...]]:
    """Return (number of steps, messages) of what stands before the agent's first step of its own."""
    messages: list[Message] = []
    for number, step in enumerate(steps):
        if step["source"] == "agent" and not step.get("is_copied_context"):
            return number, tuple(messages)
        messages.append(_message(step, f"{where}: steps[{number}]"))
    return len(steps), tuple(messages)


def _message(step: dict[str, Any], where: str) -> Message:
    """Return a step that is no turn as a message."""
    ours = _who(step.get("extra", {}).get(OURS, {}), where)
    role: Any = ours.role or ("assistant" if step["source"] == "agent" else step["source"])
    return Message(role, _blocks(step["message"]), ours.name, ours.call_id)


def _who(ours: JSON, where: str) -> _Who:
    return schema.from_json(_Who, ours, f"{where}: extra.{OURS}")


def _drafts(steps: Sequence[dict[str, Any]], where: str, *, theirs: bool) -> Iterator[tuple[Draft, dict[str, Any]]]:
    """Yield every agent step with what follows it, and its extra."""
    starts = [i for i, step in enumerate(steps) if step["source"] == "agent"] + [len(steps)]
    for index, (at, end) in enumerate(pairwise(starts)):
        step = steps[at]
        calls = tuple(_call(c, index, theirs) for c in step.get("tool_calls", ()))
        place = f"{where}: turn {index}"
        observed = [_observation(r, calls, place, None if theirs else index) for r in step.get("observation", {}).get("results", ())]
        told = [_message(s, place) for s in steps[at + 1 : end]]
        text = "".join(b.text for b in _blocks(step["message"]))
        thought = str(step.get("reasoning_content", ""))
        yield Draft(text, thought, calls, (*observed, *told)), step.get("extra", {}).get(OURS, {})


def _call(row: dict[str, Any], turn: int, theirs: bool) -> ToolCall:
    id_ = row["tool_call_id"]
    return ToolCall(row["function_name"], row["arguments"], id_ if theirs else _own_id(id_, turn))


def _own_id(id_: str, turn: int) -> str:
    return id_.removeprefix(call_name(turn, "", theirs=False))


def _observation(row: dict[str, Any], calls: Sequence[ToolCall], where: str, turn: int | None) -> Message:
    blocks = _blocks(row.get("content", ""))
    ours = row.get("extra", {}).get(OURS)
    if ours is not None:
        who = _who(ours, where)
        return Message(who.role or "tool", blocks, who.name, who.call_id)
    id_ = row.get("source_call_id", "")
    id_ = id_ if turn is None else _own_id(id_, turn)
    return Message("tool", blocks, next((c.name for c in calls if c.id == id_), ""), id_)


def _our_turns(steps: Sequence[dict[str, Any]], where: str) -> Iterator[Turn]:
    """Yield the turns of a document that AgentGym wrote."""
    for index, (draft, ours) in enumerate(_drafts(steps, where, theirs=False)):
        rest: dict[str, JSON] = dict(ours)
        form = rest.pop("action", "")
        turn = schema.from_json(Turn, {"index": index, "action": "", **rest}, f"{where}: turn {index}: extra.{OURS}")
        action = draft.text if form == "whole" else composed(draft.thought, draft.text, () if form else draft.calls)
        calls = turn.calls or draft.calls
        yield replace(turn, index=index, action=action, calls=calls, messages=draft.messages, thought=draft.thought)


def _segments(steps: Sequence[dict[str, Any]]) -> tuple[Segment, ...]:
    """Return the token segments; none unless every turn has its context, its tokens and their log-probabilities."""
    needed = ("prompt_token_ids", "completion_token_ids", "logprobs")
    agent = [s.get("metrics", {}) for s in steps if s["source"] == "agent"]
    metrics = {i: m for i, m in enumerate(agent) if all(name in m for name in needed)}
    return rebuilt(metrics)
