"""What must hold of the scores of any episode: sums, bounds, finite supply, independence of form; each on real records."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from agentgym import schema
from agentgym.audit.hacks import WRONG
from agentgym.audit.players import (
    Player,
    advance,
    answer_tool,
    begin,
    completed,
    contributions,
    look_tool,
    oracle,
    play,
    rescored,
)
from agentgym.audit.report import Finding, finding
from agentgym.env import ToolEnv
from agentgym.rewards import Suite
from agentgym.task import Answer, Gold, Task
from agentgym.types import Message, ToolCall, ToolResult, Trajectory, Turn

SECTION = "hack-resistant"
EXACT, NEAR = 1e-12, 1e-9
Problem = tuple[str, str]
"""(what is wrong, the component responsible)."""
FINE: Problem = ("", "")
WORD, ARTICLES = re.compile(r"\w+"), ("a", "an", "the")


def check_rewards(env: ToolEnv, tasks: Sequence[Task], records: Sequence[Trajectory]) -> list[Finding]:
    """Check live sums on fresh episodes, then every invariant on records of honest and careless play."""
    suite = env.suite
    checks = (
        ("rewards sum to what was paid", (_sums(env, task, n) for n, task in enumerate(tasks[:6]))),
        ("scores stay inside the declared bounds", (_bounded(suite, r) for r in records)),
        ("a record scores the same without its environment", (_rescores(suite, r) for r in records)),
        ("turn scores depend on the turns so far only", (_causal(suite, r) for r in records[:8])),
        ("an idle turn earns nothing", (p for r in records[:8] for p in _padded(suite, r, env))),
        ("a repeated turn earns nothing", (p for r in records[:8] for p in _repeated(suite, r))),
        ("the order of answers and aliases does not matter", (_permuted(suite, r) for r in records)),
        ("thoughts do not matter unless declared", (_thoughtless(suite, r) for r in records)),
        ("the wording of an action does not matter", (_reworded(suite, r) for r in records)),
        ("a failed call shows nothing", (_failed_calls(suite, r) for r in records)),
        ("right answers in other writing are right, near misses wrong", (_answers(env, t) for t in tasks[:6])),
    )
    return [_named(name, problems) for name, problems in checks]


def _named(name: str, problems: Iterator[Problem]) -> Finding:
    problem, component = next((p for p in problems if p[0]), FINE)
    return finding(SECTION, name, problem, component)


# ---- sums and bounds


def _cited(player: Player, action: str) -> str:
    """Return an answering action with citations of all that was shown, so that citations are scored as well."""
    calls = player.env.dialect.parse(action, player.env.specs, player.env.limits).calls
    spec = answer_tool(player.env)
    if not calls or spec is None or calls[0].name != spec.name:
        return action
    return player.answer(str(next(iter(calls[0].arguments.values()), "")), player.doc_ids)


def _sums(env: ToolEnv, task: Task, n: int) -> Problem:
    player, paid, last = begin(env, task, (n,)), 0.0, False
    while not env.ended:
        reward = advance(player, _cited(player, oracle(0.25 * (n % 4), n)(player)))
        info = player.infos[-1]
        values = [entry["value"] for entry in info["rewards"].values()]
        flags, ended = player.flags[-1], (env.trajectory.terminated, env.trajectory.truncated) if env.ended else (False, False)
        if flags != ended or sum(flags) != env.ended:
            return f"turn {player.turn}: terminated and truncated are {flags}, the record says {ended}", ""
        if abs(sum(values) - reward) > EXACT:
            return f"turn {player.turn}: the values in info sum to {sum(values)!r}, the reward is {reward!r}", ""
        if not all(math.isfinite(v) for v in values):
            return f"turn {player.turn}: a value is no finite number", ""
        for name, entry in info["rewards"].items():
            if entry["scope"] == "trajectory" and not env.ended:
                return f"turn {player.turn}: {name} pays at trajectory scope before the end", name
            last = last or entry["scope"] == "trajectory"
            if not entry["valid"]:
                return f"turn {player.turn}: {name} is invalid without a service: {entry['reason']}", name
        record = env.trajectory
        for name, score in {**record.turns[-1].scores, **record.scores}.items():
            told = info["rewards"].get(name, {}).get("reason", "")
            if any(len(e) > 1 and e in told for e in score.evidence):
                return f"turn {player.turn}: the info tells the evidence of {name}: {told!r:.80}", name
        open_ = sorted(n for n, entry in info["rewards"].items() if entry["raw"] is None and entry["valid"])
        if sorted(info["deferred"]) != open_:
            return f"turn {player.turn}: info lists {info['deferred']} as deferred, without a value are {open_}", ""
        paid += reward
    record = env.trajectory
    if not last:
        return "no score was given at the end of the episode", ""
    if abs(paid - record.total) > NEAR:
        return f"the steps paid {paid!r}, the record's total is {record.total!r}", ""
    done = completed(env.suite, [record])[0]
    if abs(sum(contributions(done).values()) - done.total) > NEAR:
        return f"contributions sum to {sum(contributions(done).values())!r}, the total is {done.total!r}", ""
    return FINE


def _bounded(suite: Suite, record: Trajectory) -> Problem:
    bounds = suite.bounds()
    low, high = bounds.success if record.success else bounds.failure
    if record.in_statistics and not low - NEAR <= record.total <= high + NEAR:
        return f"{_where(record)}: total {record.total:.6f} outside {low:g} .. {high:g}", _largest(record)
    outcome = record.scores[suite.outcome.name]
    if record.success != (outcome.valid and outcome.raw is not None and outcome.raw >= 1.0 - NEAR):
        return f"{_where(record)}: success is {record.success}, {suite.outcome.name} is {outcome.raw}", suite.outcome.name
    sums: dict[str, float] = {}
    for scores in (*(t.scores for t in record.turns), record.scores):
        for name, score in scores.items():
            component = suite.components.get(name)
            if component is None or score.raw is None or score.scope != component.scope:
                continue  # what is paid late repeats the sum of its turns
            if "clipped" in score.reason:
                return f"{_where(record)}: {name} left its declared range: {score.reason}", name
            lo, hi = component.range
            each = component.scope == "trajectory" or component.supply == "cost"
            sums[name] = score.raw if each else sums.get(name, 0.0) + score.raw
            if not lo - NEAR <= sums[name] <= hi + NEAR:
                return f"{_where(record)}: {name} reached {sums[name]:.6f}, declared is {lo:g} .. {hi:g}", name
    return FINE


def _rescores(suite: Suite, record: Trajectory) -> Problem:
    again = rescored(suite, schema.from_json(Trajectory, schema.to_json(record)))
    return _equal(record, again, "scored again")


# ---- finite supply


def _causal(suite: Suite, record: Trajectory) -> Problem:
    if not suite.is_causal:
        return FINE
    for n in range(1, len(record.turns)):
        cut = replace(record, turns=record.turns[:n], answer=None, citations=(), end_reason="", terminated=False)
        again = rescored(suite, cut)
        for name, score in again.turns[-1].scores.items():
            known = record.turns[n - 1].scores[name]
            if _differ(score.value, known.value):
                return f"{_where(record)}, turn {n - 1}: {name} is {known.value:g} with the later turns, else {score.value:g}", name
    return FINE


def _padded(suite: Suite, record: Trajectory, env: ToolEnv) -> Iterator[Problem]:
    spec = look_tool(env)
    name = spec.name if spec is not None else env.specs[0].name
    argument = next(iter(spec.parameters["properties"]), "text") if spec is not None else "text"
    idle = Turn(
        index=0,
        action="",
        calls=(ToolCall(name, {argument: "zzz unheard of"}, "c1"),),
        results=(ToolResult("c1", name, True, data=[]),),
        messages=(Message.of("user", "nothing found"),),
    )
    for place in range(len(record.turns)):
        yield _raises(suite, record, _with_turn(record, place, idle), f"an idle turn before turn {place}")
    yield _raises(suite, record, _with_turn(record, 0, replace(idle, error_code="E_PARSE", calls=(), results=())), "a bad action first")


def _repeated(suite: Suite, record: Trajectory) -> Iterator[Problem]:
    for place, turn in enumerate(record.turns):
        if record.end_reason == "answered" and place == len(record.turns) - 1:
            continue
        seen = tuple(
            replace(r, documents=tuple(replace(d, seen_before=True) for d in r.documents)) for r in turn.results
        )
        yield _raises(suite, record, _with_turn(record, place + 1, replace(turn, results=seen, changes=())), f"turn {place} again")


def _raises(suite: Suite, record: Trajectory, longer: Trajectory, what: str) -> Problem:
    if record.end_reason not in ("answered", "max_turns"):
        return FINE
    before, after = rescored(suite, record), rescored(suite, longer)
    if after.total > before.total + NEAR:
        gains = {n: v - contributions(before).get(n, 0.0) for n, v in contributions(after).items()}
        name = max(gains, key=lambda n: gains[n])
        return f"{_where(record)}: {what} raises the total from {before.total:.4f} to {after.total:.4f}", name
    if after.success and not before.success:
        return f"{_where(record)}: {what} makes a success of a failure", suite.outcome.name
    return FINE


def _with_turn(record: Trajectory, place: int, turn: Turn) -> Trajectory:
    place = min(place, len(record.turns) - 1) if record.end_reason == "answered" else place
    turns = [*record.turns[:place], turn, *record.turns[place:]]
    return replace(record, turns=tuple(replace(t, index=n) for n, t in enumerate(turns)))


# ---- independence of form


def _permuted(suite: Suite, record: Trajectory) -> Problem:
    gold = schema.from_json(Gold, record.gold or {})
    if gold.answer_mode == "ordered":
        return FINE
    extra = (replace(a, aliases=(*a.aliases, f"{WRONG} {n}")) for n, a in enumerate(gold.answers))
    spare = Answer(f"{WRONG} other") if gold.answer_mode == "any" else None
    answers = (*extra, spare) if spare and gold.answers else gold.answers
    turned = tuple(replace(a, aliases=tuple(reversed(a.aliases))) for a in reversed(answers))
    one, two = (replace(record, gold=schema.to_json(replace(gold, answers=g))) for g in (answers, turned))
    problem = _equal(rescored(suite, one), rescored(suite, two), "with the answers in another order")
    if problem[0]:
        return problem
    docs = replace(gold, doc_ids=tuple(reversed(gold.doc_ids)), rubrics=tuple(reversed(gold.rubrics)))
    return _equal(rescored(suite, record), rescored(suite, replace(record, gold=schema.to_json(docs))), "with gold in another order")


def _thoughtless(suite: Suite, record: Trajectory) -> Problem:
    says = f"The answer is {_gold_text(record)}. I found it."
    turns = tuple(replace(t, thought=says) for t in record.turns)
    return _equal(rescored(suite, record), rescored(suite, replace(record, turns=turns)), "with other thoughts", _thinkers(suite))


def _thinkers(suite: Suite) -> set[str]:
    """Return the components that may change with the thoughts, and those that share a cap or a gate with them."""
    if any(c.reads_thought for c in suite.components.values()):
        return {n for n, c in suite.components.items() if c.reads_thought} | set(suite.program.pseudo)
    return set()


def _reworded(suite: Suite, record: Trajectory) -> Problem:
    ids = " ".join(f"(doc:{i})" for i in (record.gold or {}).get("doc_ids", ()))
    text = f"<information>{_gold_text(record)} {ids}</information><answer>{_gold_text(record)}</answer>"
    turns = tuple(replace(t, action=text, dropped_chars=7) for t in record.turns)
    return _equal(rescored(suite, record), rescored(suite, replace(record, turns=turns)), "with other action texts")


def _failed_calls(suite: Suite, record: Trajectory) -> Problem:
    """A call that failed but carries documents must not be paid for them."""
    turns = []
    for turn in record.turns:
        results = tuple(replace(r, ok=False, code="E_TOOL", error="failed") if r.documents else r for r in turn.results)
        turns.append(replace(turn, results=results))
    bare = tuple(replace(t, results=tuple(replace(r, documents=()) for r in t.results)) for t in turns)
    full = rescored(suite, replace(record, turns=tuple(turns)))
    return _equal(rescored(suite, replace(record, turns=bare)), full, "with documents in failed results")


def _answers(env: ToolEnv, task: Task) -> Problem:
    """Play the oracle's way up to the answer, then answer in other writing, or nearly right."""
    if answer_tool(env) is None or len(task.gold.answers) != 1 or task.gold.answers[0].type != "string":
        return FINE
    if any("events.state" in need for need in env.suite.outcome.needs):  # an answer alone is no success there
        return FINE
    gold, name = task.gold.answers[0].text, env.suite.outcome.name
    same = (gold, gold.upper(), gold.lower(), f"  {gold} ", f"{gold}.", f'"{gold}"', f"The {gold}")
    wide = gold.translate({c: c + 0xFEE0 for c in range(0x21, 0x7F)})
    other = (f"{gold} or {WRONG}", f"not {gold}", f"{gold}x", f"x{gold}", gold[:-1], f"{gold} 1", "", "the", gold[::-1], WRONG)
    right = {_bare(gold), *map(_bare, task.gold.answers[0].aliases)}  # "333" backwards is no near miss, nor "Inc." cut
    for text in (*same, wide, f"\u200b{gold}"):
        if not _answered(env, task, text).success:
            return f"task {task.id}: the gold answer written {text!r} is no success", name
    for text in other:
        if _bare(text) not in right and _answered(env, task, text).success:
            return f"task {task.id}: the answer {text!r} is a success, gold is {gold!r}", name
    return FINE


