"""What an audit found: findings by section, what each hack earned, and whether anything failed."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal

from agentgym.types import JSON

Status = Literal["pass", "fail", "skip"]
SECTIONS = ("hack-resistant", "secure", "reproducible", "self-describing", "scales", "learnable")
"""The properties that an environment is asked to prove, in the order of the report."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    section: str
    name: str
    status: Status
    detail: str = ""
    """What was found; for a failure the first example."""
    component: str = ""
    """The reward component that a failure comes from, where one is responsible."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one player earned: means over the episodes of the audit."""

    name: str
    kind: Literal["honest", "hack", "chance"]
    """honest: the environment's own solution; hack: must earn less; chance: guessing, listed for comparison."""
    aim: str
    total: float
    highest: float
    success: float
    """Share of episodes that ended as a success."""
    turns: float
    components: dict[str, float]
    """Mean contribution per component; they add up to `total`."""
    problem: str = ""
    component: str = ""
    """For a problem: the component that pays for it."""


@dataclass(frozen=True, slots=True)
class Report:
    """The audit of one environment with one reward."""

    env_id: str
    reward: str
    margin: float
    """Least lead of a success over a failure that the suite promises."""
    needed: float
    """Lead over a hack that the honest oracle had to keep."""
    rows: tuple[Row, ...] = ()
    findings: tuple[Finding, ...] = ()
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(f for f in self.findings if f.status == "fail")

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def verdicts(self) -> dict[str, Status]:
        """Return one verdict a section: fail if a check failed, skip if none ran."""
        table: dict[str, Status] = {}
        for section in SECTIONS:
            states = {f.status for f in self.findings if f.section == section}
            table[section] = "fail" if "fail" in states else "pass" if "pass" in states else "skip"
        return table

    def to_json(self) -> dict[str, JSON]:
        """Return everything as plain JSON."""
        return {**asdict(self), "passed": self.passed, "verdicts": self.verdicts()}


def finding(section: str, name: str, problem: str, component: str = "", *, note: str = "") -> Finding:
    """Return a passed finding with a note, or a failed one if there is a problem."""
    return Finding(section, name, "fail", problem, component) if problem else Finding(section, name, "pass", note)


def first(problems: Iterable[str]) -> str:
    """Return the first problem that is none of the empty text; stops looking there."""
    return next((problem for problem in problems if problem), "")


def run_checks(checks: Iterable[tuple[str, str, Callable[[], Iterable[str]]]]) -> list[Finding]:
    """Run checks (section, name, function that yields problems); one that raises has failed."""
    found = []
    for section, name, check in checks:
        try:
            found.append(finding(section, name, first(check())))
        except Exception as error:  # noqa: BLE001 (whatever was audited raised it)
            found.append(finding(section, name, f"{type(error).__name__}: {error}"))
    return found
