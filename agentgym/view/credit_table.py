"""Credit in the terminal: diagnostics by turn index, advantages by trajectory."""

from collections.abc import Mapping, Sequence

from agentgym.credit.diagnostics import ComponentDiagnostics, TurnDiagnostics
from agentgym.types import Group


def turn_table(turns: Sequence[TurnDiagnostics]) -> str:
    """Return a table with one line per turn index."""
    lines = ["turn   turns  members  effective  singletons  zero variance  levels agree  mean |A|   mass"]
    lines += [
        f"{t.turn:4}  {t.n_turns:6}  {t.group_size:7.2f}  {t.effective_size:9.2f}  {t.singletons:10}  {_share(t.zero_variance):>13}  "
        f"{_share(t.sign_agreement):>12}  {t.mean_abs:8.3f}  {t.mass:5.0%}"
        for t in turns
    ]
    return "\n".join(lines) + "\n"


def component_table(components: Sequence[ComponentDiagnostics]) -> str:
    """Return a table with one line per component and turn index; places where nobody differs are only counted."""
    silent = sum(c.spread == 0.0 for c in components)
    components = [c for c in components if c.spread]
    left_out = f"{silent} places where nobody differs are left out\n" if silent else ""
    if not components:
        return left_out
    width = max(9, *(len(c.component) for c in components))
    lines = [f"{'component':{width}}  turn  scores  members  effective  singletons  zero variance   spread  goes with outcome"]
    lines += [
        f"{c.component:{width}}  {'end' if c.turn is None else c.turn:>4}  {c.n:6}  {c.group_size:7.2f}  {c.effective_size:9.2f}  "
        f"{c.singletons:10}  {_share(c.zero_variance):>13}  {c.spread:7.3f}  {_share(c.sign_agreement):>17}"
        for c in components
    ]
    return "\n".join(lines) + f"\n{left_out}"


def advantage_lines(groups: Sequence[Group], advantages: Mapping[str, Sequence[float]], limit: int) -> str:
    """Return one line per trajectory of the first `limit` groups: turn scores, outcome and advantages."""
    lines = []
    for group in groups[:limit]:
        lines.append(f"group {group.id or group.task_id}")
        for t in group.trajectories:
            scores = " ".join(f"{turn.reward:+.2f}" for turn in t.turns)
            values = " ".join(f"{a:+.3f}" for a in advantages[t.id])
            out = "" if t.in_loss else "  (not in the loss)"
            lines.append(f"  {t.id}: scores [{scores}] {t.reward:+.2f} -> [{values}]{out}")
    if len(groups) > limit:
        lines.append(f"... and {len(groups) - limit} more groups; --limit and --json show them")
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
