"""One forward pass over many rows that begin alike: every token that rows share is computed once.

Rows in the order of their tokens form a tree; the tokens that a row has not in common with the row before it are laid
behind one another, each seeing its own row's tokens alone. Scoring a target after each of K + 1 growing contexts so
costs about one pass over the last of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from agentgym.policies.hf.model import TRIAL_TOLERANCE, TRIAL_TOLERANCE_HALF, CausalModel
from agentgym.policies.hf.training import Measure, entropy, log_probability
from agentgym.policies.hf.training import logprobs as separate_logprobs
from agentgym.seeding import stream
from agentgym.types import TokenRows

MIN_WIDTH, MAX_WIDTH = 128, 4_096
"""Tokens of one tree: at least as many are joined where rows are short; longer rows are not for this pass."""
MASK_CELLS = 1 << 26
"""Most cells of the masks of one forward pass."""


TRIAL_ROWS, TRIAL_SHARED, TRIAL_OWN = 3, 24, 6


@dataclass(slots=True)
class Tree:
    """Rows laid out in one sequence of T tokens."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    paths: list[np.ndarray] = field(default_factory=list)
    """Per row the places of its tokens, in order."""
    starts: list[int] = field(default_factory=list)
    """Per row the number of its tokens that earlier rows had laid out."""
    rows: list[int] = field(default_factory=list)
    """Which row each path belongs to."""


def supported(model: CausalModel) -> bool:
    """Return whether the model reads a tree as it reads its rows; tried once on rows of random tokens.

    False for models whose attention goes by the place in the sequence instead of by positions (ALiBi).
    """
    if model.shares_prefixes is None:
        n = min(model.n_vocabulary, len(model.model.get_input_embeddings().weight))
        drawn = stream("shared prefixes").integers(0, n, TRIAL_SHARED + TRIAL_ROWS * TRIAL_OWN).tolist()
        start, rest = drawn[:TRIAL_SHARED], drawn[TRIAL_SHARED:]
        rows = [start + rest[i * TRIAL_OWN : (i + 1) * TRIAL_OWN] for i in range(TRIAL_ROWS)]
        at = list(range(TRIAL_SHARED, TRIAL_SHARED + TRIAL_OWN))
        masks = tuple(tuple(int(i in at) for i in range(len(row))) for row in rows)
        try:
            with torch.no_grad():
                apart = separate_logprobs(model, TokenRows(tuple(map(tuple, rows)), masks))[:, at]
                found = torch.tensor(logprobs(model, rows, [at] * len(rows), 1 << 14), device=apart.device)
            gap = float((found - apart).abs().nan_to_num(nan=float("inf")).max())
        except Exception:  # noqa: BLE001 (a model raises what it likes on masks that it does not know)
            gap = float("inf")
        model.shares_prefixes = gap <= TRIAL_TOLERANCE.get(model.dtype, TRIAL_TOLERANCE_HALF)
    return model.shares_prefixes


def logprobs(
    model: CausalModel, rows: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]], max_tokens: int
) -> list[list[float]]:
    """Return the natural log-probabilities of wanted tokens given all tokens of their row before them.

    Equal to separate passes up to rounding.

    Args:
        model: The model; no gradient is kept.
        rows: Token ids, each at most MAX_WIDTH long.
        wanted: Per row the indices of the tokens, ascending, never 0.
        max_tokens: Most tokens of one forward pass.
    """
    return _read(model, rows, wanted, max_tokens, log_probability)


