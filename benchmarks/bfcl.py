"""BFCL v4 here and in its own checkers: ground truths, and ground truths with a mistake.

    make extra-bfcl bfcl        # writes benchmarks/results/bfcl.md

Each ground truth is played through the environment. Then each gets mistakes (a call left out, given twice, with another
value, in another turn), and the verdict on the outcome is compared with that of the package `bfcl-eval`: its multi-turn
checker for multi-turn sets, its checker of possible answers for single turns.
"""

import argparse
import importlib.metadata
import sys
import time
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import agentgym  # noqa: F401 - registers the environments
from agentgym.envs.tool_calls.published.bfcl import MULTI
from agentgym.seeding import stream
from agentgym.types import ToolCall

ROOT = Path(__file__).resolve().parents[1]
SINGLE = ("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance")


@dataclass(slots=True)
class Row:
    """What one set gave."""

    set: str
    tasks: int = 0
    solved: int = 0
    idle: int = 0
    mutants: int = 0
    same: int = 0
    seconds: float = 0.0
    turns: int = 0


def play(env: Any, task: Any, turns: Sequence[Sequence[ToolCall]]) -> bool:
    """Play calls, user turn by user turn; return whether the outcome is a success."""
    env.reset(options={"task": task})
    for calls in turns:
        for call in calls:
            _, _, ended, cut, _ = env.step(env.dialect.render([call], env.specs))
            if ended or cut:
                return env.trajectory.success
        _, _, ended, cut, _ = env.step("It is done.")
        if ended or cut:
            return env.trajectory.success
    return env.trajectory.success


def gold_turns(domain: Any, task: Any) -> list[list[ToolCall]]:
    """Return the calls of the solution by user turn."""
    turns: list[list[ToolCall]] = [[]]
    for call in domain.solution(task):
        if call.name == "reply":
            turns.append([])
        else:
            turns[-1].append(ToolCall(call.name, dict(call.arguments)))
    return turns[:-1]


def mistakes(turns: list[list[ToolCall]], rng: np.random.Generator, n: int) -> Iterator[list[list[ToolCall]]]:
    """Yield versions of a solution with one mistake each (some are harmless: the checkers say which)."""
    places = [(k, i) for k, calls in enumerate(turns) for i in range(len(calls))]
    for _ in range(n if places else 0):
        k, i = places[int(rng.integers(len(places)))]
        made = [list(calls) for calls in turns]
        call = made[k][i]
        kind = int(rng.integers(5))
        if kind == 0:
            del made[k][i]
        elif kind == 1:
            made[k].insert(i, call)
        elif kind == 2 and call.arguments:
            name = sorted(call.arguments)[int(rng.integers(len(call.arguments)))]
            made[k][i] = ToolCall(call.name, {**call.arguments, name: other(call.arguments[name])})
        elif kind == 3 and k + 1 < len(made):
            made[k + 1].insert(0, made[k].pop(i))
        else:
            rng.shuffle(made[k])  # type: ignore[arg-type]
        yield made


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return [*value, value[0]] if isinstance(value, list) and value else value


