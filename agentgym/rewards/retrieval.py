"""Turn components over the documents that search results showed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from agentgym.rewards.answers import YES_NO
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.normalize import robust, robust_document
from agentgym.task import Gold
from agentgym.types import DocRef, Score, Turn

_NOTHING = Score("turn", 0.0)
_NOTHING_WANTED = Score("turn", 0.0, reason="gold names nothing that a document could show")
_REPEATED_QUERY = Score("turn", -1.0, reason="identical query")


def shown_documents(turn: Turn) -> list[DocRef]:
    """Return the documents that the successful results of a turn showed, in order."""
    return [document for result in turn.results if result.ok for document in result.documents]


@dataclass(slots=True)
class GainState:
    """What is still to be found."""

    wanted: set[str] | list[tuple[str, ...]]
    """Document ids; or, where the task has none, the normal forms of each answer, as " tokens "."""
    total: int
    seen: set[tuple[str, str]] = field(default_factory=set)
    """(by text) Ids and texts that were searched for the answer already."""


def evidence(gold: Gold) -> GainState:
    """Return what search results can show: the gold documents, or the answers where gold names no documents."""
    if gold.doc_ids:
        ids = set(gold.doc_ids)
        return GainState(ids, len(ids))
    answers = answer_runs(gold)
    return GainState(answers, len(answers))


def answer_runs(gold: Gold) -> list[tuple[str, ...]]:
    """Return for each answer its normal forms as " tokens "; yes/no answers cannot be found in a text."""
    answers = []
    for answer in gold.answers:
        forms = {robust(text) for text in (answer.text, *answer.aliases)} - YES_NO - {""}
        if forms:
            answers.append(tuple(f" {form} " for form in sorted(forms)))
    return answers


def take_evidence(documents: Sequence[DocRef], state: GainState) -> int:
    """Return how many wanted things the documents show for the first time; they are wanted no longer."""
    wanted = state.wanted
    if isinstance(wanted, set):
        new = wanted.intersection([d.id for d in documents])
        wanted -= new
        return len(new)
    before = len(wanted)
    for document in documents:
        # The same id may come back with other text (another window of a page), so the text is part of the key.
        key = document.id, document.text
        if key in state.seen:
            continue
        state.seen.add(key)
        wanted[:] = [forms for forms in wanted if not says(document, forms)]
    return before - len(wanted)


def says(document: DocRef, forms: Iterable[str]) -> bool:
    """Whether the title or the shown text of a document holds one of these " tokens " as a run of tokens."""
    texts = (robust_document(document.title), robust_document(document.text))
    return any(form in text for form in forms for text in texts)


class RetrievalGain(Component):
    """ΔΦ, Φ = recall of gold documents among those shown.

    Where the task names no documents, Φ is the share of gold answers that occur as a run of tokens in the title
    or shown text of a document; yes/no answers cannot be found that way and are left out. Only documents of
    successful results count: nothing that a policy writes is a document. Found once is found.
    """

    name = "retrieval_gain"
    scope = "turn"
    range = (-1.0, 1.0)
    supply = "potential"
    needs = frozenset({"gold.doc_ids|gold.answers", "events.documents"})

    def start(self, view: EpisodeView) -> GainState:
        """Return what is to be found."""
        return evidence(view.gold)

    def score(self, view: EpisodeView, state: GainState) -> Score:
        """Score the last turn."""
        if not state.wanted:
            return _NOTHING if state.total else _NOTHING_WANTED
        documents = shown_documents(view.turns[-1])
        found = take_evidence(documents, state) if documents else 0
        if not found:
            return _NOTHING
        left = len(state.wanted)
        # The difference of two shares, so that the increments add up to a share without drift of their own.
        raw = (state.total - left) / state.total - (state.total - left - found) / state.total
        return Score("turn", raw, reason=f"{state.total - left} of {state.total} found", parts={"new": float(found)})


@dataclass(slots=True)
class NoveltyState:
    """What earlier rounds asked and showed."""

    queries: set[tuple[str, str]] = field(default_factory=set)
    documents: set[str] = field(default_factory=set)


class QueryNovelty(Component):
    """−1 for a turn with a search that shows more than K documents again, or repeats a query.

    A round is one successful call that has the query argument; calls without it (opening a shown document) are
    not asked to be novel. Cost only: random queries that are always novel earn nothing.

    Source: SmartSearch's novelty O_t <= K. K is not in the text; ours is k − 1 for a round of k documents, so
    that only a round without a single new document is penalised.
    """

    name = "query_novelty"
    scope = "turn"
    range = (-1.0, 0.0)
    supply = "cost"

    def __init__(self, max_repeats: int | None = None, argument: str = "query") -> None:
        """Set K (None: k − 1) and the name of the argument that makes a call a search."""
        self.max_repeats = max_repeats
        self.argument = argument

    def start(self, view: EpisodeView) -> NoveltyState:
        """Return empty memory."""
        return NoveltyState()

    def score(self, view: EpisodeView, state: NoveltyState) -> Score:
        """Score the last turn; `parts["repeated"]` counts the documents shown again."""
        turn, worst = view.turns[-1], _NOTHING
        for call, result in zip(turn.calls, turn.results, strict=False):
            if not result.ok:
                continue
            query = call.arguments.get(self.argument)
            ids = {document.id for document in result.documents}
            if isinstance(query, str):
                asked = (call.name, robust(query))
                repeated = len(ids & state.documents)
                allowed = len(ids) - 1 if self.max_repeats is None else self.max_repeats
                if asked in state.queries:
                    worst = _REPEATED_QUERY
                elif ids and repeated > allowed:
                    worst = Score("turn", -1.0, reason=f"{repeated} of {len(ids)} shown again")
                state.queries.add(asked)
            state.documents |= ids
        return worst


retrieval_gain = RetrievalGain()
query_novelty = QueryNovelty()
