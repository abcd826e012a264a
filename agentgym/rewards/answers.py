"""Outcome components that compare the submitted answer with gold, and SQuAD's EM and F1 for reporting.

They read `view.answer`, which only a successful answer call sets: an answer inside a thought is none.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.normalize import mixed_script, robust, squad
from agentgym.task import Gold
from agentgym.types import Score

YES_NO = frozenset(("yes", "no", "noanswer"))
COVER_EXTRA_TOKENS = 8
"""An answer may have this many tokens more than the alias it covers."""
EXACT_CHARS = 3
"""Aliases of at most this many characters must be the whole answer to be covered."""


def gold_texts(gold: Gold) -> list[str]:
    """Return every accepted answer text: answers and their aliases, in order, without repeats."""
    texts = (text for answer in gold.answers for text in (answer.text, *answer.aliases))
    return list(dict.fromkeys(texts))


def empty_answer(gold: Gold) -> str:
    """Return the complaint about an answer that normalises to nothing under all its names; empty if there is none.

    Of alternatives one that is left is enough: public sets list emoji beside names.
    """
    gone = [a for a in gold.answers if not any(robust(text) for text in (a.text, *a.aliases))]
    if not gone or (gold.answer_mode == "any" and len(gone) < len(gold.answers)):
        return ""
    return f"nothing is left of its answer {gone[0].text!r} after normalisation; correct the text or give an alias"


def robust_em(answer: str, golds: Iterable[str]) -> float:
    """Return 1.0 if an alias equals the answer after `robust`, else 0.0; an empty answer equals nothing."""
    given = robust(answer)
    return float(bool(given) and any(given == robust(gold) for gold in golds))


def robust_f1(answer: str, golds: Iterable[str]) -> float:
    """Return the best F1 of token bags after `robust`.

    If either side is yes, no or noanswer, only equality counts (HotpotQA's guard).
    """
    return max((_guarded_f1(robust(answer), robust(gold)) for gold in golds), default=0.0)


def robust_cover(answer: str, golds: Iterable[str]) -> float:
    """Return 1.0 if an alias is a run of tokens of the answer, else 0.0.

    The answer may be at most `COVER_EXTRA_TOKENS` tokens longer than the alias (no lists of guesses); aliases
    of at most `EXACT_CHARS` characters and yes/no must be the whole answer.

    Source: cover-EM of the open-domain QA literature, which tests for a substring of characters.
    """
    given = robust(answer)
    return float(bool(given) and any(_covers(given, robust(gold)) for gold in golds))


def squad_em(answer: str, golds: Iterable[str]) -> float:
    """Return SQuAD's exact match (0.0 or 1.0), best over golds: for tables, not for rewards.

    It calls an empty answer right where the gold is an article.
    """
    given = squad(answer)
    return float(any(given == squad(gold) for gold in golds))


def squad_f1(answer: str, golds: Iterable[str]) -> float:
    """Return SQuAD's token F1, best over golds: for tables, not for rewards."""
    return max((_bag_f1(squad(answer), squad(gold)) for gold in golds), default=0.0)


def answer_scores(answer: str | None, answers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return em, f1, cover, squad_em and squad_f1 of one answer: what `eval` prints. No answer is 0 everywhere.

    Args:
        answer: the submitted text, or None.
        answers: gold answers as plain JSON: {"text": ..., "aliases": [...]}, as in `Trajectory.gold`.
    """
    golds = [text for gold in answers for text in (gold["text"], *gold.get("aliases", ()))]
    return {name: 0.0 if answer is None else measure(answer, golds) for name, measure in _MEASURES.items()}


def _guarded_f1(given: str, gold: str) -> float:
    if given != gold and (given in YES_NO or gold in YES_NO):
        return 0.0
    return _bag_f1(given, gold)


def _bag_f1(given: str, gold: str) -> float:
    given_tokens, gold_tokens = given.split(), gold.split()
    common = sum((Counter(given_tokens) & Counter(gold_tokens)).values())
    return 2.0 * common / (len(given_tokens) + len(gold_tokens)) if common else 0.0


def _covers(given: str, gold: str) -> bool:
    if not gold:
        return False
    if len(gold) <= EXACT_CHARS or gold in YES_NO:
        return given == gold
    short_enough = given.count(" ") <= gold.count(" ") + COVER_EXTRA_TOKENS
    return short_enough and f" {gold} " in f" {given} "


_MEASURES: dict[str, Callable[[str, Iterable[str]], float]] = {
    "em": robust_em,
    "f1": robust_f1,
    "cover": robust_cover,
    "squad_em": squad_em,
    "squad_f1": squad_f1,
}


class _AnswerComponent(Component):
    """Shared by the three: no answer scores 0 with reason "no_answer"."""

    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.answers"})
    measure: Callable[[str, Iterable[str]], float]

    def complaint(self, gold: Gold) -> str:
        """Refuse answers of which nothing is left after normalisation: no answer could equal them."""
        return empty_answer(gold)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the submitted answer."""
        if view.answer is None:
            return Score("trajectory", 0.0, reason="no_answer")
        if not robust(view.answer):
            return Score("trajectory", 0.0, reason="empty_answer")
        raw = type(self).measure(view.answer, gold_texts(view.gold))
        if not raw and mixed_script(view.answer):
            return Score("trajectory", 0.0, reason="mixed_script")
        return Score("trajectory", raw, reason="match" if raw == 1.0 else "partial" if raw else "no_match")


class AnswerEM(_AnswerComponent):
    """1 if the answer equals an alias after robust normalisation."""

    name = "answer_em"
    failure_max = 0.0
    measure = robust_em


class AnswerF1(_AnswerComponent):
    """The best token F1 over aliases. Graded: success means F1 = 1."""

    name = "answer_f1"
    measure = robust_f1


class AnswerCover(_AnswerComponent):
    """1 if the answer contains an alias as a run of tokens, within guards against lists."""

    name = "answer_cover"
    failure_max = 0.0
    measure = robust_cover


answer_em = AnswerEM()
answer_f1 = AnswerF1()
answer_cover = AnswerCover()
