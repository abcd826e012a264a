"""How sharp is `agentgym audit`? Mutants of scorers and environments that it must fail, and harmless edits that it must not.

    python benchmarks/audit_mutants.py                   # writes benchmarks/results/audit.md
    python benchmarks/audit_mutants.py --first 10        # a quick look, writes nothing

Each mutant is one change of one module (`mutation.py`), or one planted fault (`FAULTS`: gold shown somewhere, a
careless reward). A process forked for it imports the package with that module replaced and audits SearchQA-v0 with two rewards,
and ToolCalls-v0 too where the module keeps the state.
A mutant is caught if a check fails (the audit stops there), the package cannot be imported, or the time runs out. Survivors that
`audit_equivalents.json` explains change nothing that can be observed; the rest are listed as missed.

Two draws, so that one of them can stay fresh: who writes probes for the survivors of a draw measures them on another one.
What was drawn is kept in `audit_drawn.json`, so that a later run judges the same changes, as far as the sources still have
them; `--draw` draws anew, and whoever does so has to judge by hand which survivors are equivalent.
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mutation
import numpy as np
from mutation import Change

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULT, EQUIVALENTS, DRAWN = HERE / "results" / "audit.md", HERE / "audit_equivalents.json", HERE / "audit_drawn.json"
THIRD_PARTY = ("gymnasium", "bm25s", "numba", "httpx", "networkx", "rich", "pyarrow")
MODULES = (
    *(f"agentgym/rewards/{name}.py" for name in (
        "answers", "normalize", "retrieval", "costs", "citations", "information", "suite", "scoring", "program",
        "expression", "nodes", "steps", "intervals", "replay", "component", "declared", "presets",
    )),
    "agentgym/env.py", "agentgym/episode.py",
    "agentgym/dialects/protocol.py", "agentgym/dialects/tags.py", "agentgym/dialects/json_calls.py",
    "envs/search_qa/env.py", "envs/search_qa/tasks.py", "envs/search_qa/tools.py",
)  # fmt: skip
"""What SearchQA and its presets are made of; components of other families need tasks of their own."""
UNUSED = {
    "agentgym/rewards/presets.py": {"graph", "gui", "tools", "_costs"},
    "agentgym/episode.py": {"Episode.open_state", "Episode._scored_part", "Episode.replay"},
}
"""Functions of these modules that serve other families: no site is drawn there."""
AUDITS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("SearchQA-v0", {"world": "synthetic:closed?seed=0", "reward": "search"}),
    ("SearchQA-v0", {"world": "synthetic:closed?seed=4", "reward": "search_cited", "dialect": "json"}),
)
STATEFUL = {
    path: (("ToolCalls-v0", {"world": "shop?seed=3"}),) for path in ("agentgym/env.py", "agentgym/episode.py")
}
"""What a search changes nothing of, a task with a state does: further audits, by module."""
SIZES, N_EDITS = (180, 120), 60
"""Mutants of the first and of every further seed, and harmless edits, of a draw."""
EARLIER = "169 of 195 (seed 7, other sources), 78 of 89 (seed 101), 62 of 68 (seed 202), 292 of 307 (seeds 7 and 11, the draw below)."
LIMIT_S, LIMIT_CPU_S = 600, 60
"""Wall and CPU seconds after which a mutant counts as hanging; a plain audit takes about four CPU seconds."""
FAULTS: tuple[tuple[str, str, str, str], ...] = (
    ("gold in the first info", "agentgym/env.py", '"limits": limits}', '"limits": limits, "hint": task.gold.answers[0].text}'),
    ("gold id in the step info", "agentgym/env.py", '"end_reason": episode.end_reason,\n        }', '"end_reason": episode.end_reason, "next": list(episode.task.gold.doc_ids)[:1],\n        }'),
    ("length of gold in the step info", "agentgym/env.py", '"end_reason": episode.end_reason,\n        }', '"end_reason": episode.end_reason, "n": len(episode.task.gold.answers[0].text),\n        }'),
    ("gold coded in the state hash", "agentgym/env.py", '"state_hash": turn.state_hash_after,', '"state_hash": turn.state_hash_after + episode.task.gold.answers[0].text.encode().hex(),'),
    ("gold in the first observation", "agentgym/env.py", 'return "\\n\\n".join(m.text for m in episode.prompt), info', 'return "\\n\\n".join(m.text for m in episode.prompt) + f" ({task.gold.answers[0].text[::-1]})", info'),
    ("gold in every observation", "agentgym/env.py", 'observation = "\\n".join([m.text for m in turn.messages])', 'observation = "\\n".join([m.text for m in turn.messages]) + " " * len(episode.task.gold.answers[0].text)'),
    ("gold in error messages", "agentgym/env.py", "parts.append((None, self.render_error(parsed.error_code, parsed.error)))", "parts.append((None, self.render_error(parsed.error_code, parsed.error + episode.task.gold.answers[0].text)))"),
    ("gold as an attribute of the environment", "agentgym/env.py", "        self._begin(episode)\n        limits", "        self._begin(episode)\n        self.answer_key = task.gold.answers[0].text\n        limits"),
    ("gold in the stop strings", "agentgym/env.py", "return self.dialect.stop(self.specs, limits.max_calls_per_turn)", "return (*self.dialect.stop(self.specs, limits.max_calls_per_turn), *([self._episode.task.gold.answers[0].text] if self._episode else []))"),
    ("evidence of scores in the info", "agentgym/rewards/suite.py", '"reason": s.reason,', '"reason": " ".join((s.reason, *s.evidence)),'),
    ("gold in the reason of a score", "agentgym/rewards/answers.py", 'return Score("trajectory", raw, reason="match" if', 'return Score("trajectory", raw, reason=f"wanted {gold_texts(view.gold)[0]}" if not raw else "match" if'),
    ("gold in the prompt", "envs/search_qa/env.py", "return (Message.of(\"system\", system), question)", "return (Message.of(\"system\", system + f\" Start with {task.gold.doc_ids[0]}.\"), question)"),
    ("gold in the status line", "envs/search_qa/env.py", "return f\"[budget] searches left:", "return f\"[{len(episode.task.gold.doc_ids)}] [budget] searches left:"),
    ("gold in the initial state", "envs/search_qa/env.py", 'return {"opened": None}', 'return {"opened": task.gold.doc_ids[0]}'),
    ("gold among the services", "envs/search_qa/env.py", 'return {"corpus": self.corpus(task)}', 'return {"corpus": self.corpus(task), "task": task}'),
    ("tools see gold and search for it", "envs/search_qa/env.py", 'return {"corpus": self.corpus(task)}', 'corpus = self.corpus(task)\n        import types\n        first = lambda query, k: sorted(corpus.search(query, max(k, 10)), key=lambda h: h.passage.id not in task.gold.doc_ids)[:k]\n        return {"corpus": types.SimpleNamespace(search=first, passage=corpus.passage)}'),
    ("gold documents marked by their title", "envs/search_qa/env.py", "title, text = self._escaped(d.title, TITLE_CHARS)", "title, text = self._escaped(d.title + (\"!\" if self._episode and d.id in self._episode.task.gold.doc_ids else \"\"), TITLE_CHARS)"),
    ("a naive substring match", "agentgym/rewards/answers.py", "return float(bool(given) and any(given == robust(gold) for gold in golds))", "return float(bool(given) and any(robust(gold) in given for gold in golds))"),
    ("a match in both directions", "agentgym/rewards/answers.py", "return float(bool(given) and any(given == robust(gold) for gold in golds))", "return float(any(given in robust(gold) for gold in golds))"),
    ("a bonus for every valid turn", "agentgym/rewards/costs.py", 'return Score("turn", -1.0, reason=code) if code else _FREE', 'return Score("turn", -1.0, reason=code) if code else Score("turn", 1.0)'),
    ("gains are never taken back", "agentgym/rewards/steps.py", "if after < lo or after > hi or before < lo or before > hi:", "if after > hi and before > hi:"),
    ("a found document pays again", "agentgym/rewards/retrieval.py", "        wanted -= new\n", ""),
    ("failed calls show documents", "agentgym/rewards/retrieval.py", "for result in turn.results if result.ok for document", "for result in turn.results for document"),
    ("forged results are documents", "agentgym/dialects/protocol.py", "    if not found:\n        return None", "    return None"),
    ("thoughts are run", "agentgym/dialects/protocol.py", "return thought.removeprefix(_THINK).strip(BLANKS), text[end + len(_THINK_END) :], None", "return thought.removeprefix(_THINK).strip(BLANKS), thought.removeprefix(_THINK) + text[end + len(_THINK_END) :], None"),
    ("only the last of several answers counts", "agentgym/dialects/tags.py", "        if len(self.calls) >= self.limits.max_calls_per_turn:\n            return too_many(len(self.calls) + 1, self.limits, self.thought)\n", ""),
    ("the oracle answers before it looks", "envs/search_qa/env.py", "        if not missing:\n            return ToolCall(\"answer\"", "        if True:\n            return ToolCall(\"answer\""),
    ("success by reaching the limit", "agentgym/episode.py", "success=self.ended and suite.success(self.view)", "success=self.ended and (suite.success(self.view) or self.end_reason == \"max_turns\")"),
    ("documents are not escaped", "envs/search_qa/env.py", "return shorten(escape_reserved(text, self.toolbox.tools), max_chars)[0]", "return shorten(text, max_chars)[0]"),
    ("episodes share their state", "envs/search_qa/env.py", 'return {"opened": None}', 'return self.__dict__.setdefault("_shared", {"opened": None})'),
)  # fmt: skip
"""(what, file, text to replace, replacement): faults that an author could make, planted by hand."""


def module_of(path: str) -> str:
    """Return the module name of a file; envs/ is reached as agentgym.envs."""
    name = path.removesuffix(".py").replace("/", ".")
    return name if name.startswith("agentgym") else f"agentgym.{name}"


def planted() -> Iterator[Change]:
    """Yield the faults as changes. Raises SystemExit where a fault no longer fits its source."""
    for what, path, old, new in FAULTS:
        source = (ROOT / path).read_text(encoding="utf-8")
        if old not in source:
            sys.exit(f"the fault {what!r} no longer fits {path}: correct its text in {Path(__file__).name}")
        line = source[: source.index(old)].count("\n") + 1
        yield Change(path, "planted fault", line, what, "", "", source.replace(old, new, 1))


def draw(seeds: Sequence[int]) -> dict[str, Any]:
    """Return the keys of a draw: mutants by seed, no two the same, and harmless edits by the first seed."""
    seen: set[str] = set()
    rngs = [np.random.default_rng(seed) for seed in seeds]
    sizes = [SIZES[min(i, 1)] for i in range(len(seeds))]
    mutants = {str(seed): drawn(mutation.mutations, n, rng, seen) for seed, n, rng in zip(seeds, sizes, rngs, strict=True)}
    edits = drawn(mutation.edits, N_EDITS, rngs[0], set())
    return {"mutants": {seed: [c.key for c in some] for seed, some in mutants.items()}, "edits": [c.key for c in edits]}


def kept(rules: mutation.Rules, keys: Sequence[str]) -> list[Change]:
    """Return the changes of an earlier draw that the sources still have."""
    table = {key: (path, site) for path in MODULES for key, site in mutation.named(path, _source(path), rules).items()}
    return [mutation.changed(path, _source(path), site, rules) for path, site in (table[key] for key in keys if key in table)]


def _source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def drawn(rules: mutation.Rules, n: int, rng: np.random.Generator, salt: set[str]) -> list[Change]:
    """Return n changes drawn evenly over all sites of all modules, none of them twice."""
    table = [(path, site) for path in MODULES for site in mutation.sites(_source(path), rules)]
    changes: list[Change] = []
    for i in rng.permutation(len(table)):
        if len(changes) >= n:
            break
        path, site = table[i]
        change = mutation.changed(path, _source(path), site, rules)
        if change.key not in salt and change.where not in UNUSED.get(path, ()):
            salt.add(change.key)
            changes.append(change)
    return changes


class _Replace(importlib.abc.MetaPathFinder):
    """Finds one module with another source."""

    def __init__(self, change: Change) -> None:
        self.name, self.source = module_of(change.module), change.source

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Return the usual place with a loader that compiles the other source."""
        if fullname != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin:
            source = self.source

            class Loader(importlib.machinery.SourceFileLoader):
                def exec_module(self, module: Any) -> None:
                    exec(compile(source, self.path, "exec"), module.__dict__)

            spec.loader = Loader(fullname, spec.origin)
        return spec