def as_text(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{k}={v!r}' for k, v in call.arguments.items())})"


class TheirMultiTurn:
    """The verdict of bfcl-eval on a multi-turn attempt."""

    def __init__(self, source: Any) -> None:
        from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker as checker
        from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils

        self.checker, self.memory, self.source, self.n = checker, multi_turn_utils, source, 0

    def __call__(self, task: Any, turns: Sequence[Sequence[ToolCall]]) -> bool:
        """Return whether an attempt is valid."""
        row, truth = self.source._rows[task.id], self.source._gold[task.id]
        attempt = [[[as_text(call)] for call in calls] for calls in turns]
        self.n += 1
        before = set(vars(self.memory))
        found = self.checker.multi_turn_checker(attempt, truth, {**row, "id": task.id}, self.source.set, f"m{self.n}")
        for name in set(vars(self.memory)) - before:  # it keeps every instance in its module
            delattr(self.memory, name)
        quiet = self.checker.multi_turn_irrelevance_checker(attempt, truth)
        return bool(found["valid"] and quiet["valid"])


class TheirSingleTurn:
    """The verdict of bfcl-eval on the calls of a single turn."""

    def __init__(self, source: Any) -> None:
        # Its table of models imports every client there is; only one flag of it is read here.
        stub = types.ModuleType("bfcl_eval.constants.model_config")
        stub.MODEL_CONFIG_MAPPING = {"gym": types.SimpleNamespace(underscore_to_dot=True)}  # type: ignore[attr-defined]
        sys.modules.setdefault("bfcl_eval.constants.model_config", stub)
        for name in ("java", "js"):
            module = types.ModuleType(name)
            setattr(module, f"{name}_type_converter", None)
            sys.modules.setdefault(f"bfcl_eval.eval_checker.ast_eval.type_convertor.{name}_type_converter", module)
        from bfcl_eval.constants.enums import Language
        from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

        self.check, self.language, self.source = ast_checker, Language.PYTHON, source

    def __call__(self, task: Any, turns: Sequence[Sequence[ToolCall]]) -> bool:
        """Return whether the first turn's calls are valid."""
        calls = [{call.name: dict(call.arguments)} for call in turns[0]]
        if task.id not in self.source._gold:
            return not calls
        row, truth = self.source._rows[task.id], self.source._gold[task.id]
        return bool(self.check(row["function"], calls, truth, self.language, self.source.set, "gym")["valid"])


def run(set_: str, folder: str, mutants: int) -> tuple[Row, Counter[str]]:
    """Play one set."""
    multi = set_ in MULTI
    world = f"bfcl?set={set_}" + (f"&folder={folder}" if folder else "")
    env: Any = gym.make("ToolCalls-v0", world=world, reward="tools" if multi else "calls").unwrapped
    source, row, differ = env.source, Row(set_), Counter()
    theirs = TheirMultiTurn(source) if multi else TheirSingleTurn(source)
    for n, task in enumerate(source.split("all")):
        rng, gold = stream("bfcl", set_, n), gold_turns(source.domain(task), task)
        began = time.process_time()
        row.tasks += 1
        row.solved += play(env, task, gold)
        row.turns += sum(map(len, gold)) + len(gold)
        row.seconds += time.process_time() - began
        row.idle += play(env, task, [[] for _ in gold])
        for made in mistakes(gold, rng, mutants):
            ours, other_ = play(env, task, made), theirs(task, made)
            row.mutants += 1
            row.same += ours == other_
            if ours != other_:
                differ[f"{set_} {task.id}: here {'right' if ours else 'wrong'}, there {'right' if other_ else 'wrong'}"] += 1
    return row, differ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="", help="BFCL's data; by default those of the installed package")
    parser.add_argument("--mutants", type=int, default=3, help="mistakes per task")
    parser.add_argument("--sets", nargs="*", default=[*MULTI, *SINGLE])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/bfcl.md")
    args = parser.parse_args()
    lines = [
        "# BFCL v4 in ToolCalls-v0 and in its own checkers",
        "",
        f"Made by `make extra-bfcl bfcl`; bfcl-eval {importlib.metadata.version('bfcl-eval')}. \"solved\": its ground truth played "
        "through the environment; \"idle\": no call at all; \"mistakes\": ground truths with one change each; \"same verdict\": "
        "of this environment and of bfcl-eval's checker.",
        "",
        "| set | tasks | solved | idle | mistakes | same verdict | ms a turn |",
        "|---|---|---|---|---|---|---|",
    ]
    found: Counter[str] = Counter()
    for name in args.sets:
        row, differ = run(name, args.folder, args.mutants)
        share = f"{row.same / row.mutants:.2%}" if row.mutants else "-"
        lines.append(f"| {name} | {row.tasks} | {row.solved} | {row.idle} | {row.mutants} | {share} | {1e3 * row.seconds / row.turns:.2f} |")
        print(lines[-1], flush=True)
        found += differ
    lines += ["", "Different verdicts:" if found else "No verdict differs.", "", *(f"- {text}" for text in list(found)[:40])]
    args.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