def logprobs_and_entropies(
    model: CausalModel, rows: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]], max_tokens: int
) -> tuple[list[list[float]], list[list[float]]]:
    """Return what `logprobs` returns, and the entropies in nats of the same distributions, from one pass."""

    def both(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.stack([log_probability(logits, targets), entropy(logits, targets)], dim=1)

    found = _read(model, rows, wanted, max_tokens, both)
    return [[v[0] for v in row] for row in found], [[v[1] for v in row] for row in found]


def _read(
    model: CausalModel,
    rows: Sequence[Sequence[int]],
    wanted: Sequence[Sequence[int]],
    max_tokens: int,
    measure: Measure,
) -> list[list[Any]]:
    """Return per row what `measure` reads off at each wanted token."""
    found: list[list[Any]] = [[] for _ in rows]
    trees = _trees([row[: at[-1]] if len(at) else row[:0] for row, at in zip(rows, wanted, strict=True)])
    trees.sort(key=lambda tree: -len(tree.ids))
    while trees:
        width = len(trees[0].ids)
        n = max(1, min(max_tokens // width, MASK_CELLS // width**2))
        part, trees = trees[:n], trees[n:]
        hidden = _hidden(model, part, width)
        ids, place, owners = [], [], []
        for b, tree in enumerate(part):
            for path, row in zip(tree.paths, tree.rows, strict=True):
                for at in wanted[row]:
                    ids.append(rows[row][at])
                    place.append(b * width + int(path[at - 1]))
                    owners.append(row)
        chosen = hidden.reshape(-1, hidden.shape[-1])[torch.tensor(place, device=hidden.device)]
        values = _chosen(model, chosen, torch.tensor(ids, device=hidden.device), measure)
        for row, value in zip(owners, values, strict=True):
            found[row].append(value)
    return found


def _trees(rows: Sequence[Sequence[int]]) -> list[Tree]:
    """Lay rows out in trees; each row is whole in one of them, and rows that begin alike are in the same."""
    order = sorted((i for i in range(len(rows)) if len(rows[i])), key=lambda i: list(rows[i]))
    width = min(MAX_WIDTH, max(MIN_WIDTH, 2 * max((len(rows[i]) for i in order), default=0)))
    trees: list[Tree] = []
    tree, before, path = Tree(), [], np.zeros(0, np.int64)
    for i in order:
        row = list(rows[i])
        shared = common(before, row)
        if len(tree.ids) + len(row) - shared > width:
            trees.append(tree)
            tree, shared, path = Tree(), 0, path[:0]
        first = len(tree.ids)
        path = np.concatenate([path[:shared], np.arange(first, first + len(row) - shared)])
        tree.ids += row[shared:]
        tree.positions += range(shared, len(row))
        tree.paths.append(path)
        tree.starts.append(shared)
        tree.rows.append(i)
        before = row
    return [*trees, tree] if tree.rows else trees


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two rows share at their beginnings."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low, high = 0, n  # the first low are equal, the first high are not
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _hidden(model: CausalModel, trees: Sequence[Tree], width: int) -> torch.Tensor:
    """Return the hidden states [B, width, d] of some trees."""
    ids, positions = np.zeros((2, len(trees), width), np.int64)
    sees = np.zeros((len(trees), width, width), bool)
    sees[:, np.arange(width), np.arange(width)] = True  # padding sees itself: no row of a mask is empty
    for b, tree in enumerate(trees):
        n = len(tree.ids)
        ids[b, :n], positions[b, :n] = tree.ids, tree.positions
        for path, start in zip(tree.paths, tree.starts, strict=True):
            if start == len(path):
                continue
            own = slice(int(path[start]), int(path[-1]) + 1)
            sees[b, own, path[:start]] = True
            size = own.stop - own.start
            sees[b, own, own] |= np.tri(size, dtype=bool)
    device = model.device
    places = torch.from_numpy(positions).to(device)
    return model.hidden(
        torch.from_numpy(ids).to(device),
        attention_mask=model.masks_of(torch.from_numpy(sees).to(device), places),
        position_ids=places,
        use_cache=False,
    )


def _chosen(model: CausalModel, hidden: torch.Tensor, targets: torch.Tensor, measure: Measure) -> list[Any]:
    """Return what is read off at hidden states [N, d] for targets [N], some at a time."""
    n = max(64, MASK_CELLS // model.n_vocabulary)
    values: list[Any] = []
    for h, t in zip(hidden.split(n), targets.split(n), strict=True):
        values += measure(model.head(h), t).tolist()
    return values
