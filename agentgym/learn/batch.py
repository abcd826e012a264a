"""Trajectories and turn advantages become a token batch: one row per token segment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from agentgym.errors import LedgerError
from agentgym.types import Segment, TokenRows, Trajectory

Unit = Literal["token", "turn", "sequence"]
"""What a number covers: a token, the tokens of a turn (the literature's segment), or all of a row."""
PASS_TOKENS = 256
"""What a forward and backward pass costs beside its tokens, in tokens: measured with a small policy on a CPU."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows of tokens, padded on the right with 0, and the counts that make the loss independent of batching.

    B rows (token segments with something to learn from), T tokens of the longest row, E episodes in the loss.
    """

    ids: np.ndarray
    """[B, T] int64."""
    mask: np.ndarray
    """[B, T] bool: True on sampled tokens, the only ones that enter the loss."""
    old_logprobs: np.ndarray
    """[B, T] float64, natural log: recorded at sampling time; 0 where mask is False."""
    advantages: np.ndarray
    """[B, T] float64: the advantage of the token's turn; 0 where mask is False."""
    lengths: np.ndarray
    """[B] int64: tokens of each row without padding."""
    episode: np.ndarray
    """[B] int64: index into `episode_tokens` of the episode a row belongs to."""
    episode_tokens: np.ndarray
    """[E] int64: action tokens of every episode in the loss, those without rows included."""
    turn: np.ndarray | None = None
    """[B, T] int64: index of the token's turn, -1 where mask is False; None for rows without turns (demonstrations)."""

    @property
    def n_episodes(self) -> int:
        """Episodes in the loss, those included whose advantages are all zero."""
        return len(self.episode_tokens)

    @property
    def n_action_tokens(self) -> int:
        """Action tokens of all episodes in the loss, skipped rows included."""
        return int(self.episode_tokens.sum())

    def rows(self) -> TokenRows:
        """Return the rows as a policy wants them: ragged, without padding."""
        ids = tuple(tuple(row[:n].tolist()) for row, n in zip(self.ids, self.lengths, strict=True))
        mask = tuple(tuple(row[:n].tolist()) for row, n in zip(self.mask.astype(np.int64), self.lengths, strict=True))
        return TokenRows(ids, mask)

    def units(self, level: Unit) -> np.ndarray:
        """Return for each action token, in the order of `mask`, the number of the unit it belongs to: [n] int64.

        A turn never spans two rows, and a sequence is a row: the tokens that the sampler saw in one context. So no
        unit is split by micro-batches.
        """
        rows, _ = np.nonzero(self.mask)
        if level == "token":
            return np.arange(len(rows))
        if level == "sequence":
            return np.unique(rows, return_inverse=True)[1]
        if self.turn is None:
            raise LedgerError("the batch does not say which turn its tokens belong to; make it with to_batch")
        turns = self.turn[self.mask]
        return np.unique(rows * (int(turns.max(initial=0)) + 1) + turns, return_inverse=True)[1]

    def take(self, rows: np.ndarray) -> "TokenBatch":
        """Return some rows, cut to the longest of them; the episode counts stay those of the whole batch."""
        width = int(self.lengths[rows].max()) if len(rows) else 0
        return replace(
            self,
            ids=self.ids[rows, :width],
            mask=self.mask[rows, :width],
            old_logprobs=self.old_logprobs[rows, :width],
            advantages=self.advantages[rows, :width],
            lengths=self.lengths[rows],
            episode=self.episode[rows],
            turn=None if self.turn is None else self.turn[rows, :width],
        )

    def split_episodes(self, parts: Sequence[np.ndarray]) -> list["TokenBatch"]:
        """Return one batch per array of episode indices, each with the counts of its own episodes."""
        batches = []
        for part in parts:
            position = np.full(self.n_episodes, -1, dtype=np.int64)
            position[part] = np.arange(len(part))
            rows = self.take(np.flatnonzero(position[self.episode] >= 0))
            batches.append(
                replace(rows, episode=position[rows.episode], episode_tokens=self.episode_tokens[part])
            )
        return batches


def to_batch(
    trajectories: Sequence[Trajectory],
    advantages: Mapping[str, Sequence[float] | np.ndarray],
    *,
    skip_zero: bool = True,
) -> TokenBatch:
    """Lay turn advantages onto the tokens of their turns.

    Args:
        trajectories: Recorded episodes; those with `in_loss` False are left out altogether.
        advantages: Advantages [K] per trajectory id, one for each of its turns.
        skip_zero: Leave out rows whose advantages are all 0. Their episodes still count in `n_episodes`, so this
            saves a forward pass and changes no gradient (as long as nothing else, like a KL term, reads those rows).

    Returns:
        The batch; rows keep the order of trajectories and segments.

    Raises:
        LedgerError: If a trajectory has turns but no tokens, no advantages, or spans that do not match its mask.
    """
    kept = [t for t in trajectories if t.in_loss]
    episode_tokens = np.zeros(len(kept), dtype=np.int64)
    rows: list[tuple[int, Segment, np.ndarray, np.ndarray]] = []
    for episode, trajectory in enumerate(kept):
        turn_advantages = _turn_advantages(trajectory, advantages)
        for index, segment in enumerate(trajectory.segments):
            turn = _turns(segment, len(turn_advantages), f"{trajectory.id}, segment {index}")
            token_advantages = np.where(turn >= 0, turn_advantages[turn], 0.0) if len(turn_advantages) else 0.0 * turn
            n_actions = sum(segment.mask)
            episode_tokens[episode] += n_actions
            if n_actions and (token_advantages.any() or not skip_zero):
                rows.append((episode, segment, token_advantages, turn))
    return _pad(rows, episode_tokens)


def micro_batches(batch: TokenBatch, max_tokens: int) -> list[TokenBatch]:
    """Split the rows of one accumulation into batches of similar length.

    Rows are sorted by length, longest first, and cut so that rows x longest row stays within `max_tokens` (a single
    longer row makes a batch of its own) and that as little as possible is computed: padding of short rows beside a
    long one against one more pass, which costs as much as PASS_TOKENS tokens. All of them share the counts of
    `batch`: the sum of their losses is its loss.
    """
    return [batch.take(rows) for rows in micro_rows(batch, max_tokens)]


def micro_rows(batch: TokenBatch, max_tokens: int) -> list[np.ndarray]:
    """Return the row indices of each of the `micro_batches`."""
    order = np.argsort(-batch.lengths, kind="stable")
    lengths = np.maximum(1, batch.lengths[order])
    n = len(order)
    # least[j]: padded tokens of the best way to cut the first j rows; first[j]: where its last batch begins.
    least, first = np.zeros(n + 1), np.zeros(n + 1, dtype=np.int64)
    for j in range(1, n + 1):
        padded = lengths[:j] * np.arange(j, 0, -1)
        fits = padded <= max_tokens
        fits[-1] = True
        cost = np.where(fits, least[:j] + padded + PASS_TOKENS, np.inf)
        first[j] = int(cost.argmin())
        least[j] = cost[first[j]]
    parts, end = [], n
    while end:
        parts.append(order[first[end] : end])
        end = int(first[end])
    return parts[::-1]


def _turn_advantages(trajectory: Trajectory, advantages: Mapping[str, Sequence[float] | np.ndarray]) -> np.ndarray:
    if trajectory.id not in advantages:
        raise LedgerError(f"trajectory {trajectory.id} is in the loss but has no advantages ({len(advantages)} given)")
    values = np.asarray(advantages[trajectory.id], dtype=np.float64)
    if values.shape != (len(trajectory.turns),):
        raise LedgerError(
            f"trajectory {trajectory.id} has {len(trajectory.turns)} turns but advantages of shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise LedgerError(f"trajectory {trajectory.id} has advantages that are not finite: {values.tolist()}")
    if trajectory.turns and not trajectory.segments:
        raise LedgerError(
            f"trajectory {trajectory.id} has {len(trajectory.turns)} turns but no token segments: only a policy that "
            "returns token ids and logprobs with its completions can be trained"
        )
    return values


def _turns(segment: Segment, n_turns: int, where: str) -> np.ndarray:
    """Return the turn [T] of each action token of a segment, -1 elsewhere."""
    mask = np.asarray(segment.mask, dtype=bool)
    if not len(segment.ids) == len(mask) == len(segment.logprobs):
        raise LedgerError(
            f"{where}: {len(segment.ids)} ids, {len(mask)} mask entries and {len(segment.logprobs)} logprobs"
        )
    if len(mask) and mask[0]:
        raise LedgerError(f"{where}: the first token is marked as sampled, but nothing comes before it")
    turn = np.full(len(mask), -1, dtype=np.int64)
    for span in segment.spans:
        if not 0 <= span.turn < n_turns or not 0 <= span.start <= span.end <= len(mask):
            raise LedgerError(f"{where}: span {span} does not fit {len(mask)} tokens and {n_turns} turns")
        if (turn[span.start : span.end] >= 0).any():
            raise LedgerError(f"{where}: span {span} overlaps another one")
        turn[span.start : span.end] = span.turn
    if (mask & (turn < 0)).any():
        raise LedgerError(f"{where}: sampled token {int(np.flatnonzero(mask & (turn < 0))[0])} belongs to no turn's span")
    return np.where(mask, turn, -1)


def _pad(rows: Sequence[tuple[int, Segment, np.ndarray, np.ndarray]], episode_tokens: np.ndarray) -> TokenBatch:
    lengths = np.array([len(segment.ids) for _, segment, _, _ in rows], dtype=np.int64)
    shape = (len(rows), int(lengths.max()) if len(rows) else 0)
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    old, values, turn = np.zeros(shape), np.zeros(shape), np.full(shape, -1, dtype=np.int64)
    for b, (_, segment, token_advantages, turns) in enumerate(rows):
        n = len(segment.ids)
        ids[b, :n] = segment.ids
        mask[b, :n] = segment.mask
        old[b, :n] = np.where(mask[b, :n], segment.logprobs, 0.0)
        values[b, :n], turn[b, :n] = token_advantages, turns
    episode = np.array([e for e, _, _, _ in rows], dtype=np.int64)
    return TokenBatch(ids, mask, old, values, lengths, episode, episode_tokens, turn)
