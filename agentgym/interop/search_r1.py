"""Transcripts of Search-R1: one text per episode, in which the model's words and the system's results alternate.

The text is taken apart where the system wrote into it: an <information> block right after a </search>, and the
sentence with which it refuses a bad action. Everything else is the model's, <information> blocks included.

Calls, results and the answer are those of the logged system. Where the tags dialect would have refused an action
(a forged result, a thought that is not closed), the turn carries the code as well, so that `all_valid`,
`invalid_action` and `forgery` see it. `strict=True` goes further and lets nothing run that would have been refused.

    {"id": …, "question": …, "golden_answers": […], "output": {"query": …, "final_response": …, "pred": …}}
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym import schema
from agentgym.dialects import TagsDialect
from agentgym.errors import DataError, suggestion
from agentgym.interop.conversation import faulty
from agentgym.jsonl import json_type, read_objects
from agentgym.rollout.logs import EVENTS
from agentgym.task import Answer, Gold, Limits
from agentgym.types import JSON, DocRef, Message, Role, ToolCall, ToolResult, ToolSpec, Trajectory, Turn

RECORDED = "recorded"
"""Key of `Trajectory.info`: the log's own prediction and scores."""
SPECS = tuple(
    ToolSpec(name, "", {"type": "object", "properties": {p: {"type": "string"}}, "required": [p]}, final=final)
    for name, p, final in (("search", "query", False), ("answer", "text", True))
)
_RESULT = re.compile(r"(</search>)(\s*<information>)(.*?)(</information>|\Z)", re.DOTALL)
_REFUSAL = re.compile(
    r"\n?My previous action is invalid\. If I want to search, .{0,300}?Let me try again\.\n?", re.DOTALL
)
_ACTION = re.compile(r"<(search|answer)>(.*?)</\1>", re.DOTALL)
_TITLE = r'Doc \d+\(Title: (?:"(?P<quoted>.*?)"|(?P<bare>(?:[^()\n]|\([^()\n]*\))*))\)'
_DOCUMENT = re.compile(rf"^{_TITLE} ?(?P<body>.*?)(?=\nDoc \d+\(Title: |\Z)", re.DOTALL | re.MULTILINE)
_CHAT = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)<\|im_end\|>", re.DOTALL)
_PLACES = {"id": "", "question": "", "golden_answers": "", "output": ""}


@dataclass(frozen=True, slots=True)
class Piece:
    """One turn of a transcript as text."""

    action: str
    """What the model wrote."""
    answered: str | None
    """What the system wrote after it; None: the text ends here."""
    kind: str
    """"result", "refusal", "end", or "cut" for a result that the text does not hold whole."""


def read_search_r1(path: str | Path, *, strict: bool = False) -> Iterator[Trajectory]:
    """Yield the transcripts of a JSON lines file (.gz too).

    Args:
        path: the file.
        strict: refuse what the tags dialect refuses: such an action runs nothing and answers nothing.

    Raises:
        DataError: a line is not of this form; names file, line and key.
    """
    path = Path(path)
    for line, row in read_objects(path):
        yield _trajectory(row, f"{path}:{line}", strict)


def pieces(text: str) -> Iterator[Piece]:
    """Yield the turns of a transcript."""
    start = 0
    while True:
        result, refusal = _RESULT.search(text, start), _REFUSAL.search(text, start)
        if result and not (refusal and refusal.start() < result.start()):
            whole = bool(result[4])
            yield Piece(text[start : result.end(1)], result[3], "result" if whole else "cut")
            start = result.end()
        elif refusal:
            yield Piece(text[start : refusal.start()], refusal[0].strip(), "refusal")
            start = refusal.end()
        else:
            break
    if text[start:].strip():
        yield Piece(text[start:], None, "end")


