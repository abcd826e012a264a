"""What an index can give: which gold passages and answers can be found at all, and in how many searches.

Three searchers, from what a policy surely does to what it may at best do:

- `question`: one search with the question itself;
- `followed`: the question, then the titles of the best passages found that the question does not name, up to the budget
  of searches: a policy that looks up what it reads;
- `informed`: a searcher that knows each gold passage's title and the answer, and searches for a title, for it with the
  question, and for the answer with the question.

What the informed one misses, a reward for finding it can pay next to nobody.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentgym.errors import ConfigError
from agentgym.retrieval.protocol import Retriever
from agentgym.task import Task
from agentgym.types import JSON, Passage

SEARCHERS = ("question", "followed", "informed")
BLOCK = 64
"""Tasks searched together."""
_JUNK = re.compile(r"[^\w]+")
_ARTICLES = frozenset({"a", "an", "the"})
_NO_TEXT = frozenset({"yes", "no", "noanswer", "true", "false"})


@dataclass(slots=True)
class _Reach:
    """What one searcher found over all tasks."""

    passages: Counter[int] = field(default_factory=Counter)
    """Number of searches -> gold passages found first with that many."""
    complete: Counter[int] = field(default_factory=Counter)
    """Number of searches -> tasks all of whose gold passages were found by then."""
    answers: Counter[int] = field(default_factory=Counter)
    """Number of searches -> tasks an answer of which stood in a passage found by then."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The report."""

    n_tasks: int
    n_gold: int
    """Gold passages that tasks name."""
    n_present: int
    """Of those, how many are in the index."""
    n_with_gold: int
    """Tasks that name gold passages."""
    n_with_answer: int
    """Tasks whose answer is a text that a passage could hold (yes and no are none)."""
    k: int
    searches: int
    reach: dict[str, _Reach]
    missing: list[dict[str, JSON]]
    """One row a task whose gold the informed searcher could not find."""

    def share(self, searcher: str, what: str, within: int) -> float:
        """Return the share found within a number of searches; `what`: passages, complete or answers."""
        found: Counter[int] = getattr(self.reach[searcher], what)
        of = {"passages": self.n_gold, "complete": self.n_with_gold, "answers": self.n_with_answer}[what]
        return sum(n for searches, n in found.items() if searches <= within) / of if of else float("nan")

    def as_json(self) -> dict[str, JSON]:
        """Return counts, and the share found within 1, 2, … searches."""
        steps = range(1, self.searches + 1)
        return {
            "tasks": self.n_tasks,
            "k": self.k,
            "gold_passages": self.n_gold,
            "gold_present": self.n_present,
            "tasks_with_gold": self.n_with_gold,
            "tasks_with_answer_text": self.n_with_answer,
            "found": {
                s: {
                    what: [_rounded(self.share(s, what, n)) for n in (steps if s != "question" else (1,))]
                    for what in ("passages", "complete", "answers")
                }
                for s in SEARCHERS
            },
            "tasks_missing_gold": len(self.missing),
        }

    def text(self) -> str:
        """Return the report as lines for a person."""
        present = f" ({self.n_present / self.n_gold:.1%})" if self.n_gold else ""
        lines = [
            f"{self.n_tasks:,} tasks, {self.n_gold:,} gold passages, {self.n_present:,} of them in the index{present}",
            f"share found within that many searches of {self.k} passages each:",
            f"{'':10} {'searches':>8} {'gold passages':>14} {'tasks with all':>15} {'answer text':>12}",
        ]
        for searcher in SEARCHERS:
            for n in (1,) if searcher == "question" else sorted({2, self.searches} - {1}):
                cells = (self.share(searcher, what, n) for what in ("passages", "complete", "answers"))
                row = [f"{c:.1%}" if c == c else "-" for c in cells]
                lines.append(f"{searcher:10} {n:>8} {row[0]:>14} {row[1]:>15} {row[2]:>12}")
        if self.n_present < self.n_gold:
            lines.append("gold passages that are not in the index can never be found: was it built from the corpus of these tasks?")
        if self.missing:
            lines.append(f"{len(self.missing):,} tasks have gold that even the informed searcher misses (--missing FILE lists them)")
        return "\n".join(lines) + "\n"


