"""The outcome of shopping: how well what was bought fits what was asked for."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from agentgym.gold import Product
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.events import last, words_of
from agentgym.task import Gold
from agentgym.typed import is_number
from agentgym.types import JSON, Score

MIN_RATIO = 0.85
"""Ratio of token sets above which two attributes or options are the same."""
_MAX_CHARS = 300
_WORD = re.compile(r"\w+")
_STOP = frozenset(("a", "an", "and", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"))


def token_set_ratio(a: str, b: str) -> float:
    """Return the likeness of two texts as sets of words, 0..1: 1 if one's words are among the other's.

    Source: the fuzzy token-set ratio of WebShop. Deviation: `difflib`'s ratio of sorted words.
    """
    one, two = (set(_WORD.findall(text[:_MAX_CHARS].lower())) for text in (a, b))
    common = " ".join(sorted(one & two))
    with_a, with_b = (" ".join(filter(None, (common, *sorted(rest)))) for rest in (one - two, two - one))
    pairs = [(with_a, with_b), *([(common, with_a), (common, with_b)] if common else [])]
    return max(difflib.SequenceMatcher(None, x, y, autojunk=False).ratio() if x and y else 0.0 for x, y in pairs)


class WebShopScore(Component):
    """r_type · (attributes + options + [price in the limit]) / (their number in the goal + 1), for what was bought.

    Graded; the success rate counts 1 only. r_type is 1; .5 if neither shelf, category (two levels) nor a fifth of the
    title's words agree; .1 if less than a tenth of the title's words do; 0 if none does. Nothing bought is 0.

    Source: WebShop. Deviation: words of titles in the place of its tagger's nouns.
    """

    name = "webshop_score"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.product", "events.purchase"})

    def complaint(self, gold: Gold) -> str:
        """Refuse a goal that everything fits."""
        goal = gold.product
        if goal and not (goal.title or goal.query or goal.category):
            return "its product has no title, query or category, so no product could be of its type"
        return ""

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        goal, bought = view.gold.product, last(view.turns, "bought")
        if goal is None or not isinstance(bought, dict):
            return Score("trajectory", 0.0, reason="nothing bought")
        kind = type_match(bought, goal)
        attributes = _found(goal.attributes, words_of(bought.get("attributes")))
        options = _found(goal.options, words_of(bought.get("options")))
        price: JSON = bought.get("price")
        affordable = goal.price_max is None or (is_number(price) and float(price) <= goal.price_max)
        raw = kind * (attributes + options + affordable) / (len(goal.attributes) + len(goal.options) + 1)
        parts = {"type": kind, "attributes": float(attributes), "options": float(options), "price": float(affordable)}
        return Score("trajectory", raw, reason="bought", parts=parts)


def type_match(bought: dict[str, JSON], goal: Product) -> float:
    """Return r_type: 1, .5, .1 or 0."""
    title = _title_share(_text(bought, "title"), goal.title)
    category = len(_levels(_text(bought, "category")) & _levels(goal.category)) >= 2
    query = bool(goal.query) and _text(bought, "query").strip().lower() == goal.query.strip().lower()
    if not goal.title:
        return 1.0 if query or category else 0.5
    if title == 0.0:
        return 0.0
    if title < 0.1:
        return 0.1
    return 1.0 if query or category or title > 0.2 else 0.5


def _title_share(given: str, goal: str) -> float:
    wanted = set(_WORD.findall(goal.lower())) - _STOP
    return len(wanted & set(_WORD.findall(given.lower()))) / len(wanted) if wanted else 0.0


def _levels(category: str) -> set[str]:
    return {level.strip().lower() for level in re.split("[›>]", category) if level.strip()}


def _text(bought: dict[str, JSON], key: str) -> str:
    value = bought.get(key)
    return value if isinstance(value, str) else ""


def _found(wanted: Sequence[str], given: Sequence[str]) -> int:
    return sum(any(token_set_ratio(w, g) > MIN_RATIO for g in given) for w in wanted)


webshop_score = WebShopScore()
