"""Rewards of checklists: what was newly met, paid once.

`checklist` (turn scope) pays in 0..1 over the episode what criteria are worth: the same for every user turn, by weight
within one. `assignment` says when: at the end of each user turn, at the step itself, or, at trajectory scope, at the
end. Criteria latch, so repeating what was met pays nothing. A minefield takes everything back. `checklist_met`, its
outcome, is 1 where everything was met.

Checklists without judges are scored live. With judges the scores are deferred: `Suite.complete(trajectories,
judge=service)` asks about everything that can matter in one batch; a judge that gives no answer about a criterion
that is otherwise unmet makes the episode's scores invalid, never zero. Given a service here, scores are live too.

Critical criteria that are unmet when their time is over end the episode (critical_unmet): live for rules and programs,
for judges only where a service is given here.

Source: CM2 (checklist rewards for multi-turn tool use). Deviations: dependencies count at every level; the pass of a
judge must quote the channel; fails of the service exclude, faults of the policy do not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentgym import schema
from agentgym.criterion import Criterion
from agentgym.errors import ConfigError
from agentgym.judges import JudgeRequest, JudgeService, Verdict
from agentgym.rewards.checklist import Assignment, Checklist, checklist_named
from agentgym.rewards.checklist_progress import (
    Progress,
    Verdicts,
    advance,
    all_met,
    evidence_text,
    moment_of,
    moments,
    shares,
    worth,
)
from agentgym.rewards.component import DeferredComponent, EpisodeView
from agentgym.rewards.matchers import Moment
from agentgym.task import Gold
from agentgym.types import Score, Trajectory

STOP = "critical_unmet"
_PASS = Verdict(True, 1.0)


@dataclass(slots=True)
class _State:
    checklist: Checklist
    shares: dict[str, float]
    progress: Progress = field(default_factory=Progress)


class ChecklistReward(DeferredComponent):
    """What the criteria of a checklist are worth when they are first met."""

    name = "checklist"
    scope = "turn"
    range = (0.0, 1.0)
    supply = "once"
    needs = frozenset({"judge"})

    def __init__(
        self,
        checklist: Checklist | str | None = None,
        *,
        assignment: Assignment | None = None,
        judge: JudgeService | None = None,
    ) -> None:
        """Choose the checklist.

        Args:
            checklist: a list, the name of a registered one, or None: each task's own (`Gold.checklist`).
            assignment: when it pays; by default as the checklist says.
            judge: decide judge criteria at once, at the cost of a wait in every step.

        Raises:
            NotRegisteredError: Nobody registered the name.
            ConfigError: The checklist cannot score.
        """
        self.checklist = checklist_named(checklist) if isinstance(checklist, str) else checklist
        if self.checklist is not None:
            self.checklist.check()
            self.name = f"checklist:{self.checklist.name}"
        self.assignment = assignment or (self.checklist.assignment if self.checklist else "turn_end")
        self.service = judge
        if self.assignment == "trajectory":
            self.scope, self.supply = "trajectory", "terminal"
        needed = {"judge"} if self.checklist is None or self.checklist.judged else set()
        self.defers = bool(needed) and judge is None
        self.needs = frozenset(needed | (set() if self.checklist else {"gold.checklist"}))
        if self.checklist is not None and self.failure_max is None:
            self.failure_max = 1.0 - min(shares(self.checklist).values())
        if self.scope == "turn":
            self.outcome = ChecklistMet(self.checklist, judge=judge, at_once=self.assignment == "step")

    def complaint(self, gold: Gold) -> str:
        """Return what is wrong with a task's own checklist."""
        if self.checklist is not None:
            return ""
        try:
            self._list_of(gold).check()
        except ConfigError as error:
            return str(error)
        return ""

    def named_tools(self, gold: Gold) -> Iterator[tuple[str, str]]:
        """Return the tools that rules name."""
        for c in self._list_of(gold).criteria:
            given = {"call": c.call, "before": c.before, "result": c.result, "no_call": c.no_call}
            given |= {f"order[{i}]": tool for i, tool in enumerate(c.order)}
            yield from ((f"rule {c.id!r} ({key})", tool) for key, tool in given.items() if tool)

    def start(self, view: EpisodeView) -> _State:
        """Return the state of a fresh episode."""
        checklist = self._list_of(view.gold)
        return _State(checklist, shares(checklist))

    def score(self, view: EpisodeView, state: _State) -> Score:
        """Score the last turn, or the finished episode; deferred where a judge is needed and none is here."""
        waits = state.checklist.judged and self.service is None
        if self.scope == "trajectory":
            return self._waiting() if waits else self._finished(view, state.checklist, self._ask_now)
        moment = moment_of(view, state.progress)
        new = advance(state.checklist, state.progress, moment, _assume_unknown if waits else self._ask_now)
        return self._waiting() if waits else self._paid(state, moment, new)

    def stop(self, view: EpisodeView, state: _State) -> str:
        """Return "critical_unmet" when a critical criterion can no longer be met."""
        progress = state.progress
        if self.scope == "trajectory":  # nothing was scored yet
            waits = state.checklist.judged and self.service is None
            for moment in moments(view):
                if moment.index >= progress.n_turns:
                    advance(state.checklist, progress, moment, _assume_unknown if waits else self._ask_now)
        lost = progress.unmet_critical
        if lost and state.checklist.judged and self.service is None:
            open_ = _hanging_on_judges(state.checklist, progress)
            lost = tuple(id_ for id_ in lost if id_ not in open_)
        return STOP if lost else ""

    def complete(self, trajectories: Sequence[Trajectory], service: JudgeService) -> list[dict[int, Score]]:
        """Return every score, after one call of the judge for the whole batch."""
        views = [view_of(trajectory) for trajectory in trajectories]
        lists = [self._list_of(view.gold) for view in views]
        asked: dict[tuple[int, int, str], JudgeRequest] = {}
        for number, (view, checklist) in enumerate(zip(views, lists, strict=True)):
            _collect(view, checklist, number, asked)
        verdicts = dict(zip(asked, service.judge(list(asked.values())), strict=True)) if asked else {}
        return [
            self._scores(view, checklist, {key[1:]: v for key, v in verdicts.items() if key[0] == number})
            for number, (view, checklist) in enumerate(zip(views, lists, strict=True))
        ]

    def recompute(self, stored: Mapping[int, Score]) -> dict[int, Score]:
        """Return what a judge said, or did not say, as it is; scores of rules and programs come from the events again."""
        return {i: score for i, score in stored.items() if score.parts.get("judged") or not score.valid}

    # ---- inside

    def _list_of(self, gold: Gold) -> Checklist:
        if self.checklist is not None:
            return self.checklist
        return Checklist("task", gold.checklist, where="the task's checklist", of_data=True)

    def _ask_now(self, judged: Sequence[tuple[Criterion, JudgeRequest]], moment: Moment) -> Verdicts:
        if self.service is None:
            return {}
        answers = self.service.judge([request for _, request in judged])
        return {c.id: verdict for (c, _), verdict in zip(judged, answers, strict=True)}

    def _waiting(self) -> Score:
        return Score(self.scope, None, deferred=True, reason="waits for the judge")

    def _scores(
        self, view: EpisodeView, checklist: Checklist, verdicts: Mapping[tuple[int, str], Verdict]
    ) -> dict[int, Score]:
        def ask(judged: Sequence[tuple[Criterion, JudgeRequest]], moment: Moment) -> Verdicts:
            return {c.id: verdicts[moment.index, c.id] for c, _ in judged if (moment.index, c.id) in verdicts}

        if self.scope == "trajectory":
            return {-1: self._finished(view, checklist, ask)}
        state, scores = _State(checklist, shares(checklist)), {}
        for moment in moments(view):
            new = advance(checklist, state.progress, moment, ask)
            scores[moment.index] = self._paid(state, moment, new)
        if unknown := state.progress.unknown:
            return dict.fromkeys(scores, self._invalid(state.progress, unknown))
        return scores

    def _paid(self, state: _State, moment: Moment, new: Sequence[str]) -> Score:
        """Return the score of a turn: what became due and was not paid."""
        progress = state.progress
        if self.service is not None and moment.over and progress.unknown:
            return self._invalid(progress, progress.unknown)
        value = worth(progress, state.shares)
        due = self.assignment == "step" or moment.ends or bool(progress.mines)
        raw = value - progress.paid if due else 0.0
        progress.paid += raw
        parts = {f"met.{id_}": 1.0 for id_ in new}
        if state.checklist.judged:
            parts["judged"] = 1.0
        evidence = tuple(evidence_text(id_, progress.met[id_]) for id_ in new)
        mines = {id_: hit for id_, hit in progress.mines.items() if hit.index == moment.index}
        evidence += tuple(evidence_text(id_, hit, mine=True) for id_, hit in mines.items())
        reasons = [f"met {', '.join(new)}"] if new else []
        reasons += [f"minefield {', '.join(mines)}"] if mines else []
        reasons += [f"{STOP}: {', '.join(progress.unmet_critical)}"] if progress.unmet_critical else []
        return Score("turn", raw, reason="; ".join(reasons), parts=parts, evidence=evidence)

    def _finished(self, view: EpisodeView, checklist: Checklist, ask: Any) -> Score:
        """Return the score of the whole episode."""
        progress = Progress()
        for moment in moments(view):
            advance(checklist, progress, moment, ask)
        if progress.unknown:
            return self._invalid(progress, progress.unknown)
        parts = {f"met.{c.id}": float(c.id in progress.met) for c in checklist.criteria if not c.never}
        parts |= {f"minefield.{id_}": 1.0 for id_ in progress.mines}
        if checklist.judged:
            parts["judged"] = 1.0
        evidence = [evidence_text(id_, hit) for id_, hit in progress.met.items()]
        evidence += [evidence_text(id_, hit, mine=True) for id_, hit in progress.mines.items()]
        unmet = [c.id for c in checklist.criteria if not c.never and c.id not in progress.met]
        reasons = [f"minefield {', '.join(progress.mines)}"] if progress.mines else []
        reasons += [f"unmet {', '.join(unmet)}"] if unmet else []
        raw = self._value(checklist, progress)
        return Score("trajectory", raw, reason="; ".join(reasons), parts=parts, evidence=tuple(evidence))

    def _value(self, checklist: Checklist, progress: Progress) -> float:
        return worth(progress, shares(checklist))

    def _invalid(self, progress: Progress, unknown: Sequence[str]) -> Score:
        reason = f"the judge abstained on {', '.join(unknown)}: {progress.abstained[unknown[0]]}"
        return Score(self.scope, None, valid=False, reason=reason)


