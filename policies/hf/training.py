"""The learner's side: log-probabilities with gradient, computed only where they are wanted."""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from agentgym.errors import ConfigError
from agentgym.policies.hf.model import CausalModel
from agentgym.types import TokenRows

LOGITS_AT_ONCE = 1 << 26
"""Most logits that are held at once; more are computed in pieces, and again for the gradient."""


Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits [N, V], targets [N]) -> [N] or [N, 2] float32: what is read off a distribution."""


def log_probability(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the natural log-probability of each target: [N]."""
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each distribution, in nats; the targets are not read: [N]."""
    logs = torch.log_softmax(logits.float(), dim=-1)
    return -(logs.exp() * logs).nan_to_num(nan=0.0).sum(-1)  # a token that cannot come has p log p = 0


def logprobs(model: CausalModel, rows: TokenRows, measure: Measure = log_probability) -> torch.Tensor:
    """Return the natural log-probabilities of masked tokens given all tokens before them.

    Rows are padded on the right, which causal attention never sees. Logits are computed at masked positions only.

    Args:
        model: The model.
        rows: B rows of tokens and masks.
        measure: What is read off the distributions in the place of log-probabilities: [N] each.

    Returns:
        [B, T] float32, 0 where the mask is 0, with gradient where gradients are on.

    Raises:
        ConfigError: If a row's mask has another length than its ids, or asks for position 0.
    """
    n_rows, n_max = len(rows.ids), max(map(len, rows.ids), default=0)
    ids, mask = np.zeros((n_rows, n_max), dtype=np.int64), np.zeros((n_rows, n_max), dtype=bool)
    for b, (row_ids, row_mask) in enumerate(zip(rows.ids, rows.mask, strict=True)):
        if len(row_mask) != len(row_ids) or (row_mask and row_mask[0]):
            raise ConfigError(
                f"row {b}: {len(row_ids)} ids, mask of {len(row_mask)}, mask[0] = {row_mask[0] if row_mask else None}; "
                "a mask is as long as its ids, and nothing comes before position 0"
            )
        ids[b, : len(row_ids)], mask[b, : len(row_ids)] = row_ids, row_mask
    out = torch.zeros(n_rows, n_max, dtype=torch.float32, device=model.device)
    if not mask.any():
        return out
    at_row, at = (torch.from_numpy(index).to(model.device) for index in mask.nonzero())
    tokens = torch.from_numpy(ids).to(model.device)
    hidden = model.hidden(tokens, use_cache=False)[at_row, at - 1]
    return out.index_put((at_row, at), _chosen(model, hidden, tokens[at_row, at], measure))


def _chosen(model: CausalModel, hidden: torch.Tensor, targets: torch.Tensor, measure: Measure) -> torch.Tensor:
    """Return log p of targets [N] at hidden states [N, d]."""
    n = max(64, LOGITS_AT_ONCE // model.n_vocabulary)
    if len(targets) <= n:
        return measure(model.head(hidden), targets)
    pieces = zip(hidden.split(n), targets.split(n), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([measure(model.head(h), t) for h, t in pieces])

    def at_once(h: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return measure(model.head(h), t)

    return torch.cat([checkpoint(at_once, h, t, use_reentrant=False) for h, t in pieces])
