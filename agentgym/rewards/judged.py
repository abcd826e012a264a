"""Components that ask a judge: the evidence of citations, and the facts of an answer.

Deferred: all requests of a batch go to the judge service in one call. What an episode lacks by the policy's own
making (no answer, nothing cited) is 0 without asking; a judge that abstains makes the score invalid.
"""

from collections.abc import Sequence
from typing import ClassVar, get_args

from agentgym import schema
from agentgym.errors import ConfigError, suggestion
from agentgym.judges import JudgeRequest, JudgeService, Verdict
from agentgym.rewards.citations import chain_score, cited_texts, precision, rubric_complaint, statements, unscored
from agentgym.rewards.component import DeferredComponent, EpisodeView
from agentgym.rewards.nuggets import LABELS, Mode, nugget_complaint, nugget_score, read_part, unread
from agentgym.task import Gold
from agentgym.types import Score, Trajectory

MAX_EVIDENCE_CHARS = 16_000
"""The cited texts share this many characters."""


class _JudgedComponent(DeferredComponent):
    """Turns each trajectory into requests, and their verdicts into its score."""

    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"

    def zero(self, view: EpisodeView) -> str:
        """Return why the episode scores 0 without a judge; empty if a judge is needed."""
        raise NotImplementedError

    def requests(self, view: EpisodeView) -> list[JudgeRequest]:
        """Return what to ask about an episode."""
        raise NotImplementedError

    def decide(self, view: EpisodeView, verdicts: Sequence[Verdict]) -> Score:
        """Return the score of verdicts that are all valid."""
        raise NotImplementedError

    def complete(self, trajectories: Sequence[Trajectory], service: JudgeService) -> list[dict[int, Score]]:
        """Return the score of every trajectory; the judge is called once."""
        views = [_view(trajectory) for trajectory in trajectories]
        zeros = [self.zero(view) for view in views]
        asked = [[] if zero else self.requests(view) for view, zero in zip(views, zeros, strict=True)]
        everything = [request for requests in asked for request in requests]
        verdicts = service.judge(everything) if everything else []
        if len(verdicts) != len(everything):
            raise ConfigError(
                f"{self.name}: the judge returned {len(verdicts)} verdicts for {len(everything)} requests"
            )
        scores, at = [], 0
        for view, zero, requests in zip(views, zeros, asked, strict=True):
            mine, at = verdicts[at : at + len(requests)], at + len(requests)
            scores.append({-1: Score("trajectory", 0.0, reason=zero) if zero else self._score(view, mine)})
        return scores

    def _score(self, view: EpisodeView, verdicts: Sequence[Verdict]) -> Score:
        failed = next((verdict for verdict in verdicts if not verdict.valid), None)
        if failed is None:
            return self.decide(view, verdicts)
        reason = f"the judge abstained ({failed.code}): {failed.reasons}"
        return Score("trajectory", None, valid=False, reason=reason)


def _view(trajectory: Trajectory) -> EpisodeView:
    return EpisodeView(
        question=trajectory.question,
        gold=schema.from_json(Gold, trajectory.gold or {}, f"trajectory {trajectory.id}: gold"),
        prompt=trajectory.prompt,
        turns=trajectory.turns,
        answer=trajectory.answer,
        citations=trajectory.citations,
        end_reason=trajectory.end_reason,
    )


class JudgedCitationRubric(_JudgedComponent):
    """citation_rubric with a judge for the support: does the cited, shown text say the rubric with its gold names?

    One request per rubric, over the shown text of the first 20 cited documents. The chain from <E0> and the
    condition that the answer is a gold one stay as in `citation_rubric`.

    Source: CaRR / C-GRPO. Deviation: the slots hold the gold entities; the paper has a judge read them off the
    response.
    """

    name = "citation_rubric_judged"
    needs = frozenset({"gold.rubrics", "gold.answers", "events.documents", "events.citations", "judge"})
    is_outcome = False
    tied: ClassVar = {"answer_em": ((0.0, 0.0), (0.0, 1.0))}

    def __init__(self, times_precision: bool = False) -> None:
        """Say whether unsupported citations lower the score."""
        self.times_precision = times_precision
        if times_precision:
            self.needs = self.needs | {"gold.doc_ids"}

    def complaint(self, gold: Gold) -> str:
        """Refuse rubrics that nothing could satisfy."""
        return rubric_complaint(gold)

    def zero(self, view: EpisodeView) -> str:
        """Return why there is no chain."""
        return unscored(view)

    def requests(self, view: EpisodeView) -> list[JudgeRequest]:
        """Return one request per rubric."""
        cited = list(cited_texts(view).values())
        share = MAX_EVIDENCE_CHARS // len(cited)
        text = "\n\n".join(document[:share] for document in cited)
        return [
            JudgeRequest(f"The text states: {statement.text}.", text, "document", context=view.question)
            for statement in statements(view.gold)
        ]

    def decide(self, view: EpisodeView, verdicts: Sequence[Verdict]) -> Score:
        """Return the weight of the supported, connected rubrics."""
        factor = precision(view)[0] if self.times_precision else 1.0
        return chain_score(statements(view.gold), [verdict.passed for verdict in verdicts], factor)


class JudgedNuggetCoverage(_JudgedComponent):
    """nugget_coverage with a judge's label for each nugget: support, partial_support or not_support.

    Source: Search-Gen-V. Deviation: one request per nugget instead of blocks, and labels are chosen from a list,
    never parsed out of free text.
    """

    name = "nugget_coverage_judged"
    needs = frozenset({"gold.nuggets", "judge"})

    def __init__(self, mode: Mode = "lenient") -> None:
        """Choose the mode, as for nugget_coverage. Raises ConfigError for another."""
        if mode not in get_args(Mode):
            raise ConfigError(
                f"{self.name}: mode={mode!r} is not known; allowed: {', '.join(get_args(Mode))}"
                f"{suggestion(str(mode), get_args(Mode))}"
            )
        self.mode: Mode = mode

    def complaint(self, gold: Gold) -> str:
        """Refuse nuggets that say nothing or count nothing."""
        return nugget_complaint(gold, self.mode)

    def zero(self, view: EpisodeView) -> str:
        """Return why the answer states nothing."""
        return unread(view)

    def requests(self, view: EpisodeView) -> list[JudgeRequest]:
        """Return one request per nugget."""
        text = read_part(view.answer or "")
        return [
            JudgeRequest(f"The text states: {n.text}", text, "answer", context=view.question, labels=LABELS)
            for n in view.gold.nuggets
        ]

    def decide(self, view: EpisodeView, verdicts: Sequence[Verdict]) -> Score:
        """Return the coverage of the labels."""
        labels = [v.label if v.label in LABELS else LABELS[0] for v in verdicts]
        return nugget_score(labels, view.gold.nuggets, self.mode)


citation_rubric_judged = JudgedCitationRubric()
nugget_coverage_judged = JudgedNuggetCoverage()
