"""One view of any transformers causal language model: hidden states, output head, masks."""

from typing import Any

import torch

from agentgym.errors import ConfigError
from agentgym.policies.hf import attention

Masks = torch.Tensor | dict[str, torch.Tensor]
LAYER_KINDS = ("full_attention", "sliding_attention")
HEAD_TOLERANCE = 1e-3


class CausalModel:
    """The parts of a causal language model that sampler and learner call, without the overhead around them."""

    def __init__(self, model: Any, device: str | torch.device | None = None) -> None:
        """Put the model on its device, in evaluation mode (no dropout), and check that its parts make the whole.

        The model's attention implementation is changed to one that does not depend on batching.

        Raises:
            ConfigError: If the model keeps another state than keys and values, or has an unknown output head.
        """
        self.model = model.to(device) if device is not None else model
        self.model.eval()
        self.config = model.config.get_text_config()
        self.inner = model.get_decoder()
        self._head = model.get_output_embeddings()
        kinds = set(getattr(self.config, "layer_types", None) or ())
        if unknown := kinds - set(LAYER_KINDS):
            raise ConfigError(
                f"{type(model).__name__} has layers of kind {', '.join(sorted(unknown))}; "
                f"the sampler keeps keys and values only, so allowed are {', '.join(LAYER_KINDS)}"
            )
        window = getattr(self.config, "sliding_window", None)
        if getattr(self.config, "use_sliding_window", True) is False:
            window = None
        self._window: int | None = window if not kinds or "sliding_attention" in kinds else None
        self._mixed = len(kinds) > 1
        self._additive = False
        try:
            model.set_attn_implementation(attention.NAME)
        except ValueError:
            model.set_attn_implementation("eager")
            self._additive = True
        self._check_head()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self._head.weight.dtype

    @property
    def n_vocabulary(self) -> int:
        """Size of the output distribution."""
        return int(self._head.weight.shape[0])

    @property
    def max_context(self) -> int:
        """Longest context in tokens that the positions allow."""
        return int(getattr(self.config, "max_position_embeddings", None) or 1 << 20)

    @property
    def head_dim(self) -> int:
        """Size of an attention head."""
        return getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads

    @property
    def bytes_per_token(self) -> int:
        """Approximate memory of one token's keys and values over all layers."""
        c = self.config
        heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        return 2 * c.num_hidden_layers * heads * self.head_dim * torch.finfo(self.dtype).bits // 8

    def weights_stamp(self) -> int:
        """Return a number that changes when a weight is changed in place."""
        return sum(parameter._version for parameter in self.model.parameters())

    def hidden(self, ids: torch.Tensor, **options: Any) -> torch.Tensor:
        """Return the last hidden states [B, T, d] of ids [B, T]; plain causal attention unless told otherwise."""
        return self.inner(input_ids=ids, **options).last_hidden_state

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits [..., V] float32 of hidden states [..., d]."""
        logits = self._head(hidden).float()
        c = self.config
        if scale := getattr(c, "logit_scale", None):
            logits = logits * scale
        if divisor := getattr(c, "logits_scaling", None):
            logits = logits / divisor
        if cap := getattr(c, "final_logit_softcapping", None):
            logits = torch.tanh(logits / cap) * cap
        return logits

    def masks(self, positions: torch.Tensor, n_keys: int) -> Masks:
        """Return who sees which key: [B, 1, T, S] for positions [B, T] over keys at positions 0..S-1."""
        keys = torch.arange(n_keys, device=positions.device)
        queries = positions[:, None, :, None]
        full = keys <= queries
        if self._window is None:
            return self._form(full)
        sliding = self._form(full & (keys > queries - self._window))
        return {"full_attention": self._form(full), "sliding_attention": sliding} if self._mixed else sliding

    def _form(self, mask: torch.Tensor) -> torch.Tensor:
        if not self._additive:
            return mask
        return torch.zeros(mask.shape, device=mask.device, dtype=self.dtype).masked_fill_(
            ~mask, torch.finfo(self.dtype).min
        )

    @torch.no_grad()
    def _check_head(self) -> None:
        ids = torch.arange(4, device=self.device)[None] % self.n_vocabulary
        whole = self.model(input_ids=ids, use_cache=False).logits.float()
        ours = self.head(self.hidden(ids, use_cache=False))
        if not torch.allclose(whole, ours, atol=HEAD_TOLERANCE, rtol=HEAD_TOLERANCE):
            raise ConfigError(
                f"{type(self.model).__name__}: logits differ from output embeddings times last hidden state by "
                f"{float((whole - ours).abs().max()):.2g}; its output head is of a kind that is not supported"
            )