def coverage(corpus: Retriever, tasks: Sequence[Task], *, k: int = 3, searches: int = 4) -> Coverage:
    """Return what a retriever can give to tasks.

    Args:
        corpus: what is searched.
        tasks: with gold passages, answers, or both.
        k: passages of one search.
        searches: the budget of an episode.

    Raises:
        ConfigError: no tasks, or none that says what is to be found.
    """
    if not any(task.gold.doc_ids or task.gold.answers for task in tasks):
        raise ConfigError("no task names a gold passage or an answer; there is nothing to look for")
    reach = {searcher: _Reach() for searcher in SEARCHERS}
    missing: list[dict[str, JSON]] = []
    present = 0
    for start in range(0, len(tasks), BLOCK):
        block = [_Search(task, corpus) for task in tasks[start : start + BLOCK]]
        present += sum(len(s.gold) for s in block)
        _run(corpus, block, k, reach["question"], [1] * len(block), lambda s, n: s.task.question)
        _run(corpus, block, k, reach["followed"], [searches] * len(block), _next_title)
        _run(corpus, block, k, reach["informed"], [searches] * len(block), lambda s, n: s.informed(n))
        missing += [s.row() for s in block if s.absent or s.wanted]
    return Coverage(
        n_tasks=len(tasks),
        n_gold=sum(len(set(t.gold.doc_ids)) for t in tasks),
        n_present=present,
        n_with_gold=sum(bool(t.gold.doc_ids) for t in tasks),
        n_with_answer=sum(bool(_forms(t)) for t in tasks),
        k=k,
        searches=searches,
        reach=reach,
        missing=missing,
    )


class _Search:
    """One task and what one searcher has found for it."""

    def __init__(self, task: Task, corpus: Retriever) -> None:
        found = {doc_id: corpus.passage(doc_id) for doc_id in dict.fromkeys(task.gold.doc_ids)}
        self.task = task
        self.gold: dict[str, Passage] = {doc_id: p for doc_id, p in found.items() if p is not None}
        self.absent = [doc_id for doc_id, p in found.items() if p is None]
        self.forms = _forms(task)
        self.restart()

    def restart(self) -> None:
        """Forget what was found."""
        self.wanted, self.seen, self.answered = set(self.gold), [], not self.forms
        self.asked: set[str] = set()

    def informed(self, n: int) -> str | None:
        """Return the next query of the informed searcher, None where it has nothing left to try."""
        left = [p.title or p.text[:100] for doc_id, p in self.gold.items() if doc_id in self.wanted]
        queries = [*left, *(f"{title} {self.task.question}" for title in left)]
        if not self.answered:
            queries += [self.task.question, *(f"{form} {self.task.question}" for form in self.forms[:1])]
        return next((q for q in queries if q not in self.asked), None)

    def row(self) -> dict[str, JSON]:
        """Return what is missing."""
        return {"task": self.task.id, "not_in_index": list(self.absent), "not_found": sorted(self.wanted)}


def _run(corpus: Retriever, block: list[_Search], k: int, reach: _Reach, budgets: list[int], query_of: Any) -> None:
    """Search for a block of tasks, all their n-th queries together."""
    for search in block:
        search.restart()
        if not search.forms:
            search.answered = True
    for n in range(1, max(budgets) + 1):
        asking = [(s, q) for s in block if (q := query_of(s, n)) and (s.wanted or not s.answered)]
        results = corpus.search_many([q for _, q in asking], k) if asking else []
        for (search, query), hits in zip(asking, results, strict=True):
            search.asked.add(query)
            before = len(search.wanted)
            search.seen += [hit.passage for hit in hits]
            search.wanted -= {hit.passage.id for hit in hits}
            reach.passages[n] += before - len(search.wanted)
            if before and not search.wanted and not search.absent:
                reach.complete[n] += 1
            if not search.answered and any(_holds(hit.passage, search.forms) for hit in hits):
                search.answered = True
                reach.answers[n] += 1


def _next_title(search: _Search, n: int) -> str | None:
    """Return the question, then titles of what was found, best first, that no query named yet."""
    if n == 1:
        return search.task.question
    named = _plain(search.task.question)
    titles = (p.title for p in search.seen if p.title and f" {_plain(p.title)} " not in f" {named} ")
    return next((t for t in titles if t not in search.asked), None)


def _forms(task: Task) -> tuple[str, ...]:
    """Return the texts of a task's answers that a passage could hold."""
    return tuple(dict.fromkeys(f for f in map(_plain, _texts(task)) if f and f not in _NO_TEXT))


def _texts(task: Task) -> Iterator[str]:
    for answer in task.gold.answers:
        yield answer.text
        yield from answer.aliases


def _holds(passage: Passage, forms: Iterable[str]) -> bool:
    text = f" {_plain(f'{passage.title} {passage.text}')} "
    return any(f" {form} " in text for form in forms)


def _plain(text: str) -> str:
    """Return a text's words in lower case, without accents' variants, punctuation and articles."""
    words = _JUNK.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split()
    return " ".join(word for word in words if word not in _ARTICLES)


def _rounded(value: float) -> float | None:
    return round(value, 4) if value == value else None
