"""Golden episodes: recorded actions with what they must show and earn, kept in `golden.json` beside the card.

An environment id promises its data, observations and rewards: where they change, the id is raised. The file holds
that promise. `variants` says how to make the environment and what to play; `write_golden` fills in the rest.
"""

import contextlib
import hashlib
import inspect
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym

from agentgym.audit.hacks import WRONG
from agentgym.audit.players import Player, advance, answer_tool, begin, contributions, oracle
from agentgym.audit.report import Finding, finding
from agentgym.env import ToolEnv
from agentgym.errors import AgentGymError, DataError, EnvError
from agentgym.jsonl import parse_json
from agentgym.types import JSON, ToolCall, ToolSpec

FILE = "golden.json"
NAME = "golden episodes show and earn what is recorded"
RAW = (
    "<bad", "", "plain words", "<unknown>x</unknown>", "<unknown/>", "<search>a</search><search>b</search>", "<search/>",
    '<search k="2">a</search>', "<search k='2'>a</search>", '<search k="x">a</search>', '<search k="2" k="3">a</search>',
    '<search query="a">b</search>', '<search query="a"/>', "<search k=2>a</search>", "<search >a</search >", "<search>a &lt;b&gt; &amp; &#97;</search>",
    "<search>&#x4d;alm&ouml; &#77;x&quot;</search>", "<search>a</search> <find x='1' y", "<search>a</search> <find >", "<open page='1'>a b</open>",
    '<open page="2" doc_id="long-9"/>', '<answer citations="[1">x</answer><search>a</search>', "<search>&#x110000;&#0;a</search>", "<find/>",
    "<search>a</search> then <search", "<search>a</search> then <open>never", "1 < 2 <search>x < y</search>", "<Search>a</Search>",
    "<think>a</think><think>b</think><search>c</search>", "so</think><search>a</search>", "<think>never", "words <search>a</search> words</s>",
    "<search>a</search><|im_end|>", "<information>x</information>", "<search><information></search>", "<find>the</find><answer",
    '<tool_call>{"name": "search", "arguments": {"query": "a"}}</tool_call>', '<tool_call>{"name": "search"}</tool_call>',
    '<tool_call>{"name": "search", "arguments": {"query": "a"}, "more": 1}</tool_call>', "<tool_call>[1]</tool_call>",
    '<tool_call>{"name": 5, "arguments": {}}</tool_call>', '<tool_call>{"name": "search", "arguments": []}</tool_call>',
    '<tool_call> {"name": "find", "arguments": {"pattern": "the"}} </tool_call> rest', '<tool_call>{"name": "search", "arguments": {"query": "a"}}',
    '<tool_call id="1">{"name": "search", "arguments": {"query": "a"}}</tool_call>', '<tool_call>{"name": "nope", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "search", "arguments": {"query": "a", "query": "b"}}</tool_call>', '<tool_call>{"arguments": {"query": "a"}}</tool_call>',
    '<tool_call>{"name": "search", "arguments": {"query": "<information>"}}</tool_call>', '<tool_call>{"name": "search", "arguments": {"query": NaN}}</tool_call>',
    '<tool_call>{"name": "open", "arguments": {"doc_id": "\\u0000p1", "page": 1.0}}</tool_call>', "x</tool_call>", "<tool_calls>",
    '<tool_call>{"name": "search", "arguments": {"query": "a"}}</tool_call><tool_call>{"name": "search", "arguments": {"query": "b"}}</tool_call>',
)  # fmt: skip
"""Actions as they are written, for both dialects: nearly right, and wrong in every place."""
POOL: dict[str, tuple[JSON, ...]] = {
    "string": ("", " ", "no such thing", "THE", "of", " of the "),
    "integer": (-1, 0, 1, 2, 3, 10, 11, 1.5, True, "2"),
    "array": ([], ["no such thing"], ["a", 1]),
    "number": (-1, 0, 0.5, 1e9),
    "boolean": (True, False, 1),
}
"""Values that every parameter of a type is tried with, beside ids and words that were shown."""


def golden_path(env: ToolEnv) -> Path:
    """Return where an environment's golden episodes are kept."""
    return Path(inspect.getfile(type(env))).with_name(FILE)


