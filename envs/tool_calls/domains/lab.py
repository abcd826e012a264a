"""lab: data files and a sandbox: compute from a table, draw a chart, repair a program until its tests pass.

Files are part of the state (`files`: those that were there and were changed; `made`: new ones), so an episode can be
stored at any turn: each call of `python` gets them in a fresh session of the sandbox and leaves its changes behind. Nothing that a policy wrote runs anywhere else.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np

from agentgym.envs.tool_calls.domain import Domain
from agentgym.envs.tool_calls.domains.lab_programs import PROGRAMS
from agentgym.envs.tool_calls.draft import Draft, Step, ask, told
from agentgym.envs.tool_calls.operations import tables
from agentgym.envs.tool_calls.talk import Wish
from agentgym.errors import ToolError
from agentgym.gold import Assertion, Constraint
from agentgym.sandbox import Limits as SandboxLimits
from agentgym.sandbox import Sandbox, shared_sandbox
from agentgym.seeding import stream
from agentgym.task import Answer, Task
from agentgym.tools import Tool, ToolContext, tool
from agentgym.types import JSON
from agentgym.worlds.app_data import ADJECTIVES, NOUNS
from agentgym.worlds.closed_words import CITIES
from agentgym.worlds.tables import Row, Tables, TableView

MAX_FILE_CHARS = 20_000
MAX_FILES = 24
"""New files that an episode may leave."""
LIMITS = SandboxLimits(wall_s=5.0, cpu_s=5.0, memory_mb=256, processes=16, output_bytes=8_192, file_mb=1, disk_mb=8, files=128)
RULES = """You work in a laboratory with data files and a sandbox for Python (standard library only, no network).
Tables are CSV files with a heading. Never change a table or a test: what the user measured stays as it is.
Ask the user what you need to know. Your last message states the result; of a file that was made or repaired its name."""


def _names(view: TableView) -> list[str]:
    return [*view.ids("files"), *view.ids("made")]


def _text(view: TableView, name: str) -> str:
    row = view.row("files", name) or view.row("made", name)
    if row is None:
        raise ToolError(f"there is no file {name[:80]!r}; use find_files to see all")
    return str(row["text"])


@tool
def find_files(text: Annotated[str, "part of the name; empty: all"], ctx: ToolContext) -> list[dict[str, Any]]:
    """List the files whose names hold a text, with their lengths in characters."""
    view = tables(ctx)
    return [{"name": name, "chars": len(_text(view, name))} for name in _names(view) if text in name]


@tool
def read_file(name: Annotated[str, "of the file"], ctx: ToolContext) -> str:
    """Read a text file; of a long one the beginning."""
    return _text(tables(ctx), name)[:3_000]


@tool(mutates=True)
def write_file(name: Annotated[str, "of the file"], text: Annotated[str, "its whole content"], ctx: ToolContext) -> dict[str, Any]:
    """Write a text file; one of the same name is replaced."""
    _keep(tables(ctx), {name: text})
    return {"name": name, "chars": len(text)}


def _python(code: Annotated[str, "the program"], ctx: ToolContext) -> dict[str, Any]:
    """Run a Python program beside the files; what it prints comes back, files that it writes stay."""
    view, box = tables(ctx), ctx.services["sandbox"]
    files = {name: _text(view, name) for name in _names(view)}
    with box.open(LIMITS, files=files) as session:
        session.run(_BESIDE)
        result = session.run(code)
        left: dict[str, str] = {}
        for name in list(session.files())[: MAX_FILES + len(files)]:
            data = session.read(name, max_bytes=4 * MAX_FILE_CHARS)
            text = data.decode("utf-8", "replace")
            if files.get(name) != text:
                left[name] = text
    _keep(view, left)
    told_ = {"stdout": result.stdout, "error": result.stderr[-1_500:], "killed": result.killed_by, "written": sorted(left)}
    return {key: value for key, value in told_.items() if value}


def _run_tests(name: Annotated[str, "of the program, e.g. ages.py"], ctx: ToolContext) -> dict[str, Any]:
    """Run the tests of a program; they and more of their kind decide."""
    view, box = tables(ctx), ctx.services["sandbox"]
    program = next((p for p in PROGRAMS if p.name == name), None)
    if program is None or view.row("files", name) is None:
        raise ToolError(f"there are no tests for {name[:80]!r}; use the name of a program that has a test_ file beside it")
    code = _CHECKS.format(module=name.removesuffix(".py"), calls=[call for call, _ in program.checks])
    result = box.run(code, files={name: _text(view, name)}, wall_s=LIMITS.wall_s)
    given = result.stdout.rstrip("\n").split("\n")[-len(program.checks) :]
    failed = [call for (call, right), value in zip(program.checks, [*given, *[""] * len(program.checks)], strict=False) if value != right]
    view.put("tests", name, {"passed": not failed})
    if not failed:
        return {"passed": True}
    return {"passed": False, "failed": failed[0].replace("m.", "", 1), "error": result.stderr[-1_000:] or result.killed_by}


_BESIDE = "import sys; sys.path.insert(0, '')"
"""So that programs find the files beside them."""
_CHECKS = _BESIDE + """
import {module} as m
print()
for call in {calls!r}:
    try:
        print(repr(eval(call)))
    except Exception as error:
        print(type(error).__name__)
