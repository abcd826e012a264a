"""Harbor's Agent Trajectory Interchange Format (ATIF): trajectories out and in without loss.

Written is ATIF v1.7; read are v1.0 to v1.8. What both sides know has its own place: messages (text and images), tool
calls, observations, reasoning, token ids, log-probabilities. What only AgentGym knows (scores, typed results, seeds)
lies under extra["agentgym"] of root, step and result, so that a record that was written comes back equal. What only
ATIF knows (timestamps, costs, other extras, subagents) lies in `Trajectory.info["atif"]` as the changes that make the
document again, so that a document that was read is written back equal, up to nulls and empty `extra`.

An agent step is a turn; what stands before the first one, context copied from an earlier trajectory included, is the
prompt. Subagent trajectories stay where they are and are not read as trajectories.

Source: RFC 0001 of Harbor ("Agent Trajectory Interchange Format"), versions 1.0 to 1.8.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentgym import schema
from agentgym.errors import DataError
from agentgym.interop import atif_read, atif_write
from agentgym.interop.atif_write import INFO, OURS
from agentgym.jsonl import json_type, open_bytes, parse_json, read_objects
from agentgym.rewards.changes import applied, diff
from agentgym.rollout.record import without_gold
from agentgym.types import JSON, Change, Trajectory

_CHANGES = tuple[Change, ...]


def read_atif(path: str | Path) -> Iterator[Trajectory]:
    """Yield the trajectories of a document, a list of documents, JSON lines of documents, or a folder of documents.

    Of a folder the files named trajectory*.json are read, at any depth; where there are none, all .json files.

    Raises:
        DataError: a document is not ATIF; names the file, the line and the key.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.rglob("trajectory*.json")) or sorted(path.rglob("*.json"))
        if not files:
            raise DataError(f"{path}: the folder holds no .json file; give a trajectory.json or a folder of them")
        for file in files:
            yield from read_atif(file)
    elif path.suffix == ".json":
        with open_bytes(path) as file:
            try:
                text = file.read().decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
        body = parse_json(text, str(path))
        for number, document in enumerate(body if isinstance(body, list) else [body]):
            yield from_atif(document, f"{path}[{number}]" if isinstance(body, list) else str(path))
    else:
        for line, document in read_objects(path):
            yield from_atif(document, f"{path}:{line}")


def to_atif(trajectory: Trajectory, *, gold: bool = False) -> dict[str, JSON]:
    """Return a trajectory as an ATIF document.

    Args:
        trajectory: the record.
        gold: keep gold and evidence, which are left out otherwise.

    Raises:
        DataError: the record has neither messages nor turns, which ATIF cannot say; or it was read from ATIF and its
            turns were changed since, so that what only ATIF knows has lost its places.
    """
    record = trajectory if gold else without_gold(trajectory)
    kept: Any = record.info.get(INFO)
    document = atif_write.document(record)
    if not document["steps"]:
        raise DataError(f"trajectory {trajectory.id}: no message and no turn; ATIF needs at least one step")
    if kept is not None:
        if kept["steps"] != len(document["steps"]):
            raise DataError(
                f"trajectory {trajectory.id}: read from ATIF with {kept['steps']} steps, has {len(document['steps'])} now;"
                f" drop info[{INFO!r}] to write it without what only the document knew"
            )
        changes = schema.from_json(_CHANGES, kept["changes"], f"trajectory {trajectory.id}: info.{INFO}")
        document = applied(document, changes)
    return _without_empty_extras(document)


def from_atif(document: JSON, where: str = "document") -> Trajectory:
    """Return the trajectory of an ATIF document.

    A document that AgentGym wrote comes back as it was. Of others the last agent message without tool calls is the
    answer, and a call without an observation makes the record faulty (see `conversation.recorded`). They have no gold.

    Args:
        document: parsed JSON.
        where: what the message of an error starts with.

    Raises:
        DataError: not ATIF, or a version that is not known; names the key.
    """
    if not isinstance(document, dict):
        raise DataError(f"{where}: an ATIF document is an object, found {json_type(document)}")
    document = atif_read.checked(document, where)
    record = atif_read.trajectory(document, where)
    plain = _stripped(atif_write.document(record))
    changes = sorted(diff(plain, _with_empty_extras(_stripped(document), plain)), key=lambda c: [str(k) for k in c.path])
    if not changes or (_is_ours(document) and all(c.path == ("agent", "version") for c in changes)):
        return record  # another version of AgentGym wrote it: nothing to keep
    kept = {"steps": len(document["steps"]), "changes": [schema.to_json(c) for c in changes]}
    return record.with_(info={**record.info, INFO: kept})


def _is_ours(document: dict[str, Any]) -> bool:
    return OURS in (document.get("extra") or {})


def _stripped(value: JSON) -> JSON:
    """Return a document without extra["agentgym"] anywhere; its extras stay, empty ones too."""
    return atif_write.mapped_extras(value, lambda extra: {k: v for k, v in extra.items() if k != OURS})


def _with_empty_extras(document: Any, plain: Any) -> Any:
    """Return a document that has an empty `extra` wherever `plain` has one and it has none."""
    if isinstance(document, list) and isinstance(plain, list):
        pairs = zip(document, plain, strict=False)
        return [_with_empty_extras(d, p) for d, p in pairs] + document[len(plain) :]
    if isinstance(document, dict) and isinstance(plain, dict):
        filled = {k: _with_empty_extras(v, plain[k]) if k in plain and k != "extra" else v for k, v in document.items()}
        return {**filled, "extra": {}} if plain.get("extra") == {} and "extra" not in filled else filled
    return document


def _without_empty_extras(document: JSON) -> Any:
    """Return a document without the extras that hold nothing."""
    return atif_write.mapped_extras(document, lambda extra: extra, drop_empty=True)