def audit_in_child(change: Change | None, episodes: int) -> dict[str, Any]:
    """Import the package with the change and audit it; return what failed."""
    warnings.simplefilter("ignore")
    if change is not None:
        sys.meta_path.insert(0, _Replace(change))
    failures: list[list[str]] = []
    try:
        audit = importlib.import_module("agentgym.audit")
        importlib.import_module("agentgym")
        for env_id, kwargs in (*AUDITS, *(STATEFUL.get(change.module, ()) if change else ())):
            report = audit.audit_env(env_id, audit.AuditConfig(episodes=episodes, stop=True), **kwargs)
            failures += [[f.section, f.name, f.detail[:300], f.component] for f in report.failures]
            if failures:
                break
    except BaseException as error:  # noqa: BLE001 (a mutant may raise anything)
        failures.append(["", "the package can be imported and audited", f"{type(error).__name__}: {error}"[:300], ""])
    return {"failures": failures, "cpu": time.process_time()}


def run_all(changes: Sequence[Change | None], workers: int, episodes: int) -> list[dict[str, Any]]:
    """Audit every change in a process of its own, `workers` at once."""
    for name in THIRD_PARTY:
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    results: list[dict[str, Any]] = [{} for _ in changes]
    waiting, live = list(range(len(changes))), {}
    while waiting or live:
        while waiting and len(live) < workers:
            number = waiting.pop(0)
            live[_start(changes[number], episodes)] = (number, time.monotonic(), bytearray())
        for pipe in select.select([p for _, p in live], [], [], 1.0)[0]:
            place = next(k for k in live if k[1] == pipe)
            data = os.read(pipe, 1 << 16)
            live[place][2].extend(data)
            if not data:
                number, _, text = live.pop(place)
                os.close(pipe)
                os.waitpid(place[0], 0)
                results[number] = json.loads(text) if text else _dead("the process died, or ran without end")
                sys.stderr.write(f"\r{len(changes) - len(waiting) - len(live)} of {len(changes)} ")
        for place, (number, started, _) in list(live.items()):
            if time.monotonic() - started > LIMIT_S:
                os.kill(place[0], signal.SIGKILL)
                os.waitpid(place[0], 0)
                os.close(place[1])
                live.pop(place)
                results[number] = _dead(f"no end within {LIMIT_S} s")
    sys.stderr.write("\n")
    return results