"""


def _slow(fn: Callable[..., Any], name: str) -> Tool:
    made = tool(mutates=True, slow=True, name=name)(fn)
    return Tool(made.spec, made.fn, context=made.context, converts=made.converts, slow=True)


TOOLS: tuple[Tool, ...] = (find_files, read_file, write_file, _slow(_python, "python"), _slow(_run_tests, "run_tests"))


def _keep(view: TableView, texts: Mapping[str, str]) -> None:
    """Put files into the state; a chart is kept with its bars, and a changed program has no passed tests."""
    for name, text in texts.items():
        if len(text) > MAX_FILE_CHARS or len(name) > 100 or not name:
            raise ToolError(f"a file has at most {MAX_FILE_CHARS} characters and a name of 1 to 100; {name[:60]!r} has {len(text)}")
        row: Row = {"text": text}
        if name.endswith(".svg"):
            row["bars"] = bars(text)
        view.put("files" if name in view.base["files"] else "made", name, row)
        if view.row("tests", name) is not None:
            view.remove("tests", name)
    if len(view.ids("made")) > MAX_FILES:
        raise ToolError(f"at most {MAX_FILES} new files are kept")


def bars(text: str) -> dict[str, JSON]:
    """Return the heights of a chart's bars by their ids, rounded to tenths; nothing for a text that is no SVG."""
    if "<!" in text:  # no document types, no entities
        return {}
    try:
        root = ET.fromstring(text)  # entities are refused above
        found = {e.get("id", ""): round(float(e.get("height", "nan")), 1) for e in root.iter() if e.tag.rpartition("}")[2] == "rect"}
    except (ET.ParseError, ValueError, RecursionError):
        return {}
    return {name: value for name, value in list(found.items())[:100] if name and value == value}