def _trajectory(row: dict[str, JSON], where: str, strict: bool) -> Trajectory:
    question, output = _field(row, "question", str, where), _field(row, "output", dict, where)
    golds = _field(row, "golden_answers", list, where)
    if not all(isinstance(g, str) for g in golds):
        raise DataError(f"{where}: golden_answers must be a list of strings, found {golds!r:.80}")
    text = _field(output, "final_response", str, f"{where}: output")
    id_ = str(row.get("id") or f"{Path(where).name}")
    seen: set[str] = set()
    turns, faults = [], []
    for index, piece in enumerate(pieces(text)):
        turns.append(_turn(index, piece, seen, strict))
        if piece.kind == "cut" or (piece.kind == "end" and turns[-1].calls and turns[-1].calls[0].name == "search"):
            faults.append(f"turn {index}: the log does not hold the result of search")
    record = Trajectory(
        id=id_,
        env_id="search_r1",
        task_id=id_,
        prompt=tuple(_prompt(str(output.get("query") or question))),
        turns=tuple(turns),
        question=question,
        gold=schema.to_json(Gold(answers=(Answer(golds[0], tuple(golds[1:])),) if golds else ())),
        info=_info(row, output),
    )
    if not turns:
        return faulty(record, "the log holds no text of the model")
    return faulty(record, faults[0]) if faults else _ended(record, output)


def _field(row: dict[str, JSON], name: str, kind: type, where: str) -> Any:
    if name not in row:
        raise DataError(
            f"{where}: field {name!r} is missing{suggestion(name, row)}; Search-R1 transcripts have id, question,"
            f" golden_answers and output.final_response; found {', '.join(row) or 'none'}"
        )
    if not isinstance(row[name], kind):
        wanted = {str: "a string", dict: "an object", list: "a list"}[kind]
        raise DataError(f"{where}: {name} must be {wanted}, found {json_type(row[name])}")
    return row[name]


def _turn(index: int, piece: Piece, seen: set[str], strict: bool) -> Turn:
    parsed = TagsDialect().parse(piece.action, SPECS, Limits(max_action_chars=len(piece.action) + 1))
    found = _ACTION.search(piece.action) if piece.kind != "refusal" else None
    calls, results = (), ()
    if found and not (strict and parsed.error_code):
        name, argument = ("search", "query") if found[1] == "search" else ("answer", "text")
        calls = (ToolCall(name, {argument: found[2].strip()}, "c1"),)
        documents = _documents(piece.answered or "", seen) if name == "search" else ()
        data = [d.id for d in documents] or piece.answered
        results = (ToolResult("c1", name, True, data, documents=documents),)
    shown = ()
    if piece.answered is not None:
        text = piece.answered if piece.kind == "refusal" else f"<information>{piece.answered}</information>"
        shown = (Message.of("user", text),)
    # The logged system refused what it could not read, in words of its own: the dialect may be more lenient.
    code = parsed.error_code or ("E_PARSE" if found is None else "")
    return Turn(index, piece.action, calls, results, code, parsed.error, shown, thought=parsed.thought)


def _documents(text: str, seen: set[str]) -> tuple[DocRef, ...]:
    """Return the passages of a result. The log has no ids: a hash of title and text stands for one."""
    shown = []
    for rank, found in enumerate(_DOCUMENT.finditer(text)):
        title, body = found["quoted"] or found["bare"] or "", found["body"].strip()
        id_ = hashlib.blake2b(f"{title}\n{body}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        shown.append(DocRef(id_, title, body, rank, seen_before=id_ in seen))
    seen.update(d.id for d in shown)
    return tuple(shown)


def _prompt(text: str) -> Iterator[Message]:
    found = list(_CHAT.finditer(text))
    for role, said in [(m[1], m[2]) for m in found] or [("user", text)]:
        named: Role = "system" if role == "system" else "assistant" if role == "assistant" else "user"
        yield Message.of(named, said.strip())


def _info(row: dict[str, JSON], output: dict[str, JSON]) -> dict[str, JSON]:
    scores = output.get("metric_score")
    known = {"query", "final_response", "pred", "metric_score"}
    recorded = {"pred": output.get("pred"), "scores": scores if isinstance(scores, dict) else {}}
    extra = {k: v for k, v in row.items() if k not in _PLACES} | {k: v for k, v in output.items() if k not in known}
    return {EVENTS: ["documents"], RECORDED: recorded, "extra": extra}


def _ended(record: Trajectory, output: dict[str, JSON]) -> Trajectory:
    """Return the record with its end: an answer, or the limit or refusal that came before one."""
    last = record.turns[-1]
    if last.calls and last.calls[0].name == "answer":
        return record.with_(end_reason="answered", terminated=True, answer=last.calls[0].arguments["text"])
    if output.get("stop_reason") == "length":
        return record.with_(end_reason="max_tokens", truncated=True)
    if last.messages:
        return record.with_(end_reason="max_turns", truncated=True)
    return record.with_(end_reason="failed", terminated=True)
