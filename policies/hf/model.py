"""One view of any transformers causal language model: hidden states, output head, masks."""

from typing import Any

import torch

from agentgym.errors import ConfigError
from agentgym.policies.hf import attention
from agentgym.policies.hf.cache import RowCache
from agentgym.seeding import stream

Masks = torch.Tensor | dict[str, torch.Tensor]
ADAPTERS = "agentgym_lora"
"""Attribute of a model that learns by adapters (`agentgym.policies.hf.lora`)."""
LAYER_KINDS = ("full_attention", "sliding_attention")
TRIAL_TOKENS, TRIAL_FED = 16, 4
"""Tokens on which a model's parts are compared with the whole, and how many of them are fed one by one."""
TRIAL_TOKENS_OLD = 300
"""The same for models that bring their own attention, some of which have windows that no setting names."""
TRIAL_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
TRIAL_TOLERANCE_HALF = 0.5


class CausalModel:
    """The parts of a causal language model that sampler and learner call, without the overhead around them."""

    def __init__(self, model: Any, device: str | torch.device | None = None) -> None:
        """Put the model on its device, in evaluation mode (no dropout), and check that its parts make the whole.

        The model's attention implementation is changed to one that does not depend on batching; where the model
        computes something else with it (or knows only its own), to "eager".

        Raises:
            ConfigError: If the model keeps another state than keys and values, or if feeding it piece by piece
                does not give the logits of the untouched model: its attention or output head is of an unknown kind.
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
        self.shares_prefixes: bool | None = None
        """Whether rows that begin alike may be read as a tree; None: not tried yet (`shared_prefixes.supported`)."""
        self._attach()

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

    def masks_of(self, sees: torch.Tensor, positions: torch.Tensor) -> Masks:
        """Return the masks for tokens that see chosen others: sees [B, T, T] bool, at positions [B, T] of their rows."""
        full = sees[:, None]
        if self._window is None:
            return self._form(full)
        near = positions[:, None, None, :] > positions[:, None, :, None] - self._window
        sliding = self._form(full & near)
        return {"full_attention": self._form(full), "sliding_attention": sliding} if self._mixed else sliding

    def _form(self, mask: torch.Tensor) -> torch.Tensor:
        if not self._additive:
            return mask
        return torch.zeros(mask.shape, device=mask.device, dtype=self.dtype).masked_fill_(
            ~mask, torch.finfo(self.dtype).min
        )

    # ---- trial ------------------------------------------------------------------------------------

    @torch.no_grad()
    def _attach(self) -> None:
        """Choose the attention with which the parts compute what the untouched model does."""
        modern = getattr(self.model, "_supports_attention_backend", False)
        n = min(TRIAL_TOKENS if modern else TRIAL_TOKENS_OLD, self.max_context)
        drawn = stream("trial").integers(0, min(self.n_vocabulary, len(self.model.get_input_embeddings().weight)), n)
        ids = torch.from_numpy(drawn).to(self.device)[None]
        whole = self.model(input_ids=ids, use_cache=False).logits[0].float()
        # Small logits, as those of fresh weights, must agree more closely.
        allowed = TRIAL_TOLERANCE.get(self.dtype, TRIAL_TOLERANCE_HALF) * min(1.0, float(whole.std()) + 1e-3)
        faults = []
        for name in (attention.NAME, "eager"):
            self._additive = name == "eager"
            try:
                self.model.set_attn_implementation(name)
                gap = self._gap(ids, whole)
            except Exception as error:  # noqa: BLE001 (a model raises what it likes on what it does not know)
                faults.append(f"{type(error).__name__} with {name} attention: {error}")
                continue
            if gap <= allowed:
                return
            faults.append(f"with {name} attention log-probabilities differ by {gap:.2g}, allowed {allowed:.2g}")
        raise ConfigError(
            f"{type(self.model).__name__} is not supported: fed piece by piece, with cached keys and values, it does "
            f"not compute what it does at once ({'; '.join(faults)})"
        )

    def _gap(self, ids: torch.Tensor, whole: torch.Tensor) -> float:
        """Return how far log-probabilities over ids [1, T] are from those of logits [T, V]: in one pass, and cached."""
        n = ids.shape[1]
        first = max(1, n - TRIAL_FED)
        # More keys are shown than there are tokens, as in sampling: the masks must hide the rest.
        cache = RowCache(1, n + TRIAL_TOKENS)
        at_once, fed = self.hidden(ids, use_cache=False), []
        for start, end in ((0, first), *((i, i + 1) for i in range(first, n))):
            positions = torch.arange(start, end, device=ids.device)[None]
            cache.aim(slice(0, 1), positions, cache.capacity)
            masks = self.masks(positions, cache.capacity)
            options = {"attention_mask": masks, "position_ids": positions, "past_key_values": cache, "use_cache": True}
            fed.append(self.hidden(ids[:, start:end], **options))
        expected = torch.log_softmax(whole, -1)
        found = [torch.log_softmax(self.head(hidden)[0], -1) for hidden in (at_once, torch.cat(fed, 1))]
        return max(float((one - expected).abs().nan_to_num(nan=float("inf")).max()) for one in found)
