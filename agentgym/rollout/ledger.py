"""The token ledger: what was sampled and what was appended, exactly as the sampler saw it."""

from collections.abc import Sequence

from agentgym.errors import LedgerError
from agentgym.types import Completion, Segment, Span


class TokenLedger:
    """Append-only record of one episode's tokens. Ids come from sampler and renderer; text never re-enters.

    A context that is written anew (thoughts that a chat template strips from history, a compacted context) begins
    another segment; what was sampled before stays in the one in which it was sampled.
    """

    def __init__(self, start: Sequence[int]) -> None:
        """Begin with the opening context."""
        self._closed: list[Segment] = []
        self._open(start)

    def _open(self, start: Sequence[int]) -> None:
        self.ids: list[int] = list(start)
        self.mask: list[int] = [0] * len(self.ids)
        self.logprobs: list[float] = [0.0] * len(self.ids)
        self.spans: list[Span] = []

    def sampled(self, turn: int, completion: Completion) -> None:
        """Append a completion.

        Raises:
            LedgerError: The sampler conditioned on other ids than the ledger holds, or a sampled token has
                no log-probability.
        """
        if list(completion.context_ids) != self.ids:
            at = _first_difference(completion.context_ids, self.ids)
            raise LedgerError(
                f"turn {turn}: the sampler saw {len(completion.context_ids)} ids, the ledger holds {len(self.ids)}; "
                f"they differ from position {at}. The renderer or the sampler's cache is wrong"
            )
        if len(completion.logprobs) != len(completion.token_ids):
            raise LedgerError(
                f"turn {turn}: {len(completion.token_ids)} sampled ids but {len(completion.logprobs)} log-probabilities"
            )
        start = len(self.ids)
        self.ids.extend(completion.token_ids)
        self.mask.extend([1] * len(completion.token_ids))
        self.logprobs.extend(completion.logprobs)
        self.spans.append(Span(turn, start, len(self.ids)))

    def appended(self, ids: Sequence[int]) -> None:
        """Append what the renderer made of the environment's answer."""
        self.ids.extend(ids)
        self.mask.extend([0] * len(ids))
        self.logprobs.extend([0.0] * len(ids))

    def rewritten(self, context: Sequence[int]) -> None:
        """Go on in a context that does not begin with the old one: another segment."""
        if self.spans:
            self._closed.append(self.segment())
        self._open(context)

    def segments(self) -> tuple[Segment, ...]:
        """Return all segments in which something was sampled."""
        return (*self._closed, self.segment()) if self.spans else tuple(self._closed)

    def segment(self) -> Segment:
        """Return the current segment, without what follows its last sampled token."""
        end = self.spans[-1].end if self.spans else len(self.ids)
        return Segment(tuple(self.ids[:end]), tuple(self.mask[:end]), tuple(self.logprobs[:end]), tuple(self.spans))


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
