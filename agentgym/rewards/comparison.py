"""Scorers exactly as published, faults included: for tables beside published numbers, never for rewards.

Each is a plain function of the answer and the gold texts. Where a scorer's faults matter, its docstring names them.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agentgym.rewards.answers import YES_NO, squad_em, squad_f1
from agentgym.rewards.normalize import squad

__all__ = [
    "SCORERS",
    "SET_SCORERS",
    "dpr_has_answer",
    "hotpot_f1",
    "igpo_f1",
    "published_scores",
    "rog_accuracy",
    "rog_f1",
    "rog_hit",
    "search_r1_em",
    "search_r1_sub_em",
    "squad_em",
    "squad_f1",
]

_TO_SPACE = str.maketrans(dict.fromkeys(string.punctuation, " "))


def hotpot_f1(answer: str, golds: Iterable[str]) -> float:
    """Return HotpotQA's answer F1, best over golds: token bags; 0 if either side is yes, no or noanswer and they differ.

    Source: HotpotQA evaluation script.
    """
    best = 0.0
    for gold in golds:
        given, right = squad(answer), squad(gold)
        if given != right and (given in YES_NO or right in YES_NO):
            continue
        best = max(best, squad_f1(answer, [gold]))
    return best


def dpr_has_answer(text: str, golds: Iterable[str]) -> float:
    """Return 1.0 if the tokens of a gold answer are a run of tokens of the text.

    Tokens are runs of letters, digits and marks, or single other visible characters; NFD, lower case.

    Source: Dense Passage Retrieval (SimpleTokenizer, match type "string"). Its deviation from EM: articles and
    punctuation count.
    """
    tokens = _dpr_tokens(text)
    for gold in golds:
        wanted = _dpr_tokens(gold)
        if any(tokens[i : i + len(wanted)] == wanted for i in range(len(tokens) - len(wanted) + 1)):
            return 1.0
    return 0.0


def _dpr_tokens(text: str) -> list[str]:
    tokens, word = [], ""
    for char in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(char)[0]
        if kind in "LNM":
            word += char
            continue
        if word:
            tokens.append(word.lower())
        word = ""
        if kind not in "ZC":
            tokens.append(char.lower())
    return [*tokens, word.lower()] if word else tokens


def search_r1_em(answer: str, golds: Iterable[str]) -> float:
    """Return Search-R1's exact match: SQuAD's normal forms are equal. "" is right where the gold is an article."""
    return squad_em(answer, golds)


def search_r1_sub_em(answer: str, golds: Iterable[str]) -> float:
    """Return Search-R1's cover match: a gold's normal form is a substring of characters of the answer's.

    A gold that normalises to nothing is in every answer, and "art" is in "Bart".
    """
    given = squad(answer)
    return float(any(squad(gold) in given for gold in golds))


def igpo_f1(answer: str, golds: Iterable[str]) -> float:
    """Return IGPO's F1, best over golds: sets of tokens, punctuation as space, articles kept.

    "New York New York" equals "New York".

    Source: IGPO and MatchTIR (released scorers).
    """
    best, given = 0.0, set(answer.lower().translate(_TO_SPACE).split())
    for gold in golds:
        right = set(gold.lower().translate(_TO_SPACE).split())
        best = max(best, 2.0 * len(given & right) / (len(given) + len(right)) if given & right else 0.0)
    return best


def rog_hit(answer: str, golds: Iterable[str]) -> float:
    """Return the knowledge-graph Hit: 1.0 if any gold is a substring of the whole prediction.

    Source: Reasoning on Graphs (RoG), WebQSP and CWQ.
    """
    return float(any(_rog_in(gold, answer) for gold in golds))


def rog_accuracy(answer: str, golds: Sequence[str]) -> float:
    """Return the knowledge-graph accuracy: the share of golds that are substrings of the prediction (RoG)."""
    return sum(_rog_in(gold, answer) for gold in golds) / len(golds) if golds else 0.0


def rog_f1(answer: str, golds: Sequence[str]) -> float:
    """Return RoG's F1: found golds over predicted lines as precision, over golds as recall.

    One line that names three golds has precision 3 and F1 1.5: not bounded by 1.
    """
    lines = answer.strip().split("\n")
    found = sum(_rog_in(gold, " ".join(lines)) for gold in golds)
    if not found:
        return 0.0
    precision, recall = found / len(lines), found / len(golds)
    return 2.0 * precision * recall / (precision + recall)


def _rog_in(gold: str, text: str) -> bool:
    return _rog(gold) in _rog(text)


def _rog(text: str) -> str:
    return " ".join(re.sub(r"\bpad\b", " ", squad(text)).split()) if "<pad>" in text.lower() else squad(text)


SCORERS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "squad_em": squad_em,
    "squad_f1": squad_f1,
    "hotpot_f1": hotpot_f1,
    "search_r1_em": search_r1_em,
    "search_r1_sub_em": search_r1_sub_em,
    "igpo_f1": igpo_f1,
}
"""Published scorers of one answer whose golds are alternatives."""
SET_SCORERS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "rog_hit": rog_hit,
    "rog_accuracy": rog_accuracy,
    "rog_f1": rog_f1,
}
"""Published scorers of a set of answers, one gold text each."""


def published_scores(answer: str | None, answers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return every published scorer's number for one answer; no answer is 0 everywhere.

    Args:
        answer: the submitted text, or None.
        answers: gold answers as plain JSON: {"text": ..., "aliases": [...]}, as in `Trajectory.gold`.
    """
    answers = list(answers)
    names = [text for gold in answers for text in (gold["text"], *gold.get("aliases", ()))]
    items = [gold["text"] for gold in answers]
    table = [(SCORERS, names), (SET_SCORERS, items)]
    return {n: 0.0 if answer is None else float(f(answer, g)) for scorers, g in table for n, f in scorers.items()}