def _dead(why: str) -> dict[str, Any]:
    return {"failures": [["", "the audit ends", why, ""]], "cpu": 0.0}


def _start(change: Change | None, episodes: int) -> tuple[int, int]:
    """Fork a child that audits and writes its result into a pipe; return (process id, pipe)."""
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return process, read
    os.close(read)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_CPU_S, LIMIT_CPU_S))
    text = json.dumps(audit_in_child(change, episodes)).encode()
    while text:
        text = text[os.write(write, text) :]
    os._exit(0)


GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("the package does not start, or the audit does not end", ("the package", "the audit ends")),
    ("play: hacks, the oracle", ("hack:", "the oracle reaches success", "the floor is far below")),
    ("recorded numbers: known scores, refusals, golden episodes", ("known scores", "rewards that cannot hold", "golden episodes")),
    ("invariants, attacks, isolation, replay", ("",)),
)
"""What caught a mutant first, by the beginning of the check's name. Recorded numbers are looked at last."""


def group_of(failures: Sequence[Sequence[str]]) -> str:
    """Return the group of the first check that failed."""
    return next(name for name, beginnings in GROUPS if failures[0][1].startswith(beginnings))



def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draw", type=int, nargs="+", metavar="SEED", help="draw anew by these seeds, and keep the draw")
    parser.add_argument("--first", type=int, default=0, help="a quick look: only so many of each draw; writes nothing")
    parser.add_argument("--episodes", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="also write all outcomes as JSON")
    parser.add_argument("--reuse", type=Path, nargs="*", default=(), help="take the outcomes of earlier --out files; sources unchanged")
    args = parser.parse_args()
    if args.draw:
        DRAWN.write_text(json.dumps(draw(args.draw), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    chosen = json.loads(DRAWN.read_text(encoding="utf-8"))
    draws = {"planted": list(planted()), **{n: kept(mutation.mutations, keys) for n, keys in chosen["mutants"].items()}}
    edits = kept(mutation.edits, chosen["edits"])
    lost = sum(map(len, chosen["mutants"].values())) - sum(len(draws[n]) for n in chosen["mutants"])
    if args.first:
        draws, edits = {n: some[: args.first] for n, some in draws.items()}, edits[: args.first]
    changes = [*(c for some in draws.values() for c in some), *edits]
    known = {row["key"]: row for path in args.reuse for row in json.loads(path.read_text(encoding="utf-8"))}
    left = [c for c in changes if c.key not in known]
    if left:
        plain = run_all([None], 1, args.episodes)[0]["failures"]
        if plain:
            sys.exit(f"the audit fails without any change: {plain[:3]}")
        for change, result in zip(left, run_all(left, args.workers, args.episodes), strict=True):
            known[change.key] = {"key": change.key, "line": change.line, "failures": result["failures"]}
    if args.out:
        args.out.write_text(json.dumps([known[c.key] for c in changes], indent=1), encoding="utf-8")
    outcomes = {name: [(c, known[c.key]) for c in some] for name, some in draws.items()}
    text = report(outcomes, [(c, known[c.key]) for c in edits], lost)
    print(text)
    if not args.first:
        RESULT.write_text(text, encoding="utf-8")


Outcome = tuple[Change, dict[str, Any]]


def tallied(outcome: Sequence[Outcome], known: dict[str, str]) -> tuple[list[Outcome], list[Outcome]]:
    """Return (those that are not equivalent, those of them that were caught)."""
    counted = [(c, r) for c, r in outcome if c.key not in known or r["failures"]]
    return counted, [(c, r) for c, r in counted if r["failures"]]


def report(outcomes: dict[str, list[Outcome]], edits: Sequence[Outcome], lost: int) -> str:
    """Return the result as Markdown."""
    known = json.loads(EQUIVALENTS.read_text(encoding="utf-8")) if EQUIVALENTS.exists() else {}
    every = [pair for some in outcomes.values() for pair in some]
    alive = [c for c, r in every if not r["failures"]]
    alarms = [(c, r) for c, r in edits if r["failures"]]
    counted, caught = tallied(every, known)
    by_group = Counter(group_of(r["failures"]) for _, r in caught)
    rows = {
        "planted": "planted faults (leaks of gold, careless rewards)",
        **{name: f"mutants of seed {name}" for name in outcomes if name != "planted"},
    }
    lines = [
        "# How sharp `agentgym audit` is",
        "",
        "`make audit-mutants` runs this anew: `benchmarks/audit_mutants.py` says what a mutant is and how it is judged.",
        f"Mutants are drawn over {len(MODULES)} modules and kept in `audit_drawn.json`; {lost} of them no longer fit the sources.",
        "",
        "| | drawn | equivalent | caught, of all that are not equivalent |",
        "|---|---|---|---|",
    ]
    for name, what in rows.items():
        if outcomes[name]:
            lines.append(f"| {what} | {len(outcomes[name])} | {_share(outcomes[name], known)} |")
    lines += [
        f"| **all** | {len(every)} | {_share(every, known)} |",
        "",
        f"**Harmless edits that raise an alarm: {len(alarms)} of {len(edits)}.**",
        "",
        "Draws that showed which probes were missing, as they stood before the probes were written: " + EARLIER,
        "",
        "| caught first by | mutants |",
        "|---|---|",
        *(f"| {name} | {by_group[name]} |" for name, _ in GROUPS),
    ]
    lines += ["", "| kind of change | caught | of |", "|---|---|---|"]
    for kind, n in sorted(Counter(c.kind for c, _ in counted).items()):
        lines.append(f"| {kind} | {sum(c.kind == kind for c, _ in caught)} | {n} |")
    for name in rows:
        missed = [c for c, r in outcomes[name] if not r["failures"] and c.key not in known]
        if missed:
            lines += ["", f"## Missed: {rows[name]}", ""]
            lines += [f"- `{c.module}:{c.line}` {c.where}, {c.kind}: `{c.before}` → `{c.after}`" for c in missed] or ["none"]
    lines += ["", "## Equivalent: nothing that can be observed changes", ""]
    equal = [c for c in alive if c.key in known]
    lines += [f"- `{c.module}` {c.where}, {c.kind}: `{c.before}` → `{c.after}`: {known[c.key]}" for c in equal] or ["none"]
    lines += ["", "## False alarms", ""]
    lines += [f"- `{c.module}:{c.line}` {c.where}, {c.kind}: {r['failures'][0][1:3]}" for c, r in alarms] or ["none"]
    return "\n".join(lines) + "\n"


def _share(outcome: Sequence[Outcome], known: dict[str, str]) -> str:
    counted, caught = tallied(outcome, known)
    share = f"{len(caught)} of {len(counted)} ({len(caught) / max(1, len(counted)):.1%})"
    return f"{len(outcome) - len(counted)} | **{share}**"


if __name__ == "__main__":
    main()
