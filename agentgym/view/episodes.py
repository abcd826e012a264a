"""Groups of sibling episodes for the report: chosen evenly over the run, cut to a size a page can hold."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentgym import schema
from agentgym.errors import AgentGymError
from agentgym.rollout.record import SCHEMA_VERSION
from agentgym.types import JSON, Score, Segment, Span, Trajectory, Turn
from agentgym.view.folder import cut, finite, number, objects

MAX_GROUPS = 120
"""Groups that a report shows at most, spread evenly over the recorded steps; the rest stays in trajectories.jsonl."""
MAX_MEMBERS = 16
"""Siblings of a group that are shown."""
MAX_BYTES = 1_900_000
"""Size of all shown groups together, as JSON text."""
MAX_MEMBER_BYTES = 120_000
"""Size of one episode as JSON text; a longer one is shown with less detail: no single tokens, then shorter texts."""
MAX_SCORES = 40
"""Scores of one turn or episode that are shown."""
MAX_TURNS = 60
"""Turns of an episode that are shown."""
TEXT = {
    "action": 3_000,
    "observation": 2_400,
    "question": 800,
    "prompt": 6_000,
    "answer": 400,
    "reason": 200,
    "name": 120,
}
"""Characters of a text that are shown."""
MAX_TOKENS = 800
"""Tokens of one action that are shown one by one."""


@dataclass(slots=True)
class Records:
    """What a report shows of the trajectories."""

    n_episodes: int = 0
    n_groups: int = 0
    groups: list[dict[str, JSON]] = field(default_factory=list)
    """The chosen groups, by step."""
    prompts: list[list[list[str]]] = field(default_factory=list)
    """Distinct prompts as [[role, text], …]; groups name theirs by position."""
    components: dict[str, float] = field(default_factory=dict)
    """Mean contribution per episode of every component, over all episodes in the statistics."""
    ends: dict[str, int] = field(default_factory=dict)
    """Number of episodes per end reason, over all episodes."""
    n_counted: int = 0
    """Episodes in the statistics."""
    means: dict[str, float] = field(default_factory=dict)
    """success, reward and turns: means over the episodes in the statistics."""


@dataclass(slots=True)
class _Entry:
    step: int
    lines: list[int] = field(default_factory=list)


def read_records(path: Path, advantages: Mapping[str, Sequence[float]], problems: list[str]) -> Records:
    """Read a trajectories.jsonl twice: once to count and choose, once to cut the chosen groups to size.

    Args:
        path: The file (`.gz` too); without it there are no records.
        advantages: [K] per trajectory id.
        problems: Takes a line on everything that had to be left out.
    """
    records = Records()
    if not path.is_file():
        return records
    entries = _survey(path, records, problems)
    order = sorted(entries, key=lambda key: (entries[key].step, entries[key].lines[0]))
    chosen = [order[i] for i in spread(len(order))[:MAX_GROUPS]]
    wanted = {n: key for key in chosen for n in entries[key].lines[:MAX_MEMBERS]}
    members: dict[str, list[Trajectory | dict[str, JSON]]] = {}
    heads: dict[str, Trajectory] = {}
    for line, body in objects(path, []):
        if line not in wanted:
            continue
        body.pop("schema_version", None)
        try:
            trajectory = schema.from_json(Trajectory, body, f"{path.name}:{line}")
        except (AgentGymError, OverflowError) as error:
            problems.append(f"left out: {error}")
            continue
        heads.setdefault(wanted[line], trajectory)
        members.setdefault(wanted[line], []).append(_member(trajectory, advantages.get(trajectory.id, ())))
    groups: dict[str, dict[str, JSON]] = {}
    room = MAX_BYTES
    for key in chosen:
        if key not in heads:
            continue
        entry = entries[key]
        group = _group(key, entry.step, heads[key], records.prompts)
        group |= {"members": members[key], "hidden": max(0, len(entry.lines) - MAX_MEMBERS)}
        room -= len(json.dumps(group))
        if room < 0 and groups:
            break
        groups[key] = group
    records.groups = [groups[key] for key in order if key in groups]
    return records


def _survey(path: Path, records: Records, problems: list[str]) -> dict[str, _Entry]:
    """Count what is there, in one pass that keeps no texts."""
    entries: dict[str, _Entry] = {}
    sums: dict[str, float] = {}
    totals = {"success": 0.0, "reward": 0.0, "turns": 0.0}
    n_foreign = 0
    for line, body in objects(path, problems):
        if body.get("schema_version") != SCHEMA_VERSION:
            n_foreign += 1
            continue
        seed = body.get("seed") or ()
        step = seed[1] if isinstance(seed, list) and len(seed) > 1 and isinstance(seed[1], int) else 0
        key = str(body.get("group_id") or body.get("task_id") or body.get("id"))
        entries.setdefault(key, _Entry(step)).lines.append(line)
        records.n_episodes += 1
        end = cut(str(body.get("end_reason", "")), TEXT["name"])
        records.ends[end] = records.ends.get(end, 0) + 1
        if body.get("in_statistics", True):
            records.n_counted += 1
            totals["success"] += body.get("success") is True
            totals["turns"] += len(turns) if isinstance(turns := body.get("turns"), list) else 0
            for name, value in _contributions(body):
                sums[name] = sums.get(name, 0.0) + value
                totals["reward"] += value
    if n_foreign:
        problems.append(
            f"{path.name}: {n_foreign} lines are left out: schema_version {SCHEMA_VERSION} is read here, and they have another or none"
        )
    records.n_groups = len(entries)
    records.components = {name: total / records.n_counted for name, total in sorted(sums.items())}
    records.means = {name: total / max(1, records.n_counted) for name, total in totals.items()}
    return entries


def _contributions(body: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    turns = body.get("turns")
    places = [body, *(turns if isinstance(turns, list) else ())]
    for place in places:
        scores = place.get("scores") if isinstance(place, dict) else None
        for name, score in scores.items() if isinstance(scores, dict) else ():
            value = score.get("value", 0.0) if isinstance(score, dict) and score.get("valid", True) else 0.0
            known = finite(value)
            if known is not None:
                yield cut(name, TEXT["name"]), known


def spread(n: int) -> list[int]:
    """Return 0 … n-1 in an order whose every beginning lies about evenly over the whole (bits reversed)."""
    width = max(1, (n - 1).bit_length())
    return sorted(range(n), key=lambda i: int(f"{i:0{width}b}"[::-1], 2))


def _group(key: str, step: int, head: Trajectory, prompts: list[list[list[str]]]) -> dict[str, JSON]:
    gold = head.gold if isinstance(head.gold, dict) else {}
    answers = gold.get("answers") or ()
    texts = [
        str(a.get("text", a) if isinstance(a, dict) else a) for a in (answers if isinstance(answers, list) else ())
    ]
    prompt = [[m.role, cut(m.text, TEXT["prompt"])] for m in head.prompt]
    if prompt not in prompts:
        prompts.append(prompt)
    return {
        "id": cut(key, TEXT["question"]),
        "step": step,
        "task": cut(head.task_id, TEXT["question"]),
        "question": cut(head.question or (head.prompt[-1].text if head.prompt else head.task_id), TEXT["question"]),
        "gold": [cut(t, TEXT["answer"]) for t in texts[:20]],
        "kind": cut(str(head.info.get("kind", "")), TEXT["name"]),
        "prompt": prompts.index(prompt),
    }


def _member(trajectory: Trajectory, advantages: Sequence[float]) -> dict[str, JSON]:
    tokens = {s.turn: (g, s) for g in trajectory.segments for s in g.spans}
    known = advantages if isinstance(advantages, list | tuple) else ()
    row: dict[str, JSON] = {
        "id": cut(trajectory.id, TEXT["question"]),
        "i": trajectory.member,
        "success": trajectory.success,
        "end": cut(trajectory.end_reason, TEXT["name"]),
        "total": number(trajectory.total),
        "scores": _scores(trajectory.scores),
        "turns": [
            _turn(t, known[t.index] if 0 <= t.index < len(known) else None, tokens.get(t.index))
            for t in trajectory.turns[:MAX_TURNS]
        ],
    }
    extra = {
        "answer": None if trajectory.answer is None else cut(trajectory.answer, TEXT["answer"]),
        "error": cut(trajectory.error, TEXT["answer"]),
        "more": max(0, len(trajectory.turns) - MAX_TURNS),
        "parent": list(trajectory.parent) if trajectory.parent else None,
        "out": [
            what
            for what, inside in (("loss", trajectory.in_loss), ("statistics", trajectory.in_statistics))
            if not inside
        ],
    }
    return _fitted(row | {name: value for name, value in extra.items() if value})


def _fitted(row: dict[str, JSON]) -> dict[str, JSON]:
    """Return an episode with as much detail as `MAX_MEMBER_BYTES` leaves room for."""
    turns: Any = row["turns"]
    for limit, n_turns, n_scores in ((None, MAX_TURNS, MAX_SCORES), (600, MAX_TURNS, MAX_SCORES), (120, 20, 5)):
        if len(json.dumps(row)) <= MAX_MEMBER_BYTES:
            break
        bare = [{k: v for k, v in t.items() if k not in ("ids", "logp", "H", "cut")} for t in turns[:n_turns]]
        for turn in bare:
            for name in ("action", "seen"):
                if limit is not None and name in turn:
                    turn[name] = cut(turn[name], limit)
            turn["scores"] = turn.get("scores", [])[:n_scores]
        more: Any = row.get("more", 0)
        row |= {"turns": bare, "more": more + len(row["turns"]) - len(bare), "thin": True}  # type: ignore[arg-type]
    return row


def _turn(turn: Turn, advantage: Any, tokens: tuple[Segment, Span] | None) -> dict[str, JSON]:
    code = turn.error_code or next((r.code for r in turn.results if r.code), "")
    reason = turn.error or next((r.error for r in turn.results if r.code), "")
    row: dict[str, JSON] = {"action": cut(turn.action, TEXT["action"])}
    extra = {
        "code": cut(code, TEXT["name"]),
        "error": cut(reason, TEXT["answer"]) if code else "",
        "seen": cut("\n".join(m.text for m in turn.messages), TEXT["observation"]),
        "scores": _scores(turn.scores),
        "A": number(advantage),
    }
    row |= {name: value for name, value in extra.items() if value not in ("", [], None)}
    if tokens is not None:
        segment, span = tokens
        end = min(span.end, span.start + MAX_TOKENS)
        row["ids"] = list(segment.ids[span.start : end])
        row["logp"] = [number(p, 3) for p in segment.logprobs[span.start : end]]
        if len(turn.entropies) == span.end - span.start:
            row["H"] = [number(h, 3) for h in turn.entropies[: end - span.start]]
        if end < span.end:
            row["cut"] = span.end - end
    return row


def _scores(scores: Mapping[str, Score]) -> list[JSON]:
    """Return [name, raw, weight, contribution, reason, state] of the scores that say something; state "" is a valid one."""
    return [
        [
            cut(name, TEXT["name"]),
            number(s.raw),
            number(s.weight),
            number(s.value),
            cut(s.reason, TEXT["reason"]),
            "deferred" if s.deferred else "" if s.valid else "invalid",
        ]
        for name, s in scores.items()
        if s.raw or s.value or not s.valid or s.deferred
    ][:MAX_SCORES]


def token_texts(groups: Sequence[Mapping[str, Any]], texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of the tokens that the groups hold."""
    used = {str(i) for g in groups for m in g["members"] for t in m["turns"] for i in t.get("ids", ())}
    return {i: cut(texts[i], TEXT["reason"]) for i in sorted(used) if i in texts}
