"""How a checklist advances through an episode: what is due at a turn, what latches, what it is worth so far.

- A criterion is looked at after every turn of its user turn until it is met; once met it stays met.
- It can be met only if all criteria that it comes `after` were met at an *earlier* turn: a reply in the same turn
  cannot rest on a result that was not read yet.
- Statements that something did not happen are decided when the user turn (or the episode) ends.
- A minefield that holds once makes the whole list worth 0.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agentgym.criterion import Criterion
from agentgym.judges import JudgeRequest, Verdict
from agentgym.rewards.changes import states
from agentgym.rewards.channels import channel_text, ends_user_turn
from agentgym.rewards.checklist import Checklist
from agentgym.rewards.component import EpisodeView
from agentgym.rewards.matchers import Evidence, Moment, match
from agentgym.rewards.replay import LATE_ENDS
from agentgym.types import JSON, Turn

_CONTEXT_CHARS = 6_000


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a criterion was met."""

    index: int
    user_turn: int
    evidence: Evidence


@dataclass(slots=True)
class Progress:
    """What a checklist has seen of one episode."""

    met: dict[str, Hit] = field(default_factory=dict)
    mines: dict[str, Hit] = field(default_factory=dict)
    """Minefields that were hit."""
    abstained: dict[str, str] = field(default_factory=dict)
    """Judge criteria without a verdict so far, with the reason."""
    user_turn: int = 0
    start: int = 0
    """First turn of the running user turn."""
    n_turns: int = 0
    """Turns that were looked at."""
    settled: int = -1
    """Index of the last turn that ended its user turn; what was met after it is not paid by user turns."""
    paid: float = 0.0
    unmet_critical: tuple[str, ...] = ()
    """Critical criteria whose time is over."""

    @property
    def unknown(self) -> list[str]:
        """Judge criteria that are not met and that the judge abstained on: they may have been met."""
        return [id_ for id_ in self.abstained if id_ not in self.met and id_ not in self.mines]


Verdicts = Mapping[str, Verdict]
Ask = Callable[[Sequence[tuple[Criterion, JudgeRequest]], Moment], Verdicts]
"""Gives the verdicts of judge criteria at a moment, by id; those left out stay open."""


def shares(checklist: Checklist) -> dict[str, float]:
    """Return what each criterion is worth: 1 in all, the same for every user turn, by weight within one."""
    groups: dict[int | str, float] = {}
    scored = [c for c in checklist.criteria if not c.never]
    for criterion in scored:
        groups[criterion.turn] = groups.get(criterion.turn, 0.0) + criterion.weight
    return {c.id: c.weight / groups[c.turn] / len(groups) for c in scored}


def worth(progress: Progress, share: Mapping[str, float]) -> float:
    """Return the value of what is met so far, 0..1; 0 after a minefield."""
    if progress.mines:
        return 0.0
    return min(sum(share[id_] for id_ in progress.met), 1.0)


def all_met(checklist: Checklist, progress: Progress, *, at_once: bool = False) -> bool:
    """Whether everything was met, and no minefield hit: so exactly whether everything was paid.

    What was met in a user turn that was cut off does not count, unless it is paid `at_once`.
    """
    hits = {id_ for id_, hit in progress.met.items() if at_once or hit.index <= progress.settled}
    return progress.n_turns > 0 and not progress.mines and all(c.never or c.id in hits for c in checklist.criteria)


def moments(view: EpisodeView) -> Iterator[Moment]:
    """Yield every moment of a finished episode as it was live, by replaying its turns.

    Ends that come after the last turn was scored are not seen: what waits for the end of the turn stays open.
    """
    user_turn = start = 0
    for index, state in enumerate(states(view.initial_state, view.turns)):
        last = index == len(view.turns) - 1
        seen = replace(view, turns=view.turns[: index + 1], state=state)
        if not last:
            seen.answer, seen.citations, seen.end_reason = None, (), ""
        elif seen.end_reason in LATE_ENDS:
            seen.end_reason = ""
        ends = ends_user_turn(view.turns[index])
        yield Moment(seen, index, user_turn, start, ends or bool(seen.end_reason))
        if ends:
            user_turn, start = user_turn + 1, index + 1


def moment_of(view: EpisodeView, progress: Progress) -> Moment:
    """Return the moment after the last turn of a running episode."""
    index = len(view.turns) - 1
    ends = ends_user_turn(view.turns[index]) or bool(view.end_reason)
    return Moment(view, index, progress.user_turn, progress.start, ends)


