"""How many of the facts that a good long answer states does the answer state?"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from agentgym.errors import ConfigError, suggestion
from agentgym.rewards.citations import cited_texts, shown_texts
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.normalize import robust
from agentgym.task import Gold, Nugget
from agentgym.types import Score

Mode = Literal["lenient", "strict", "vital", "vital_strict"]
LABELS = ("not_support", "partial_support", "support")
CREDIT: Mapping[str, float] = {"not_support": 0.0, "partial_support": 0.5, "support": 1.0}
MAX_WORDS = 400
"""Words of an answer that are read; what follows states nothing."""
COPIED_RUN = 8
"""Length of a run of tokens that counts as copied."""
MAX_COPIED = 0.8
"""An answer of which a larger share is copied needs a citation."""
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n")
_NOT = frozenset(
    ("not", "no", "never", "neither", "nor", "without", "isnt", "wasnt", "arent", "werent", "didnt", "doesnt")
)
_SMALL = frozenset(
    ("of", "in", "on", "at", "by", "for", "to", "is", "are", "was", "were", "be", "been", "has", "had", "have")
) | {
    "and",
    "or",
    "as",
    "from",
    "with",
    "that",
    "which",
}


def coverage(labels: Sequence[str], nuggets: Sequence[Nugget], mode: Mode = "lenient") -> float:
    """Return Σ w·credit / Σ w over nuggets; credit 1 for support, .5 for partial_support (0 if strict).

    Args:
        labels: one of `LABELS` for each nugget.
        nuggets: in the same order.
        mode: "strict" gives nothing for partial support; "vital" counts vital nuggets only.

    Source: the nugget metrics of TREC RAG ("AutoNuggetizer"), as Search-Gen-V uses them for rewards.
    """
    pairs = [(label, n) for label, n in zip(labels, nuggets, strict=True) if n.vital or not mode.startswith("vital")]
    credit = {**CREDIT, "partial_support": 0.0} if mode.endswith("strict") else CREDIT
    total = sum(n.weight for _, n in pairs)
    return sum(n.weight * credit[label] for label, n in pairs) / total if total else 0.0


class NuggetCoverage(Component):
    """Σ w·{1, .5, 0} / Σ w over the gold nuggets: stated, half stated, not stated.

    A nugget is stated if one sentence of the answer holds nine tenths of its content words (after `robust`), half
    stated from more than half of them; a sentence that denies (not, never, …) where the nugget does not states nothing. This is a
    lexical form for tests and worlds; `nugget_coverage_judged` asks a judge. The first 400 words are read. An answer
    that copies more than .8 of its words from shown documents, in runs of eight, needs a citation of one of them.

    Modes: lenient, strict (no credit for half), vital (vital nuggets only), vital_strict.

    Source: Search-Gen-V (nugget verifier rewards). Deviations: no model in this form; guards against pasting.
    """

    name = "nugget_coverage"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.nuggets"})

    def __init__(self, mode: Mode = "lenient") -> None:
        """Choose the mode. Raises ConfigError for another."""
        if mode not in get_args(Mode):
            raise ConfigError(
                f"{self.name}: mode={mode!r} is not known; allowed: {', '.join(get_args(Mode))}"
                f"{suggestion(str(mode), get_args(Mode))}"
            )
        self.mode: Mode = mode

    def complaint(self, gold: Gold) -> str:
        """Refuse nuggets that say nothing or count nothing."""
        return nugget_complaint(gold, self.mode)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the submitted answer; `parts` hold the credit of each nugget."""
        if reason := unread(view):
            return Score("trajectory", 0.0, reason=reason)
        sentences = [robust(s).split() for s in _SENTENCE.split(read_part(view.answer or ""))]
        labels = [_label(robust(nugget.text).split(), sentences) for nugget in view.gold.nuggets]
        return nugget_score(labels, view.gold.nuggets, self.mode)


def nugget_complaint(gold: Gold, mode: Mode) -> str:
    """Return why nuggets cannot be scored; empty if they can."""
    for nugget in gold.nuggets:
        if not robust(nugget.text):
            return f"nothing is left of the text {nugget.text!r} of nugget {nugget.id!r} after normalisation"
    counted = [n for n in gold.nuggets if n.vital or not mode.startswith("vital")]
    if any(n.weight < 0 for n in counted) or not sum(n.weight for n in counted):
        return f"the weights of the nuggets that mode {mode!r} counts must not be negative, and not all 0"
    return ""


def nugget_score(labels: Sequence[str], nuggets: Sequence[Nugget], mode: Mode) -> Score:
    """Return the score of labelled nuggets."""
    parts = {n.id: CREDIT[label] for n, label in zip(nuggets, labels, strict=True)}
    reason = ", ".join(f"{labels.count(label)} {label}" for label in LABELS[::-1])
    return Score("trajectory", coverage(labels, nuggets, mode), reason=reason, parts=parts)


def read_part(answer: str) -> str:
    """Return the part of an answer that is read, lines kept."""
    words, kept = 0, []
    for line in answer.splitlines():
        room = MAX_WORDS - words
        if room <= 0:
            break
        kept.append(" ".join(line.split()[:room]))
        words += len(line.split())
    return "\n".join(kept)


def unread(view: EpisodeView) -> str:
    """Return why an answer states nothing: there is none, it is empty, or it is pasted without a citation."""
    if view.answer is None:
        return "no_answer"
    tokens = robust(read_part(view.answer)).split()
    if not tokens:
        return "empty_answer"
    if not cited_texts(view) and copied_share(tokens, shown_texts(view).values()) > MAX_COPIED:
        return "copied without a citation"
    return ""


def copied_share(tokens: Sequence[str], texts: Any) -> float:
    """Return the share of tokens that lie in a run of `COPIED_RUN` tokens which one of the texts holds."""
    runs = set()
    for text in texts:
        words = robust(text).split()
        runs |= {tuple(words[i : i + COPIED_RUN]) for i in range(len(words) - COPIED_RUN + 1)}
    copied = [False] * len(tokens)
    for i in range(len(tokens) - COPIED_RUN + 1):
        if tuple(tokens[i : i + COPIED_RUN]) in runs:
            copied[i : i + COPIED_RUN] = [True] * COPIED_RUN
    return sum(copied) / len(tokens) if tokens else 0.0


def _label(nugget: Sequence[str], sentences: Sequence[Sequence[str]]) -> str:
    content = [word for word in nugget if word not in _SMALL] or list(nugget)
    denies, best = bool(_NOT.intersection(nugget)), 0.0
    for sentence in sentences:
        if bool(_NOT.intersection(sentence)) == denies:
            words = set(sentence)
            best = max(best, sum(word in words for word in content) / len(content))
    return "support" if best >= 0.9 else "partial_support" if best > 0.5 else "not_support"


nugget_coverage = NuggetCoverage()
