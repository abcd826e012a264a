"""Trajectory components over the queries of an episode: which of them asked something new and found something."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from agentgym.rewards.answers import empty_answer, gold_texts, robust_em
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.normalize import robust
from agentgym.rewards.retrieval import evidence, take_evidence
from agentgym.task import Gold
from agentgym.types import Score, Turn

GAMMA, RIGHT_MIN, WRONG_MAX = 0.1, 0.6, 0.4


@dataclass(frozen=True, slots=True)
class Round:
    """One successful search."""

    turn: int
    repeated: int
    """Documents that an earlier result showed."""
    shown: int
    same_query: bool
    """An earlier search of the same tool asked the same, after normalisation."""
    found: int
    """Gold documents (or answers, where the task names no documents) that were shown for the first time."""

    def good(self, max_repeats: int | None = None) -> bool:
        """Whether it asked something new and found something; `max_repeats` None: one document less than shown."""
        allowed = self.shown - 1 if max_repeats is None else max_repeats
        return self.found > 0 and not self.same_query and self.repeated <= allowed


def rounds(turns: Sequence[Turn], gold: Gold, argument: str = "query") -> list[Round]:
    """Return the searches of an episode: successful calls that have the query argument."""
    wanted, documents, queries = evidence(gold), set[str](), set[tuple[str, str]]()
    found: list[Round] = []
    for turn in turns:
        for call, result in zip(turn.calls, turn.results, strict=False):
            if not result.ok:
                continue
            ids = {document.id for document in result.documents}
            new = take_evidence(result.documents, wanted)
            query = call.arguments.get(argument)
            if isinstance(query, str):
                asked = (call.name, robust(query))
                found.append(Round(turn.index, len(ids & documents), len(ids), asked in queries, new))
                queries.add(asked)
            documents |= ids
    return found


def composite(correct: bool, n_wrong: int, n_good: int) -> float:
    """Return max(1 − .1·n_wrong, .6) for a right episode, min(.1·n_good, .4) for a wrong one.

    Source: SmartSearch, r_comp. Its γ, φ_min and φ_max are not in the text; these keep every right episode above
    every wrong one.
    """
    return max(1.0 - GAMMA * n_wrong, RIGHT_MIN) if correct else min(GAMMA * n_good, WRONG_MAX)


class _QueryComponent(Component):
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    is_outcome = False

    def complaint(self, gold: Gold) -> str:
        """Refuse gold that no document can show."""
        if empty := empty_answer(gold):
            return empty
        if not evidence(gold).total:
            return "it names no gold documents and its answers are yes or no, so no search can be seen to find them"
        return ""


class QueryQuality(_QueryComponent):
    """max(1 − .1·n_wrong, .6) if the answer is right, else min(.1·n_good, .4), over the queries.

    A query is good if it is no repeat, shows at most K documents again, and shows gold evidence for the first time
    (a gold document; the answer, where the task names no documents). Padding is worth nothing: good queries run out
    with the gold documents, and .4 < .6.

    Source: SmartSearch (process rewards for queries), novelty ∧ usefulness. Deviations: usefulness is new gold
    evidence instead of a judge's opinion; K = k − 1 and the constants are ours (`composite`).
    """

    name = "query_quality"
    needs = frozenset({"gold.answers", "events.documents"})
    tied: ClassVar = {"answer_em": ((0.0, WRONG_MAX), (RIGHT_MIN, 1.0))}

    def __init__(self, max_repeats: int | None = None, argument: str = "query") -> None:
        """Set K (None: k − 1) and the name of the argument that makes a call a search."""
        self.max_repeats, self.argument = max_repeats, argument

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        correct = view.answer is not None and robust_em(view.answer, gold_texts(view.gold)) == 1.0
        asked = rounds(view.turns, view.gold, self.argument)
        good = sum(r.good(self.max_repeats) for r in asked)
        parts = {"good": float(good), "wrong": float(len(asked) - good)}
        reason = f"{good} of {len(asked)} queries good"
        return Score("trajectory", composite(correct, len(asked) - good, good), reason=reason, parts=parts)


class InfoDensity(_QueryComponent):
    """Share of the searches that show gold evidence for the first time; 0 without a search.

    Meant as `Gate(answer_em, info_density, 1.0)`: right answers earn 1 to 2, wrong ones 0. A mean over searches can
    be raised by searching once and knowing the rest, so it belongs behind the outcome.

    Source: Search-R2, EM·(1 + mean u). Deviation: u is new gold evidence instead of a judge's opinion.
    """

    name = "info_density"
    needs = frozenset({"gold.doc_ids|gold.answers", "events.documents"})

    def __init__(self, argument: str = "query") -> None:
        """Set the name of the argument that makes a call a search."""
        self.argument = argument

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        asked = rounds(view.turns, view.gold, self.argument)
        useful = sum(r.found > 0 for r in asked)
        return Score("trajectory", useful / len(asked) if asked else 0.0, reason=f"{useful} of {len(asked)} useful")


query_quality = QueryQuality()
info_density = InfoDensity()