def check_golden(env: ToolEnv) -> list[Finding]:
    """Play all golden episodes of the environment's family; the instance itself is not used."""
    path = golden_path(env)
    if not path.is_file():
        return [Finding("reproducible", NAME, "skip", f"{FILE} is missing beside {type(env).__module__}")]
    count, body = 0, _read(path)
    for kwargs in body.get("refused", ()):
        problem = _accepted(env.env_id, kwargs)
        if problem:
            return [finding("reproducible", NAME, problem)]
    for variant, made in _variants(body, env.env_id):
        if (opening := variant.get("opening")) and opening != _declared(made):
            return [finding("reproducible", NAME, f"{variant['name']}: what it declares differs: tools, limits, forms of calls")]
        for session in variant["sessions"]:
            count += 1
            problem, component = _compare(made, session)
            if problem:
                return [finding("reproducible", NAME, f"{variant['name']}, task {session['task']}: {problem}", component)]
    return [finding("reproducible", NAME, "", note=f"{count} episodes")]


def _accepted(env_id: str, kwargs: dict[str, Any]) -> str:
    try:
        gym.make(env_id, disable_env_checker=True, **kwargs)
    except AgentGymError:
        return ""
    except Exception as error:  # noqa: BLE001 (any other exception is the finding)
        return f"arguments {kwargs}: {type(error).__name__} instead of an error of agentgym: {error}"
    return f"arguments {kwargs} are accepted"


def write_golden(env: ToolEnv) -> str:
    """Return the text of the golden file with all sessions recorded anew; the caller writes it and reads the diff.

    Raises:
        DataError: There is no file with `variants` to start from.
    """
    body = _read(golden_path(env))
    for variant, made in _variants(body, env.env_id):
        variant["sessions"] = [_recorded(made, *plan) for plan in _plans(made, variant)]
        variant["opening"] = _declared(made)
    return json.dumps(body, indent=0, ensure_ascii=False, sort_keys=True) + "\n"


def _declared(env: ToolEnv) -> str:
    """Return a digest of what an instance says of itself, and of how its dialect writes calls."""
    texts = {"string": "Åda & <b>", "integer": 2, "array": ["ö", "b"], "number": 0.5, "boolean": True}
    calls = [ToolCall(s.name, {n: texts.get(str(p.get("type")), "x") for n, p in s.parameters["properties"].items()}) for s in env.specs]
    written = [env.dialect.render([call], env.specs) for call in calls]
    flags = [env.can_snapshot, env.scored_state, sorted(env.events), list(env.example_actions), env.split, env.observation]
    return _digest([env.reset(seed=0), repr(env.specs), repr(env.limits), written, flags, [env.dialect.example(s) for s in env.specs]])


