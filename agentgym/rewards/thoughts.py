"""A judged component over the policy's own reasoning: the only family that reads thoughts."""

import re
from collections.abc import Sequence

from agentgym.judges import JudgeRequest, Verdict
from agentgym.rewards.component import EpisodeView
from agentgym.rewards.judged import _JudgedComponent
from agentgym.types import Score

MIN_CHARS = 20
"""Shorter atoms are none."""
_OPEN = re.compile(r"<([A-Z][A-Z_]{1,39})>")


def atoms(thought: str) -> list[tuple[str, str]]:
    """Return (name, text) of the atoms that a thought is made of: <OBSERVATION>…</OBSERVATION>, in capitals.

    Linear in the text: an atom ends at the first closing tag of its name, what is not closed is none, and what lies
    inside an atom belongs to it.
    """
    found: list[tuple[str, str]] = []
    unclosed: set[str] = set()
    at = 0
    while opening := _OPEN.search(thought, at):
        name = opening.group(1)
        end = -1 if name in unclosed else thought.find(f"</{name}>", opening.end())
        if end < 0:
            unclosed.add(name)
            at = opening.end()
            continue
        found.append((name, thought[opening.end() : end].strip()))
        at = end + len(name) + 3
    return found


class AtomicThought(_JudgedComponent):
    """Mean judged score of the atoms of reasoning, the first 8 of an episode; no atoms: 0.

    An atom is what the policy marked as one inside its thought (<OBSERVATION>, <RISK_ANALYSIS>, …), of at least
    20 characters: many tiny ones add nothing. Meant to fade while training goes on.

    Source: Atom-Searcher (atomic thought reward). Deviations: a yes-no judge with a quote in the place of a reward
    model's scale; at most 8 atoms count; the outcome that it is mixed with is a component of its own.
    """

    name = "atomic_thought"
    needs = frozenset({"judge"})
    is_outcome = False
    reads_thought = True

    def __init__(self, max_atoms: int = 8) -> None:
        """Set how many atoms count."""
        self.max_atoms = max_atoms

    def zero(self, view: EpisodeView) -> str:
        """No atoms, no score."""
        return "" if self._atoms(view) else "no atoms of reasoning"

    def requests(self, view: EpisodeView) -> list[JudgeRequest]:
        """Ask about each atom by itself."""
        return [
            JudgeRequest(
                criterion=f"This {name.lower().replace('_', ' ')} is sound and helps to answer the question.",
                text=text,
                channel="thought",
                context=view.question,
            )
            for name, text in self._atoms(view)
        ]

    def decide(self, view: EpisodeView, verdicts: Sequence[Verdict]) -> Score:
        """Return the mean."""
        raw = sum(verdict.score for verdict in verdicts) / len(verdicts)
        return Score("trajectory", raw, reason=f"{len(verdicts)} atoms")

    def _atoms(self, view: EpisodeView) -> list[tuple[str, str]]:
        every = (atom for turn in view.turns for atom in atoms(turn.thought) if len(atom[1]) >= MIN_CHARS)
        return [atom for atom, _ in zip(every, range(self.max_atoms), strict=False)]


atomic_thought = AtomicThought()
