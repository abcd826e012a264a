"""What the user was told, and what the user was asked."""

import re
from dataclasses import dataclass
from typing import Any

from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.events import replies, words_of
from agentgym.rewards.normalize import robust
from agentgym.task import Answer, Gold, HiddenFact
from agentgym.types import Score

_NUMBER = re.compile(r"(?<![\w.,#/:-])[-+−]?[$€£¥]?\s?\d{1,15}(?:,\d{3})*(?:\.\d{1,15})?(?![\w#/:-])")


def numbers_in(text: str) -> list[float]:
    """Return the numbers that stand alone in a text; dates, times, versions and ids (#W23, 555-0142) hold none."""
    return [_value(found) for found in _NUMBER.findall(text)]


def _value(found: str) -> float:
    return float(re.sub(r"[^\d.\-]", "", found.replace("−", "-")))


class Communicate(Component):
    """The share of gold's facts that some reply to the user states. Graded: success means all of them.

    Replies are typed events: what the tools `reply` and `finish` said, what other tools recorded as said, and the
    final answer. A text counts if it is a run of tokens of one reply after robust normalisation; a number counts if
    the reply holds that number (within `Answer.tol`). Nobody tells a number by telling all: numbers count only while
    no more than `max_numbers` different ones per number fact were told, those of the question aside.

    Source: τ-bench's communicate check (a substring of a message, commas removed). A reply that denies a fact or
    lists alternatives passes here as there; a checklist with a judge can tell them apart.
    """

    name = "communicate"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.communicate"})

    def __init__(self, max_numbers: int = 3) -> None:
        """Set how many different numbers may be told for each fact that is a number."""
        self.max_numbers = max_numbers

    def complaint(self, gold: Gold) -> str:
        """Refuse facts that no reply could state."""
        for fact in gold.communicate:
            if fact.type == "number" and not numbers_in(fact.text):
                return f"the fact {fact.text!r} is of type number and holds none; write the number alone"
            if fact.type != "number" and not any(robust(text) for text in (fact.text, *fact.aliases)):
                return f"nothing is left of the fact {fact.text!r} after normalisation; correct it"
        return ""

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        facts, told = view.gold.communicate, replies(view.turns, view.answer)
        told_numbers = self._numbers(view, told)
        texts = [f" {robust(reply)} " for reply in told]
        missing = [
            fact.text
            for fact in facts
            if not (_tells_number(fact, told_numbers) if fact.type == "number" else _tells_text(fact, texts))
        ]
        raw = (len(facts) - len(missing)) / len(facts)
        return Score("trajectory", raw, reason=f"{len(facts) - len(missing)} of {len(facts)} told", evidence=tuple(missing))

    def _numbers(self, view: EpisodeView, told: list[str]) -> list[float]:
        """Return the numbers of the replies, up to the one that holds too many."""
        allowed = self.max_numbers * sum(fact.type == "number" for fact in view.gold.communicate)
        known, counted = set(numbers_in(view.question)), []
        for reply in told:
            found = numbers_in(reply)
            if len({*counted, *found} - known) > allowed:
                break
            counted += found
        return counted


def _tells_number(fact: Answer, told: list[float]) -> bool:
    wanted = [number for text in (fact.text, *fact.aliases) for number in numbers_in(text)[:1]]
    return any(abs(given - number) <= fact.tol + 1e-9 * max(1.0, abs(number)) for given in told for number in wanted)


def _tells_text(fact: Answer, replies_: list[str]) -> bool:
    forms = [form for text in (fact.text, *fact.aliases) if (form := robust(text))]
    return any(f" {form} " in reply for form in forms for reply in replies_)


@dataclass(slots=True)
class AskState:
    """What is still hidden."""

    hidden: dict[str, HiddenFact]
    total: float


class AskGain(Component):
    """Σ w of the hidden facts that this turn's questions revealed for the first time / Σ w of all.

    The simulated user names the facts that it gave away (event "revealed"); at most `max_facts` pay per question and
    the others are spent, so that "tell me everything" is worse than asking. What is visible anyway, or was revealed
    before, pays nothing.

    Source: proactive information gathering (1 for each answer that cites a hidden sentence). Deviations: a fact pays
    once, by weight, and a question has a limit.
    """

    name = "ask_gain"
    scope = "turn"
    range = (0.0, 1.0)
    supply = "once"
    needs = frozenset({"gold.hidden_facts", "events.revealed"})

    def __init__(self, max_facts: int = 2) -> None:
        """Set how many facts pay per question."""
        self.max_facts = max_facts

    def start(self, view: EpisodeView) -> AskState:
        """Return all facts as hidden."""
        facts = {fact.id: fact for fact in view.gold.hidden_facts}
        return AskState(facts, sum(fact.weight for fact in facts.values()))

    def score(self, view: EpisodeView, state: AskState) -> Score:
        """Score the last turn."""
        raw, found = 0.0, []
        for result in view.turns[-1].results:
            if not result.ok:
                continue
            new = [id_ for id_ in dict.fromkeys(words_of(result.events.get("revealed"))) if id_ in state.hidden]
            facts = [state.hidden.pop(id_) for id_ in new]
            raw += sum(fact.weight for fact in facts[: self.max_facts]) / state.total
            found += new
        return Score("turn", raw, reason=f"{len(found)} hidden facts revealed" if found else "")


communicate = Communicate()
ask_gain = AskGain()
