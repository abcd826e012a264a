"""The outcome of questions that a number answers: within a tolerance, in the right unit."""

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from agentgym.rewards.component import Component, EpisodeView
from agentgym.task import Answer, Gold
from agentgym.types import Score

_DASHES = str.maketrans(dict.fromkeys("−‐‑–—﹣－", "-") | {"\u00a0": " ", "\u202f": " ", "\u2009": " "})
_NUMBER = re.compile(
    r"(?<![\w.,])([-+]?)([$€£¥]?)[ ]?([-+]?)((?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+(?!\d)|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40})"
    r"(?:[eE]([-+]?\d{1,3}))?"
)
_ABOUT = frozenset(
    ("", "about", "approximately", "approx", "around", "roughly", "circa", "ca", "c", "exactly", "~", "≈")
)
_UNITS = {
    unit: names[0]
    for names in (
        ("km", "kilometre", "kilometer"),
        ("m", "metre", "meter"),
        ("cm", "centimetre", "centimeter"),
        ("mm", "millimetre", "millimeter"),
        ("mi", "mile"),
        ("ft", "foot", "feet"),
        ("kg", "kilogram", "kilogramme"),
        ("in", "inch"),
        ("g", "gram", "gramme"),
        ("t", "tonne"),
        ("lb", "pound"),
        ("h", "hour", "hr"),
        ("min", "minute"),
        ("s", "second", "sec"),
        ("%", "percent", "per cent", "percentage"),
        ("$", "usd", "dollar", "us dollar"),
        ("€", "eur", "euro"),
        ("£", "gbp", "pound sterling", "british pound"),
        ("¥", "yen", "jpy"),
    )
    for unit in names
}
_CURRENCIES = frozenset("$€£¥")
MAX_CHARS = 80
"""A longer text is no number, whatever stands in it."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and the words behind it."""

    value: float
    unit: str = ""


def read_quantity(text: str) -> Quantity | None:
    """Return the one number that a text is, with its unit, or None.

    Read are a sign, thousands separators, a decimal point, an exponent, a currency sign in front and up to three
    words of unit behind; before it only words like "about". Two numbers, a range or a sentence are None.
    """
    text = unicodedata.normalize("NFKC", text.translate(_DASHES)).translate(_DASHES).strip().rstrip(".")
    if len(text) > MAX_CHARS:
        return None
    found = _NUMBER.search(text)
    if found is None:
        return None
    before, after = text[: found.start()].strip().rstrip(".").casefold(), text[found.end() :].strip()
    sign, currency, inner, digits, exponent = found.groups()
    if _unit(before) in _CURRENCIES and not currency:
        currency, before = before, ""
    if before not in _ABOUT or (sign and inner) or any(c.isdigit() for c in after) or after[:1] in (",", "-", "/"):
        return None
    if len(after.split()) > 3 or (currency and after):
        return None
    value = float(digits.replace(",", "").replace(" ", "") + (f"e{exponent}" if exponent else ""))
    if not math.isfinite(value):
        return None
    return Quantity(-value if "-" in (sign, inner) else value, _unit(currency or after))


def _unit(text: str) -> str:
    text = " ".join(text.casefold().replace(".", "").split())
    for form in (text, text.removesuffix("s"), text.removesuffix("es")):
        if form in _UNITS:
            return _UNITS[form]
    return text.removesuffix("s") if len(text) > 3 else text


class AnswerNumber(Component):
    """1 if |p − g| ≤ max(Answer.tol, rel_tol·|g|) for a gold answer and the units agree.

    The answer must be one number (`read_quantity`): a sentence or a list of numbers is none. A unit that the answer
    states must be the gold one; an answer without a unit is read in it, unless `require_unit`. Nothing is converted.

    Source: numeric match of table and financial question answering; this form is our own.
    """

    name = "answer_number"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.answers"})
    failure_max = 0.0

    def __init__(self, rel_tol: float = 0.0, require_unit: bool = False) -> None:
        """Set the relative tolerance, and whether an answer without the unit is wrong."""
        self.rel_tol, self.require_unit = rel_tol, require_unit

    def complaint(self, gold: Gold) -> str:
        """Refuse answers that are no numbers."""
        for answer in gold.answers:
            if not _quantities(answer):
                return f"its answer {answer.text!r} is no number; use answer_em, or write the number alone"
        return ""

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the submitted answer."""
        if view.answer is None:
            return Score("trajectory", 0.0, reason="no_answer")
        given = read_quantity(view.answer)
        if given is None:
            return Score("trajectory", 0.0, reason="no_number")
        reasons = set()
        for answer in view.gold.answers:
            for gold in _quantities(answer):
                unit = gold.unit or _unit(answer.unit)
                if unit and given.unit != unit and (given.unit or self.require_unit):
                    reasons.add("other_unit")
                elif abs(given.value - gold.value) <= self._allowed(answer, gold.value):
                    return Score("trajectory", 1.0, reason="match")
        return Score("trajectory", 0.0, reason="other_unit" if reasons else "no_match")

    def _allowed(self, answer: Answer, value: float) -> float:
        # A hair more, so that 0.1 + 0.2 equals 0.3.
        return max(answer.tol, self.rel_tol * abs(value)) + 1e-12 * max(1.0, abs(value))


def _quantities(answer: Answer) -> list[Quantity]:
    return [q for text in (answer.text, *answer.aliases) if (q := read_quantity(text)) is not None]


answer_number = AnswerNumber()
