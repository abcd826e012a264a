"""What fills the deferred scores of a run: its scorer and its judge, with their counts and their warnings as text."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agentgym.errors import ConfigError
from agentgym.judges import JudgeConfig, JudgeService, judge_service
from agentgym.rewards import Scorer, Suite
from agentgym.task import Task
from agentgym.types import Group, Trajectory

RATE = "_rate"
"""Metrics that end so are shares since the judge was made; all others are counts."""


class Services:
    """Completes batches of one suite. Keep one per run, so that counts, budgets and caches are the run's."""

    def __init__(
        self,
        suite: Suite,
        *,
        scorer: Scorer | None = None,
        judge: JudgeService | None = None,
        reference: Scorer | None = None,
    ) -> None:
        """Hold the services of a suite; those that it does not need are never called."""
        self.suite, self.scorer, self.judge, self.reference = suite, scorer, judge, reference
        self._told: dict[str, float] = {}
        self._notes: list[str] = []

    @property
    def needed(self) -> bool:
        """Whether the suite leaves scores open; False where it asks for a model that is not there (they stay open)."""
        models = {"scorer": self.scorer, "reference": self.reference}
        missing = any(model is None and needing(self.suite, kind) for kind, model in models.items())
        return bool(self.suite.deferred) and not missing

    def complete(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Return `Suite.complete` of a batch; what the services warn about is kept for `notes`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            done = self.suite.complete(trajectories, scorer=self.scorer, judge=self.judge, reference=self.reference)
        self._notes += [str(warning.message) for warning in caught]
        return done

    def complete_groups(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups with their records completed."""
        done = iter(self.complete([t for g in groups for t in g.trajectories]))
        return [Group(g.id, g.task_id, tuple(next(done) for _ in g.trajectories)) for g in groups]

    def totals(self) -> dict[str, float]:
        """Return the judge's counts since it was made (judge/requests, judge/abstained, …); empty without a judge."""
        told: Callable[[], dict[str, float]] | None = getattr(self.judge, "metrics", None)
        return dict(told()) if told is not None else {}

    def metrics(self) -> dict[str, float]:
        """Return the judge's counts since the last call; shares are those of the whole run, but judge/abstain_rate."""
        now = self.totals()
        new = {n: value if n.endswith(RATE) else value - self._told.get(n, 0.0) for n, value in now.items()}
        self._told = now
        if "judge/abstain_rate" in new:
            new["judge/abstain_rate"] = new.get("judge/abstained", 0.0) / max(1.0, new.get("judge/requests", 0.0))
        return new

    def notes(self) -> tuple[str, ...]:
        """Return what the services warned about since the last call, each text once."""
        notes, self._notes = tuple(dict.fromkeys(self._notes)), []
        return notes


def judge_for(suite: Suite, config: JudgeConfig | None, tasks: Iterable[Task], setting: str) -> JudgeService | None:
    """Return the judge of a run, or None where no component asks one.

    Args:
        suite: the reward.
        config: settings; None: nothing was said.
        tasks: looked at only where each task brings a checklist of its own.
        setting: how a user says which judge, for messages.

    Raises:
        ConfigError: The suite asks a judge and the settings give none, or one that cannot be made.
    """
    asking = _asking(suite, tasks)
    if not asking:
        return None
    problem = ""
    if config is not None:
        try:
            return judge_service(config)
        except ConfigError as error:
            problem = f": {error}"
    raise ConfigError(f"reward {suite.name}: {', '.join(asking)} ask a judge; say which with {setting}{problem}")


def needing(suite: Suite, kind: str) -> list[str]:
    """Return the deferred components of a suite that ask for a service: "scorer", "reference" or "judge"."""
    return [name for name in suite.deferred if kind in suite.components[name].needs]


def check_scorer(suite: Suite, scorer: Scorer | None, setting: str) -> None:
    """Refuse a reward whose scores an evaluation would leave open for want of log-probabilities.

    Args:
        suite: the reward.
        scorer: what gives them, or None.
        setting: how a user names one, for the message.

    Raises:
        ConfigError: The suite needs a scorer and there is none, or a reference, which only training has.
    """
    if comparing := needing(suite, "reference"):
        raise ConfigError(
            f"reward {suite.name}: {', '.join(comparing)} needs a reference to compare the policy with. Training has one"
            f" (the weights that learning began with), an evaluation has not: choose a reward without {' and '.join(comparing)},"
            " or score its records with Suite.complete(records, scorer=..., reference=...)"
        )
    asking = needing(suite, "scorer") if scorer is None else []
    if asking:
        raise ConfigError(
            f"reward {suite.name}: {', '.join(asking)} need the log-probabilities of a model, which this policy does not"
            f" give; choose one that does with {setting}, or a reward without {' and '.join(asking)}"
        )


def abstained(trajectory: Trajectory) -> bool:
    """Whether a score of the record is invalid: a service gave no answer."""
    tables: tuple[Any, ...] = (trajectory.scores, *(turn.scores for turn in trajectory.turns))
    return any(not score.valid for scores in tables for score in scores.values())


def _asking(suite: Suite, tasks: Iterable[Task]) -> list[str]:
    asking = needing(suite, "judge")
    of_tasks = [n for n in asking if "gold.checklist" in suite.components[n].needs]
    if of_tasks and not any(criterion.kind == "judge" for task in tasks for criterion in task.gold.checklist):
        asking = [n for n in asking if n not in of_tasks]
    return asking