def _read(path: Path) -> dict[str, Any]:
    body = parse_json(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None
    if not isinstance(body, dict) or not isinstance(body.get("variants"), list):
        raise DataError(f"{path}: needs an object with the list 'variants': {{name, kwargs, tasks}} each")
    return body


def _variants(body: dict[str, Any], env_id: str) -> Iterator[tuple[dict[str, Any], ToolEnv]]:
    """Yield each variant with its environment; values "@name" are files of the body, written to a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in body.get("files", {}).items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (Path(folder) / name).write_text(text, encoding="utf-8")
        for variant in body["variants"]:
            kwargs: dict[str, Any] = {k: str(Path(folder) / v[1:]) if isinstance(v, str) and v[:1] == "@" else v
                      for k, v in variant["kwargs"].items()}  # fmt: skip
            made = gym.make(env_id, disable_env_checker=True, **kwargs).unwrapped
            if isinstance(made, ToolEnv):
                yield variant, made


# ---- what is played


def _plans(env: ToolEnv, variant: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield (task id, what to play, seed)."""
    tasks = env.tasks()
    step = max(1, len(tasks) // variant["tasks"])
    for n in range(variant["tasks"]):
        task_id = tasks[(n * step + n) % len(tasks)].id
        for noise in variant.get("noises", (0.0, 0.6, 0.95)):
            yield task_id, f"oracle {noise}", n
    for n in range(variant.get("tours", 1)):
        yield tasks[n].id, "tour", n
    final = answer_tool(env)
    for n in range(len(list(_final_calls(Player(env, "x", [""]), final))) if final and variant.get("tours", 1) else 0):
        yield tasks[n % min(3, len(tasks))].id, f"final {n}", n


def _actions(player: Player, what: str, seed: int) -> Iterator[str]:
    """Yield the actions of a session, given what was shown so far."""
    kind, _, number = what.partition(" ")
    if kind == "oracle":
        while True:
            yield oracle(float(number), seed)(player)
    elif kind == "tour":
        yield player.look(player.question)
        for spec in player.env.specs:
            if not spec.final:
                yield from _tool_calls(player, spec)
        final = {s.name for s in player.env.specs if s.final}
        for text in RAW:
            if not any(c.name in final for c in player.env.dialect.parse(text, player.env.specs, player.env.limits).calls):
                yield text
        yield f"<think>so</think>{player.look('Of course')} trailing prose"
        yield player.answer(f"{player.names[0]} and {WRONG}")
    else:
        yield player.look(player.question)
        spec = answer_tool(player.env)
        yield list(_final_calls(player, spec))[int(number)] if spec else ""


def _tool_calls(player: Player, spec: ToolSpec) -> Iterator[str]:
    properties = spec.parameters.get("properties", {})
    ids = player.doc_ids or ["d1"]
    base: dict[str, JSON] = {n: ids[0] if "id" in n else "the" for n in spec.parameters.get("required", ())}
    for name, parameter in properties.items():
        kind = str(parameter.get("type", "string"))
        shown = (*ids[:2], f"doc:{ids[0]}", *player.names[:2]) if kind == "string" else ()
        for value in (*POOL.get(kind, ()), *shown):
            with contextlib.suppress(EnvError):  # what the dialect cannot write
                yield player.call(spec.name, {**base, name: value})


def _final_calls(player: Player, spec: ToolSpec) -> Iterator[str]:
    properties = spec.parameters.get("properties", {})
    first = next(iter(properties))
    ids = player.doc_ids or ["d1"]
    texts = ("", "  Some One ", f"Some One [doc:{ids[0]}]", f"X [doc:{ids[-1]}] [doc:{ids[0]}] ", "[doc:a]", "the", "Ａda")
    cited = ([], ids[:2], [f"doc:{ids[0]}", ids[0], "no such thing"], list(reversed(ids)))
    for n in range(max(len(texts), len(cited)) if "citations" in properties else len(texts)):
        text = texts[n % len(texts)]
        arguments: dict[str, JSON] = {first: [text] if properties[first].get("type") == "array" else text}
        if "citations" in properties:
            arguments["citations"] = list(cited[n % len(cited)])
        yield player.call(spec.name, arguments)


# ---- recording and comparing


def _recorded(env: ToolEnv, task_id: str, what: str, seed: int) -> dict[str, Any]:
    player, actions, turns = begin(env, env.source.by_id(task_id), (seed,)), [], []
    for action in _actions(player, what, seed):
        actions.append(action)
        turns.append(_turn(player, advance(player, action)))
        if env.ended:
            break
    begun = _digest([player.observations[0], player.infos[0]])
    return {"task": task_id, "seed": seed, "what": what, "begun": begun, "actions": actions, "turns": turns, "end": _end(env)}


def _compare(env: ToolEnv, session: dict[str, Any]) -> tuple[str, str]:
    seed, what = session["seed"], session["what"]
    player = begin(env, env.source.by_id(session["task"]), (seed,))
    if _digest([player.observations[0], player.infos[0]]) != session["begun"]:
        return "the opening differs", ""
    script = oracle(float(what.split()[1]), seed) if what.startswith("oracle") else None
    for n, (action, expected) in enumerate(zip(session["actions"], session["turns"], strict=True)):
        if env.ended:
            return f"ended before turn {n}", ""
        if script is not None and (now := script(player)) != action:
            return f"turn {n}: the oracle does {now!r:.80}, recorded is {action!r:.80}", ""
        turn = _turn(player, advance(player, action))
        if turn != expected:
            what_differs = next(k for k in ("code", "reward", "shown") if turn[k] != expected[k])
            return f"turn {n}, {action!r:.60}: {what_differs} is {turn[what_differs]!r}, recorded {expected[what_differs]!r}", ""
    end = _end(env)
    for key, value in session["end"].items():
        if end[key] != value:
            odd = next((c for c in value if value[c] != end[key].get(c)), "") if key == "values" else ""
            return f"{key} is {end[key]!r:.120}, recorded {value!r:.120}", odd
    return "", ""


def _turn(player: Player, reward: float) -> dict[str, JSON]:
    info = player.infos[-1]
    rest = {k: info[k] for k in ("docs_new", "budget_left", "state_hash", "end_reason")}
    return {
        "code": info["action"]["error_code"],
        "reward": round(reward, 9),
        "shown": _digest([player.observations[-1], rest, _reasons(info)]),
    }


def _reasons(info: dict[str, Any]) -> JSON:
    return {name: entry["reason"] for name, entry in info["rewards"].items()}


def _end(env: ToolEnv) -> dict[str, JSON]:
    record = env.trajectory
    return {
        "reason": record.end_reason,
        "answer": record.answer,
        "citations": list(record.citations),
        "success": record.success,
        "values": {n: round(v, 9) for n, v in sorted(contributions(record).items())},
        "stops": _digest([list(env.stop_strings), record.info, env.render(), [r.thought for r in record.turns]]),
    }


def _digest(value: JSON) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


