"""Attention whose rows do not depend on how they were batched or cut into chunks.

On CPUs the matrix products inside fused attention change their order of summation in two cases. Where fewer than
four query rows are left for a block they use another kernel: queries are padded to a multiple of four. And for some
numbers of keys they sum in other portions (seen: 256 and 320 keys in the last block of 512): `exact_widths` finds
those by trial, and they are not used. Then decoding token by token, reading a whole prompt, and any mixture of rows
give the same bits.
"""

from functools import cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "agentgym_sdpa"
QUERY_MULTIPLE = 4
KEY_BLOCK = 512
"""Keys that fused attention on CPUs sums at once."""


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' "sdpa" does; without gradient and with an explicit mask, independently of batching.

    Args:
        module: The attention layer.
        query: [B, H, T, D].
        key: [B, H / groups, S, D].
        value: [B, H / groups, S, Dv].
        attention_mask: [B, 1, T, S] bool or additive; None for plain causal attention.
        scaling: Factor of the scores; None for 1 / sqrt(D).
        options: Handed on.

    Returns:
        [B, T, H, Dv], and None in place of attention weights.
    """
    if attention_mask is None or torch.is_grad_enabled():
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
        return out, None
    b, h, t, d = query.shape
    groups = h // key.shape[1]
    # Heads that share a key are further queries of it: nothing is copied per head.
    query = query.reshape(b, key.shape[1], groups * t, d)
    mask = attention_mask.repeat(1, 1, groups, 1) if groups > 1 else attention_mask
    n = groups * t
    if pad := -n % QUERY_MULTIPLE:
        query = torch.cat([query, query[:, :, :1].expand(-1, -1, pad, -1)], 2)
        mask = torch.cat([mask, mask[:, :, :1].expand(-1, -1, pad, -1)], 2)
    out = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)[:, :, :n]
    return out.reshape(b, h, t, -1).transpose(1, 2).contiguous(), None


@cache
def exact_widths(multiple: int, head_dim: int, dtype: torch.dtype, device: str) -> tuple[int, ...]:
    """Return the numbers of keys, up to KEY_BLOCK, that give the same bits as KEY_BLOCK keys with the rest masked.

    Args:
        multiple: Only multiples of this are tried (KEY_BLOCK itself always belongs).
        head_dim: Size of a head.
        dtype: Type of keys and values.
        device: Where the model runs.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> torch.Tensor:
        return torch.randn(8, 2, n, head_dim, generator=generator).to(device, dtype)

    query, key, value = draw(1), draw(KEY_BLOCK), draw(KEY_BLOCK)

    def attend(n_seen: int, n_keys: int) -> torch.Tensor:
        mask = (torch.arange(n_keys, device=device) < n_seen).expand(8, 1, 1, n_keys)
        return attention(torch.nn.Identity(), query, key[:, :, :n_keys], value[:, :, :n_keys], mask)[0]

    with torch.inference_mode():
        return tuple(
            n
            for n in (*range(multiple, KEY_BLOCK, multiple), KEY_BLOCK)
            if all(torch.equal(attend(m, n), attend(m, KEY_BLOCK)) for m in (n, n - multiple // 3, n - multiple // 2))
        )


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
