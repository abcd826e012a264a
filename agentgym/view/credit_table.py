"""Credit in the terminal: diagnostics by turn index, advantages by trajectory."""

from collections.abc import Mapping, Sequence

from agentgym.credit.diagnostics import TurnDiagnostics
from agentgym.types import Group


def turn_table(turns: Sequence[TurnDiagnostics]) -> str:
    """Return a table with one line per turn index."""
    lines = ["turn   turns  members  singletons  zero variance  levels agree  mean |A|   mass"]
    lines += [
        f"{t.turn:4}  {t.n_turns:6}  {t.group_size:7.2f}  {t.singletons:10}  {_share(t.zero_variance):>13}  "
        f"{_share(t.sign_agreement):>12}  {t.mean_abs:8.3f}  {t.mass:5.0%}"
        for t in turns
    ]
    return "\n".join(lines) + "\n"


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
