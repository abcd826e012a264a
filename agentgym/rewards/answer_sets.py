"""The outcome of questions with several answers: F1 of the set that was given and the set that is right."""

import json
from collections.abc import Sequence
from typing import Any

from agentgym.rewards.answers import empty_answer
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.normalize import robust
from agentgym.task import Gold
from agentgym.types import Score


def set_f1(items: Sequence[str], golds: Sequence[Sequence[str]], *, ordered: bool = False) -> float:
    """Return 2·|P ∩ G| / (|P| + |G|).

    Args:
        items: what was given. Empty items, repeats, and a second name of an answer that was named already are
            left out of P.
        golds: the names of each right answer. An item is a right answer if it equals one of its names after
            `robust`; one item counts for one answer, by the assignment that makes most of them right.
        ordered: only answers in the right order count: the longest such run of items, gaps allowed.
    """
    forms = list(dict.fromkeys(form for item in items if (form := robust(item))))
    names = [{robust(name) for name in gold} - {""} for gold in golds]
    candidates = [[g for g, known in enumerate(names) if form in known] for form in forms]
    named = _matched(candidates)
    right = _in_order(candidates, len(names)) if ordered else named
    wrong = sum(not gold for gold in candidates)
    return 2.0 * right / (named + wrong + len(names)) if right else 0.0


def _matched(candidates: Sequence[Sequence[int]]) -> int:
    """Return the size of the largest one-to-one assignment of items to answers."""
    owner: dict[int, int] = {}

    def assign(item: int, tried: set[int]) -> bool:
        for gold in candidates[item]:
            if gold not in tried:
                tried.add(gold)
                if gold not in owner or assign(owner[gold], tried):
                    owner[gold] = item
                    return True
        return False

    return sum(assign(item, set()) for item in range(len(candidates)))


def _in_order(candidates: Sequence[Sequence[int]], n_golds: int) -> int:
    """Return the size of the largest one-to-one assignment that keeps the order of both sides."""
    best = [0] * (n_golds + 1)
    for golds in candidates:
        after = list(best)
        for g in golds:
            after[g + 1] = max(after[g + 1], best[g] + 1)
        for g in range(n_golds):
            after[g + 1] = max(after[g + 1], after[g])
        best = after
    return best[-1]


def answer_items(view: EpisodeView) -> list[str]:
    """Return the items of the submitted answer.

    A list that the final call took (`data["items"]`, or `data["answer"]` where that is a list), a text that is a
    JSON list of strings, or the whole text as one item: text is never split, so that one string cannot name many.
    """
    result = view.turns[-1].results[-1] if view.turns and view.turns[-1].results else None
    if result is not None and result.ok and isinstance(result.data, dict):
        for key in ("items", "answer"):
            if isinstance(result.data.get(key), list):
                return [str(item) for item in result.data[key]]
    text = (view.answer or "").strip()
    if text.startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError):
            return [text]
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return items
    return [text]


class AnswerSetF1(Component):
    """F1 of the set of answers, 2·|P ∩ G| / (|P| + |G|): items from the answer's list, aliases resolved, once each.

    Graded: success means F1 = 1. One string that names all answers is one wrong item, and a hundred names with the
    three right ones among them get 6/103. With answer_mode "ordered" answers in the wrong order are not right.

    Source: F1 of knowledge-graph question answering ("Reasoning on Graphs", WebQSP and CWQ tables). Deviations:
    items are compared as wholes after `robust`, where that scorer looks for substrings of lines and can exceed 1.
    """

    name = "answer_set_f1"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.answers"})

    def complaint(self, gold: Gold) -> str:
        """Refuse empty answers, and answers that are alternatives of each other."""
        if len(gold.answers) > 1 and gold.answer_mode == "any":
            return "its answers are alternatives (answer_mode 'any'); use answer_em or answer_f1, or answer_mode 'all'"
        return empty_answer(gold)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the submitted answer."""
        if view.answer is None:
            return Score("trajectory", 0.0, reason="no_answer")
        items = answer_items(view)
        golds = [(answer.text, *answer.aliases) for answer in view.gold.answers]
        raw = set_f1(items, golds, ordered=view.gold.answer_mode == "ordered")
        return Score("trajectory", raw, reason="match" if raw == 1.0 else f"{len(items)} items" if raw else "no_match")


answer_set_f1 = AnswerSetF1()
