"""The credit part of a report: diagnostics by turn and by component, and the forecast, out of metrics.jsonl."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentgym.types import JSON
from agentgym.view.folder import cut, number

TURN = ("zero_variance", "singletons", "group_size", "effective_size", "sign_agreement", "mass")
COMPONENT = ("zero_variance", "singletons", "effective_size", "spread", "sign_agreement")
MOST_ROWS = 200
_TURN = re.compile(rf"credit/({'|'.join(TURN)})/turn_(\d{{1,6}})")
_COMPONENT = re.compile(rf"credit/component/(.+)/({'|'.join(COMPONENT)})/(?:turn_(\d{{1,6}})|trajectory)")


def credit_rows(lines: Sequence[Mapping[str, Any]]) -> dict[str, JSON]:
    """Return the tables of the last training step that has them; empty without any.

    Returns:
        step; turns: rows of turn and the measures of `TURN`; components: rows of component, turn (None at trajectory
        scope) and those of `COMPONENT`; forecast: the sentence that was said before training, or empty.
    """
    told = [line.get("note") for line in lines if line["phase"] == "forecast"]
    forecast = cut(told[-1], 600) if told and isinstance(told[-1], str) else ""
    for line in reversed(lines):
        if line["phase"] != "train":
            continue
        turns, components = _rows(line["metrics"])
        if turns or components:
            return {"step": line["step"], "turns": turns, "components": components, "forecast": forecast}
    return {"step": 0, "turns": [], "components": [], "forecast": forecast} if forecast else {}


def _rows(metrics: Mapping[str, Any]) -> tuple[list[JSON], list[JSON]]:
    turns: dict[int, dict[str, JSON]] = {}
    components: dict[tuple[str, int], dict[str, JSON]] = {}
    for name, value in metrics.items():
        if found := _TURN.fullmatch(name):
            turns.setdefault(int(found[2]), {})[found[1]] = number(value)
        elif found := _COMPONENT.fullmatch(name):
            place = int(found[3]) if found[3] else -1
            components.setdefault((found[1], place), {})[found[2]] = number(value)
    # A share of the credit alone is no diagnosis: earlier records have only that.
    rows = [{"turn": k, **row} for k, row in sorted(turns.items()) if set(row) != {"mass"}]
    order = sorted(components.items(), key=lambda item: (item[0][0], item[0][1] if item[0][1] >= 0 else 1 << 30))
    # Places where nobody differs say nothing.
    table = [{"component": cut(n, 200), "turn": None if k < 0 else k, **row} for (n, k), row in order if row.get("spread") != 0]
    return list(rows[:MOST_ROWS]), list(table[:MOST_ROWS])
