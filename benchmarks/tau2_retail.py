"""Replay the gold actions of tau2-bench's retail tasks in its own environment and in ours, and compare the databases.

    make extra-tau2 tau2-retail            # needs the data folder: AGENTGYM_DATA, by default ../shared/data

tau2's package runs in a virtual environment of its own (.venv-tau2) over the same db.json.
"""

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from agentgym.envs.tool_calls.published.tau2_retail import load
from agentgym.errors import ToolError
from agentgym.tools import ToolContext
from agentgym.worlds.tables import TableView

ROOT = Path(__file__).resolve().parents[1]
THEIRS = """
import json, sys, time
from tau2.domains.retail.data_model import RetailDB
from tau2.domains.retail.tools import RetailTools
folder = sys.argv[1]
tasks = json.load(open(folder + "/tasks.json"))
first = RetailDB.load(folder + "/db.json")
before = first.model_dump(exclude_none=True)
for task in tasks:
    db = first.model_copy(deep=True)
    tools, failed, began = RetailTools(db), 0, time.process_time()
    for action in task["evaluation_criteria"]["actions"]:
        try:
            tools.use_tool(action["name"], **action["arguments"])
        except Exception:
            failed += 1
    seconds = time.process_time() - began
    after = db.model_dump(exclude_none=True)
    changed = {t: {i: row for i, row in after[t].items() if row != before[t].get(i)} for t in ("orders", "users", "products")}
    print(json.dumps({"id": task["id"], "changed": changed, "failed": failed, "seconds": seconds}))
"""


def ours(folder: Path) -> dict[str, dict[str, Any]]:
    """Return per task what its actions change in our tables."""
    source, found = load(folder=str(folder)), {}
    for row in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        task = source.by_id(f"tau2_retail.{row['id']}")
        domain = source.domain(task)
        tools = {item.name: item for item in domain.tools(task)}
        context, failed = ToolContext(domain.initial_state(task), services=domain.services(task)), 0
        began = time.process_time()
        for action in row["evaluation_criteria"]["actions"]:
            item = tools[action["name"]]
            try:
                item.fn(**item.keywords(action["arguments"], context))
            except ToolError:
                failed += 1
        seconds = time.process_time() - began
        view = TableView(domain.services(task)["tables"], context.state)
        changed = {table: {id_: view.row(table, id_) for id_ in rows} for table, rows in context.state.items()}
        found[row["id"]] = {"changed": changed, "failed": failed, "seconds": seconds}
    return found


def theirs(folder: Path, python: Path) -> dict[str, dict[str, Any]]:
    """Return the same from tau2's own tools."""
    done = subprocess.run([str(python), "-c", THEIRS, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"tau2 did not run ({python}): {done.stderr[-2000:]}\nmake extra-tau2 installs it")
    return {row["id"]: row for row in map(json.loads, filter(None, done.stdout.splitlines()))}


def rounded(value: Any) -> Any:
    """Return a value with amounts in cents."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 2) if isinstance(value, float) else value


def difference(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Return where two sets of changed rows differ first; empty where they do not."""
    for table in a:
        for id_ in a[table].keys() | b[table].keys():
            left, right = a[table].get(id_, {}), b[table].get(id_, {})
            fields = [f for f in left.keys() | right.keys() if rounded(left.get(f)) != rounded(right.get(f))]
            if fields:
                return f"{table} {id_}: {', '.join(sorted(fields))}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("AGENTGYM_DATA", ROOT.parent / "shared/data")) / "tools/tau2_retail")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-tau2/bin/python")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/tau2_retail.md")
    args = parser.parse_args()
    mine, other = ours(args.folder), theirs(args.folder, args.python)
    differ = {id_: text for id_ in mine if (text := difference(mine[id_]["changed"], other[id_]["changed"]))}
    failing = [id_ for id_ in mine if mine[id_]["failed"] != other[id_]["failed"]]
    ratio = sum(o["seconds"] for o in other.values()) / sum(m["seconds"] for m in mine.values())
    lines = [
        "# tau2-bench retail: gold actions in its own environment and in ours",
        "",
        "Made by `make extra-tau2 tau2-retail`. Databases after the actions, row by row, amounts in cents.",
        "",
        "| | |",
        "|---|---|",
        f"| tasks | {len(mine)} |",
        f"| same actions refused | {len(mine) - len(failing)} of {len(mine)} |",
        f"| same database | {len(mine) - len(differ)} of {len(mine)} |",
        f"| CPU time of the tools, theirs to ours | {ratio:.2f} |",
        "",
        *(f"- task {id_}: {text}" for id_, text in differ.items()),
        *(["", "Where a call replaces several items of a pending order, tau2's tool gives all of them price and options of the last one; ours gives each its own."] if differ else []),
    ]
    args.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