class ChecklistMet(ChecklistReward):
    """1 if every criterion was met and no minefield was hit: the outcome that belongs to `checklist`.

    What was met in a user turn that a limit outside of the task cut off counts only where it is paid at the step itself.
    """

    name = "checklist_met"
    scope = "trajectory"
    supply = "terminal"
    failure_max = 0.0

    def __init__(
        self, checklist: Checklist | str | None = None, *, judge: JudgeService | None = None, at_once: bool | None = None
    ) -> None:
        """Choose the checklist, as for `ChecklistReward`; `at_once`: its reward pays at the step itself (None: as it says)."""
        super().__init__(checklist, assignment="trajectory", judge=judge)
        paid = self.checklist.assignment if self.checklist else "turn_end"
        self.at_once = paid == "step" if at_once is None else at_once
        self.name = "checklist_met" if self.checklist is None else f"checklist_met:{self.checklist.name}"

    def stop(self, view: EpisodeView, state: _State) -> str:
        """Never: the reward that it belongs to does."""
        return ""

    def _value(self, checklist: Checklist, progress: Progress) -> float:
        return float(all_met(checklist, progress, at_once=self.at_once))


def view_of(trajectory: Trajectory) -> EpisodeView:
    """Return what a component may read of a finished record. Raises DataError if its gold cannot be read."""
    gold = schema.from_json(Gold, trajectory.gold or {}, f"trajectory {trajectory.id}: gold")
    return EpisodeView(
        question=trajectory.question,
        gold=gold,
        prompt=trajectory.prompt,
        turns=trajectory.turns,
        answer=trajectory.answer,
        citations=trajectory.citations,
        end_reason=trajectory.end_reason,
        initial_state=trajectory.initial_state,
    )


def _collect(
    view: EpisodeView, checklist: Checklist, number: int, asked: dict[tuple[int, int, str], JudgeRequest]
) -> None:
    """Note every question that can matter: what is due if the judge passes all that it is asked."""

    def ask(judged: Sequence[tuple[Criterion, JudgeRequest]], moment: Moment) -> Verdicts:
        asked.update({(number, moment.index, c.id): request for c, request in judged})
        return {c.id: _PASS for c, _ in judged if not c.never}

    progress = Progress()
    for moment in moments(view):
        advance(checklist, progress, moment, ask, keep_asking=True)


def _assume_unknown(judged: Sequence[tuple[Criterion, JudgeRequest]], moment: Moment) -> Verdicts:
    """Return no verdicts: what judges would say is not known yet."""
    return {}


def _hanging_on_judges(checklist: Checklist, progress: Progress) -> set[str]:
    """Return the unmet criteria that a judge decides, directly or through what they come after."""
    open_ = {c.id for c in checklist.criteria if c.kind == "judge" and c.id not in progress.met}
    grown = True
    while grown:
        more = {c.id for c in checklist.criteria if c.id not in open_ and open_ & set(c.after)}
        grown, open_ = bool(more), open_ | more
    return open_
