"""What SearchQA needs of any search backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from agentgym.quick import quick
from agentgym.types import Passage


@quick
@dataclass(frozen=True, slots=True)
class Hit:
    """One search result."""

    passage: Passage
    score: float


@runtime_checkable
class Retriever(Protocol):
    """Searches one corpus. Shared by all episodes of a process; `__deepcopy__` returns itself."""

    def search(self, query: str, k: int) -> list[Hit]:
        """Return at most k hits with positive score, best first; ties by corpus order. Deterministic."""
        ...

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch: the same results as `search` on each."""
        ...

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id, or None."""
        ...

    def __len__(self) -> int:
        """Return the number of passages."""
        ...
