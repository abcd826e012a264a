"""Tool rewards on public records: what a solution, a near miss and an attack earn on real gold."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reward_episodes import alone
from tool_episodes import Call, call, play, score, step, stored, sums, trace

from agentgym.task import Answer, Gold, GoldCall

pytestmark = pytest.mark.data
CALL_MATCH, TRACE_MATCH, COMMUNICATE = alone("call_match"), alone("trace_match"), alone("communicate")
Solved = tuple[Gold, list[Call]]


def lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def accepted(folder: Path, name: str) -> Iterator[Solved]:
    """Gold of single-turn records: a list of accepted values per argument; "" means that it may be missing."""
    for row in lines(folder / "bfcl" / "possible_answer" / f"BFCL_v4_{name}.json"):
        table = [next(iter(entry.items())) for entry in row["ground_truth"]]
        gold = Gold(
            trace=tuple(GoldCall(f"c{i}", tool) for i, (tool, _) in enumerate(table)),
            accepted_args={f"c{i}": {a: tuple(v) for a, v in arguments.items()} for i, (_, arguments) in enumerate(table)},
        )
        solution = [(tool, {a: v[0] for a, v in arguments.items() if "" not in v}) for tool, arguments in table]
        yield gold, solution


@pytest.mark.parametrize("name", ["simple_python", "multiple", "parallel"])
def test_single_turn_records(data_dir: Path, name: str) -> None:
    for gold, solution in list(accepted(data_dir / "tools", name))[:150]:
        assert sums(play(CALL_MATCH, [step(*solution)], gold), "call_match") == pytest.approx(1.0)
        assert sums(play(TRACE_MATCH, [step(*reversed(solution))], gold), "trace_match") == pytest.approx(1.0)
        as_text = [(tool, {a: json.dumps(v) for a, v in arguments.items()}) for tool, arguments in solution]
        empty = [(tool, {}) for tool, _ in solution]
        sprayed = [*solution, *[(tool, {**arguments, "x": i}) for i, (tool, arguments) in enumerate(solution * 3)]]
        for attack in (as_text, empty, sprayed):
            if any(arguments for _, arguments in solution):
                assert sums(play(TRACE_MATCH, [step(*attack)], gold), "trace_match") < 1.0
                assert sums(play(CALL_MATCH, [step(*attack)], gold), "call_match") < 1.0


def spelled(text: str) -> Call:
    """A call written as code, e.g. mv(source='a', destination='b')."""
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Call)
    positional = {f"arg{i}": ast.literal_eval(a) for i, a in enumerate(node.args)}
    return ast.unparse(node.func), positional | {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}


def test_multi_turn_records(data_dir: Path) -> None:
    rows = list(lines(data_dir / "tools" / "bfcl" / "possible_answer" / "BFCL_v4_multi_turn_base.json"))[:60]
    for row in rows:
        per_turn = [[spelled(text) for text in turn] for turn in row["ground_truth"]]
        everything = [c for turn in per_turn for c in turn]
        gold = trace(*everything)
        turns = [step(*turn) for turn in per_turn if turn]
        done = play(TRACE_MATCH, turns, gold)
        assert sums(done, "trace_match") == pytest.approx(1.0)
        assert all((t.scores["trace_match"].raw or 0) >= 0 for t in done.turns)
        line = stored(done)
        assert TRACE_MATCH.rescore(line) == line
        missing = play(TRACE_MATCH, turns[:-1], gold)
        assert sums(missing, "trace_match") == pytest.approx(1 - len(turns[-1].calls) / len(everything))
        idle = play(TRACE_MATCH, [*turns, step(*[call("ls_again", n=i) for i in range(3 * len(everything))])], gold)
        assert sums(idle, "trace_match") == pytest.approx(0.25)


def test_dialogues_with_one_call(data_dir: Path) -> None:
    rows = json.loads((data_dir / "tools" / "apibank.level-1.json").read_text(encoding="utf-8"))
    checked = 0
    for row in rows[:150]:
        calls = [(c["name"], c["parameters"]) for c in row["answer"]]
        if calls:
            checked += 1
            gold = trace(*calls)
            assert sums(play(CALL_MATCH, [step(*calls)], gold), "call_match") == pytest.approx(1.0)
            other = [(f"{name}s", arguments) for name, arguments in calls]
            assert sums(play(CALL_MATCH, [step(*other)], gold), "call_match") == 0.0
    assert checked > 100


def test_service_tasks_with_actions_and_facts(data_dir: Path) -> None:
    tasks = json.loads((data_dir / "tools" / "tau2_retail" / "tasks.json").read_text(encoding="utf-8"))
    told = 0
    for task in tasks:
        criteria = task["evaluation_criteria"]
        calls = [(a["name"], a["arguments"]) for a in criteria["actions"]]
        if calls:
            gold = trace(*calls)
            assert sums(play(TRACE_MATCH, [step(c) for c in calls], gold), "trace_match") == pytest.approx(1.0)
            emptied = play(TRACE_MATCH, [step((name, {})) for name, _ in calls], gold)
            assert sums(emptied, "trace_match") <= 2 / 3
        facts = tuple(Answer(text) for text in criteria["communicate_info"])
        if facts:
            told += 1
            gold = Gold(communicate=facts)
            reply = step(call("reply", text="To sum up: " + "; ".join(f.text for f in facts) + "."))
            assert score(play(COMMUNICATE, [reply], gold), "communicate").raw == 1.0
            assert score(play(COMMUNICATE, [step(call("reply", text="All is done."))], gold), "communicate").raw == 0.0
    assert told > 15