def advance(
    checklist: Checklist, progress: Progress, moment: Moment, ask: Ask, *, keep_asking: bool = False
) -> list[str]:
    """Look at one moment; every moment once, in order.

    Args:
        checklist: what to look for.
        progress: changed in place.
        moment: the turn.
        ask: gives the verdicts of judges.
        keep_asking: ask judges about criteria that are met, too (to find all that might be needed).

    Returns:
        Ids that were met at this moment.
    """
    due = [c for c in checklist.criteria if _due(c, progress, moment, keep_asking)]
    judged = [(c, request) for c in due if c.kind == "judge" and (request := request_of(c, moment))]
    verdicts = ask(judged, moment) if judged else {}
    new = []
    for criterion in due:
        evidence = _evidence(checklist, criterion, moment, verdicts.get(criterion.id), progress)
        if evidence is None:
            continue
        hit = Hit(moment.index, moment.user_turn, evidence)
        if criterion.never:
            progress.mines[criterion.id] = hit
        elif criterion.id not in progress.met:
            progress.met[criterion.id] = hit
            new.append(criterion.id)
    progress.n_turns = moment.index + 1
    progress.settled = moment.index if moment.ends else progress.settled
    progress.unmet_critical = tuple(c.id for c in checklist.criteria if _lost(c, progress, moment))
    if ends_user_turn(moment.turn):
        progress.user_turn, progress.start = moment.user_turn + 1, moment.index + 1
    return new


def request_of(criterion: Criterion, moment: Moment) -> JudgeRequest | None:
    """Return what to ask a judge at a moment, or None where the channel has nothing to judge."""
    if criterion.at_end:
        turns = moment.scope(criterion)
        text = "\n\n".join(filter(None, (_text(criterion, turn, moment) for turn in turns)))
    else:
        text = _text(criterion, moment.turn, moment)
    if not text.strip() and not criterion.at_end:
        return None
    return JudgeRequest(
        criterion.question,
        text,
        criterion.focus,
        context=_context(moment),
        condition=criterion.condition,
        evidence=criterion.evidence,
        fail_examples=criterion.fail_examples,
        polarity=criterion.polarity,
        max_chars=criterion.channel_max_chars,
    )


def evidence_text(id_: str, hit: Hit, *, mine: bool = False) -> str:
    """Return a hit as one line of JSON for `Score.evidence`."""
    row: dict[str, JSON] = {
        "criterion": id_,
        "turn": hit.user_turn,
        "step": hit.index,
        "channel": hit.evidence.channel,
        "start": hit.evidence.start,
        "end": hit.evidence.end,
        "quote": hit.evidence.quote,
    }
    return json.dumps({**row, "minefield": True} if mine else row, ensure_ascii=False)


def _due(c: Criterion, progress: Progress, moment: Moment, keep_asking: bool) -> bool:
    if c.never:
        return c.id not in progress.mines and (c.turn in ("any", moment.user_turn))
    if c.id in progress.met and not (keep_asking and c.kind == "judge"):
        return False
    if c.turn not in ("any", moment.user_turn) or (c.deadline and moment.step(c) > c.deadline):
        return False
    if c.at_end and not (moment.over if c.turn == "any" else moment.ends):
        return False
    return all(id_ in progress.met and progress.met[id_].index < moment.index for id_ in c.after)


def _evidence(
    checklist: Checklist, criterion: Criterion, moment: Moment, verdict: Verdict | None, progress: Progress
) -> Evidence | None:
    if criterion.kind == "rule":
        return match(criterion, moment)
    if criterion.kind == "program":
        return Evidence("program", criterion.program) if _program(checklist, criterion, moment) else None
    if verdict is None:
        return None
    if verdict.abstained:
        progress.abstained[criterion.id] = verdict.reasons or verdict.code
        return None
    if not verdict.passed:
        return None
    start, end = verdict.span or (0, 0)
    return Evidence(criterion.focus, verdict.quote, start, end)


def _program(checklist: Checklist, criterion: Criterion, moment: Moment) -> bool:
    try:
        return bool(checklist.function(criterion)(moment.view))
    except LookupError:  # what it looks for is not there (yet)
        return False
    except Exception as error:  # noqa: BLE001 - a program may fail on what a policy did; that buys nothing
        warnings.warn(
            f"{checklist.where}: program {criterion.id!r} ({criterion.program}) failed with {type(error).__name__}:"
            f" {error}; the criterion counts as not met",
            RuntimeWarning,
            stacklevel=2,
        )
        return False


def _lost(c: Criterion, progress: Progress, moment: Moment) -> bool:
    """Whether a critical criterion is unmet and its time is over."""
    if not c.critical or c.id in progress.met or c.turn not in ("any", moment.user_turn):
        return False
    over = moment.over if c.turn == "any" else moment.ends
    return over or bool(c.deadline and moment.step(c) >= c.deadline)


def _text(criterion: Criterion, turn: Turn, moment: Moment) -> str:
    return channel_text(criterion.focus, turn, moment.view.state if turn is moment.turn else None)


def _context(moment: Moment) -> str:
    """Return what a judge may need to know: the task, and what the tools returned in this user turn."""
    results = (channel_text("results", turn) for turn in moment.view.turns[moment.start : moment.index + 1])
    shown = "\n\n".join(filter(None, results))[-_CONTEXT_CHARS:]
    task = f"Task: {moment.view.question}"
    return f"{task}\n\nReturned by tools so far:\n{shown}" if shown else task