class Lab(Domain):
    """One laboratory; `size` is the number of tables."""

    name = "lab"

    def __init__(self, size: int, seed: int, sandbox: str = "bubblewrap") -> None:
        """Draw tables, put broken programs beside them."""
        self.sandbox = sandbox
        rng = stream("lab", seed, "rows")
        self.data: dict[str, list[tuple[str, str, int, float]]] = {}
        files: dict[str, Row] = {}
        names = [f"{a}_{n}.csv" for a in ADJECTIVES for n in NOUNS]
        for index in rng.permutation(len(names))[:size]:
            rows = _measured(rng)
            self.data[names[int(index)]] = rows
            lines = "".join(f"{sample},{site},{count},{mass}\n" for sample, site, count, mass in rows)
            files[names[int(index)]] = {"text": f"sample,site,count,mass\n{lines}"}
        for program in PROGRAMS:
            files[program.name] = {"text": program.broken[int(rng.integers(len(program.broken)))]}
            files[f"test_{program.name}"] = {"text": program.shown}
        self.rows = Tables({"files": files, "made": {}, "tests": {}})

    kinds = ("compute", "best", "repair", "chart", "ask", "then")

    @property
    def starts(self) -> Sequence[str]:
        """The tables."""
        return list(self.data)

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the tools of a laboratory."""
        return TOOLS

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return no changes yet."""
        return dict(self.rows.unchanged())

    def services(self, task: Task) -> dict[str, Any]:
        """Return the files, and the sandbox. Raises SandboxUnavailableError where there is none."""
        return {"tables": self.rows, "sandbox": opened(self.sandbox)}

    def rules(self, task: Task) -> str:
        """Return the rules of the laboratory."""
        return RULES

    def draft(self, kind: str, start: str, rng: np.random.Generator) -> Draft | None:
        """Return a task of a kind about a table."""
        return _KINDS[kind](self, start, rng)

    def after(self) -> dict[str, JSON]:
        """Return a state in the place of one that a sandbox would have to make: gold asserts what must hold."""
        return dict(self.rows.unchanged())


def opened(name: str) -> Sandbox:
    """Return the shared sandbox of a backend, seen to hold. Raises SandboxUnavailableError."""
    return shared_sandbox(name)


def _measured(rng: np.random.Generator) -> list[tuple[str, str, int, float]]:
    sites = [CITIES[int(i)] for i in rng.permutation(len(CITIES))[:4]]
    return [
        (f"s{n + 1}", sites[int(rng.integers(4))], int(rng.integers(1, 60)), round(float(rng.integers(100, 9_000)) / 100, 2))
        for n in range(int(rng.integers(12, 30)))
    ]


