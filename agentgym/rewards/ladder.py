"""Search-R1's ladder: a little for form and for showing the answer, nearly everything for answering right."""

from typing import Any, ClassVar

from agentgym.rewards.answers import empty_answer, gold_texts, robust_em
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.costs import policy_error
from agentgym.rewards.retrieval import answer_runs, says, shown_documents
from agentgym.task import Gold
from agentgym.types import Score

STRUCTURE, RETRIEVAL, FINAL = 0.2, 0.1, 0.1


def ladder(*, valid: bool, answered: bool, correct: bool, retrieved: bool) -> float:
    """Return the step of the ladder.

    Right and valid 1; right .8; valid .2, and .1 more if a gold answer was shown; answered wrong and not valid .1.

    Source: Search-R1 (training search agents with format and retrieval rewards): structure .2, retrieval .1, final .1.
    """
    if answered and correct:
        return 1.0 if valid else 1.0 - STRUCTURE
    if valid:
        return STRUCTURE + (RETRIEVAL if retrieved else 0.0)
    return FINAL if answered else 0.0


class FormatLadder(Component):
    """0 · .1 · .2 · .3 · .8 · 1 by form, retrieval and answer (`ladder`).

    Valid: no turn had an error of the policy's making. Retrieved: a gold answer is a run of tokens in the title or
    shown text of a document. Every right answer (answer_em) is above every wrong one: .8 to 1 against 0 to .3.

    Source: Search-R1. Deviations: the form is read from events instead of matching tags in the transcript, so the
    thoughts are not asked for; documents are what tools returned, never a block that the policy wrote; robust EM;
    a gold answer must be whole tokens of a document, where the original looks for characters.
    """

    name = "format_ladder"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.answers"})
    is_outcome = False
    tied: ClassVar = {"answer_em": ((0.0, STRUCTURE + RETRIEVAL), (1.0 - STRUCTURE, 1.0))}

    def complaint(self, gold: Gold) -> str:
        """Refuse answers of which nothing is left after normalisation."""
        return empty_answer(gold)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        bad = next((code for turn in view.turns if (code := policy_error(turn))), "")
        answered = view.answer is not None
        correct = answered and robust_em(view.answer or "", gold_texts(view.gold)) == 1.0
        forms = [form for answer in answer_runs(view.gold) for form in answer]
        retrieved = any(says(document, forms) for turn in view.turns for document in shown_documents(turn))
        flags = {"valid": not bad, "answered": answered, "correct": correct, "retrieved": retrieved}
        parts = {name: float(flag) for name, flag in flags.items()}
        return Score(
            "trajectory", ladder(**flags), reason=bad or ", ".join(n for n, f in flags.items() if f), parts=parts
        )


format_ladder = FormatLadder()