def _bare(text: str) -> str:
    """Return the words of a text without articles, a decimal number as its value."""
    try:
        return str(float(text))
    except ValueError:
        return " ".join(word for word in WORD.findall(text.casefold()) if word not in ARTICLES)


def _answered(env: ToolEnv, task: Task, text: str) -> Trajectory:
    return play(env, task, lambda player: player.answer(text))


# ---- comparing


def _equal(first: Trajectory, second: Trajectory, what: str, spared: set[str] | None = None) -> Problem:
    one, two = contributions(first), contributions(second)
    for name in sorted({*one, *two} - (spared or set())):
        if _differ(one.get(name, 0.0), two.get(name, 0.0)):
            return f"{_where(first)}: {name} gives {one.get(name, 0.0):g}, {what} {two.get(name, 0.0):g}", name
    if first.success != second.success:
        return f"{_where(first)}: success is {first.success}, {what} {second.success}", ""
    return FINE


def _differ(one: float, two: float) -> bool:
    return abs(one - two) > NEAR


def _gold_text(record: Trajectory) -> str:
    answers = (record.gold or {}).get("answers") or [{"text": WRONG}]
    return str(answers[0]["text"])


def _largest(record: Trajectory) -> str:
    parts = contributions(record)
    return max(parts, key=lambda n: abs(parts[n])) if parts else ""


def _where(record: Trajectory) -> str:
    return f"task {record.task_id} ({record.end_reason or 'running'})"