def _pick(items: Sequence[Any], rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


def _groups(rows: Sequence[tuple[str, str, int, float]]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for _, site, count, mass in rows:
        found.setdefault(site, []).append((count, mass))
    return found


_READ = "import csv\nrows = list(csv.DictReader(open({name!r})))\n"


def _untouched(lab: Lab) -> tuple[Assertion, ...]:
    return (Assertion("files", "count", 0), Assertion("tests", "count", 0))


def _sum(lab: Lab, name: str, site: str) -> tuple[float, Step]:
    total = round(sum(mass for _, mass in _groups(lab.data[name])[site]), 2)
    code = _READ.format(name=name) + f"print(round(sum(float(r['mass']) for r in rows if r['site'] == {site!r}), 2))"
    return total, Step("python", {"code": code}, compare={"code": "any"})


def _number(value: float) -> Answer:
    return Answer(str(value), type="number", tol=0.006)


def _compute(lab: Lab, name: str, rng: np.random.Generator) -> Draft | None:
    site = _pick(list(_groups(lab.data[name])), rng)
    total, step = _sum(lab, name, site)
    question = _pick(("What is the total mass of all samples from {s} in {n}?", "Add up the mass of the samples of {n} whose site is {s}."), rng)
    return Draft(question.format(s=site, n=name), (step, told("finish", f"{total}", _number(total))), state=lab.after(), assertions=_untouched(lab))


def _best(lab: Lab, name: str, rng: np.random.Generator) -> Draft | None:
    means = {s: sum(c for c, _ in v) / len(v) for s, v in _groups(lab.data[name]).items()}
    best, mean = max(means.items(), key=lambda item: item[1])
    if sorted(means.values())[-2] == mean:
        return None
    code = _READ.format(name=name) + (
        "sites = {}\nfor r in rows: sites.setdefault(r['site'], []).append(int(r['count']))\n"
        "print(max((sum(v) / len(v), s) for s, v in sites.items()))"
    )
    question = f"Which site in {name} has the largest mean count, and what is that mean, to two digits?"
    end = told("finish", f"{best}: {mean:.2f}", Answer(best), _number(round(mean, 2)))
    return Draft(question, (Step("python", {"code": code}, compare={"code": "any"}), end), state=lab.after(), assertions=_untouched(lab))


def _ask(lab: Lab, name: str, rng: np.random.Generator) -> Draft | None:
    site = _pick(list(_groups(lab.data[name])), rng)
    total, step = _sum(lab, name, site)
    wish = Wish("site", f"The site is {site}.", ("site", "where", "place"))
    plan = (ask("Which site?"), step, told("finish", f"{total}", _number(total)))
    return Draft(f"I need the total mass of the samples of one site in {name}.", plan, wishes=(wish,), state=lab.after(), assertions=_untouched(lab))


def _then(lab: Lab, name: str, rng: np.random.Generator) -> Draft | None:
    first, second = (list(_groups(lab.data[name]))[int(i)] for i in rng.permutation(len(_groups(lab.data[name])))[:2])
    (one, step), (two, other) = _sum(lab, name, first), _sum(lab, name, second)
    # Any program may do for a gold call, so one that is run again would pass for the second.
    plan = (step, told("reply", f"{one}", _number(one)), replace(other, optional=True), told("finish", f"{two}", _number(two)))
    question = f"What is the total mass of all samples from {first} in {name}?"
    return Draft(question, plan, later=(f"And from {second}?",), state=lab.after(), assertions=_untouched(lab))


def _chart(lab: Lab, name: str, rng: np.random.Generator) -> Draft | None:
    sums: dict[str, JSON] = {s: float(sum(c for c, _ in v)) for s, v in sorted(_groups(lab.data[name]).items())}
    target = name.replace(".csv", ".svg")
    code = _READ.format(name=name) + (
        "sites = {}\nfor r in rows: sites[r['site']] = sites.get(r['site'], 0) + int(r['count'])\n"
        "bars = ''.join(f'<rect id=\"{s}\" x=\"{20 * i}\" y=\"0\" width=\"16\" height=\"{h}\"/>' for i, (s, h) in enumerate(sorted(sites.items())))\n"
        f"open({target!r}, 'w').write('<svg xmlns=\"http://www.w3.org/2000/svg\">' + bars + '</svg>')"
    )
    question = (f"Draw the total count per site in {name} as a bar chart, as {target}: one rect a site, with the site as its id and the total as its height.")
    kept = (Assertion(f'made["{target}"].bars', "eq", sums), Assertion("files", "count", 0), Assertion("tests", "count", 0))
    step = Step("python", {"code": code}, compare={"code": "any"}, after_all=True)
    return Draft(question, (step, told("finish", f"Made {target}.", Answer(target))), state=lab.after(), assertions=kept)


def _repair(lab: Lab, name: str, rng: np.random.Generator) -> Draft | None:
    program = _pick(PROGRAMS, rng)
    question = _pick(("{p} does not pass its tests. Repair it.", "The tests of {p} fail; make it do what it should."), rng).format(p=program.name)
    steps = (
        Step("read_file", {"name": program.name}),
        Step("write_file", {"name": program.name, "text": program.right}, compare={"text": "any"}, after_all=True),
        Step("run_tests", {"name": program.name}, after_all=True),
    )
    kept = (Assertion(f'tests["{program.name}"].passed', "eq", True), Assertion("files", "count", 1))
    mine = ("m0", (Constraint(call="write_file", arguments={"name": f"test_{program.name}"}),))
    return Draft(question, (*steps, told("finish", f"Repaired {program.name}.", Answer(program.name))), state=lab.after(), assertions=kept, forbidden=(mine,))


_KINDS: dict[str, Callable[[Lab, str, np.random.Generator], Draft | None]] = {
    "compute": _compute, "best": _best, "repair": _repair, "chart": _chart, "ask": _ask, "then": _then,
}  # fmt: skip


def lab(size: int, seed: int) -> Lab:
    """Return the laboratory of a seed."""
    return Lab(size, seed)
