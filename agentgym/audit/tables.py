"""Reports as lines of text: one table of what everybody earned, then what failed, section by section."""

from collections.abc import Iterator, Sequence

from agentgym.audit.logs import Entry, LogReport
from agentgym.audit.report import Report

SHOWN = 20
"""Entries of a log that are listed."""


def lines(report: Report, *, every: bool = False) -> Iterator[str]:
    """Yield the report as lines; `every`: list passed checks too."""
    yield f"{report.env_id} with reward {report.reward}: margin {report.margin:g}, lead needed over a hack {report.needed:.3f}"
    yield ""
    yield from _table(report)
    for section, verdict in report.verdicts().items():
        findings = [f for f in report.findings if f.section == section]
        yield ""
        passed = sum(f.status == "pass" for f in findings)
        yield f"{verdict.upper():<4} {section} ({passed} of {len(findings)} checks)"
        for found in findings:
            notable = found.name.startswith(("throughput", "fewer mistakes", "success rises", "golden", "scorers"))
            if found.status == "pass" and not (every or notable):
                continue
            blamed = f" [{found.component}]" if found.component else ""
            mark = {"pass": "ok", "fail": "FAIL", "skip": "skip"}[found.status]
            yield f"  {mark:<4} {found.name}{blamed}{': ' if found.detail else ''}{found.detail}"


def _table(report: Report) -> Iterator[str]:
    """Yield one line a player: totals, success, turns, and what the components gave."""
    names = [n for n in dict.fromkeys(n for r in report.rows for n in r.components) if any(abs(r.components.get(n, 0)) > 5e-4 for r in report.rows)]
    heads = [n if len(n) <= 12 else f"{n[:11]}…" for n in names]
    yield f"{'':<22}{'total':>8}{'highest':>9}{'success':>9}{'turns':>7}  " + "".join(f"{h:>14}" for h in heads)
    for row in report.rows:
        parts = "".join(f"{row.components.get(n, 0.0):>14.3f}" for n in names)
        mark = f"  FAIL [{row.component}]" if row.problem else ""
        yield f"{row.name:<22}{row.total:>8.3f}{row.highest:>9.3f}{row.success:>9.0%}{row.turns:>7.1f}  {parts}{mark}"


def log_lines(report: LogReport) -> Iterator[str]:
    """Yield the audit of a log as lines."""
    n = len(report.entries)
    ours = sum(e.success for e in report.entries) / max(1, n)
    said = [e.said for e in report.entries if e.said is not None]
    yield f"{report.n_records} records, {n} scored with {report.reward}, {len(report.abstained)} abstained"
    told = f", the log says {sum(said) / len(said):.3f} (on {len(said)})" if said else ", the log says nothing of success"
    yield f"success {ours:.3f}{told}" if n else "nothing could be scored, so nothing was audited"
    reasons: dict[str, int] = {}
    for one in report.abstained:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    yield from (f"  abstained {count}: {reason}" for reason, count in reasons.items())
    yield f"{len(report.disagreeing)} disagreements"
    for entry in report.disagreeing[:SHOWN]:
        yield f"  {entry.id}: {'; '.join(entry.disagreements[:3])}"
    yield from _rest(report.disagreeing)
    yield f"{len(report.suspicious)} suspicious, {len(report.rewarded)} of them rewarded"
    yield from (f"  {kind}: {count}" for kind, count in report.kinds.items())
    for entry in report.suspicious[:SHOWN]:
        yield f"  {entry.id}: {'; '.join(entry.suspicions)}"
    yield from _rest(report.suspicious)


def _rest(entries: Sequence[Entry]) -> Iterator[str]:
    if len(entries) > SHOWN:
        yield f"  … and {len(entries) - SHOWN} more; --json lists all"


