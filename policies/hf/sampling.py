"""Choosing tokens: inverse-CDF sampling with given noise, and stop strings."""

from collections.abc import Sequence

import torch

from agentgym.policies.hf.codec import TokenCodec


def choose(
    logits: torch.Tensor, temperature: torch.Tensor, noise: torch.Tensor
) -> tuple[list[int], list[float], list[float]]:
    """Draw one token per row; a row's result depends on that row alone.

    Args:
        logits: [B, V] float32.
        temperature: [B] float32; 0 takes the most probable token, with the log-probability at temperature 1.
        noise: [B] float64 in [0, 1).

    Returns:
        Per row the token, its natural log-probability under the sampling distribution, and the distribution's
        entropy in nats.
    """
    greedy = temperature == 0
    logprobs = torch.log_softmax(logits / torch.where(greedy, 1.0, temperature)[:, None], -1)
    probabilities = logprobs.exp()
    # In double precision the sums of a large vocabulary keep every token's share, and never reach a later token
    # of probability 0.
    cumulative = probabilities.double().cumsum(-1)
    target = noise[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
    if bool(greedy.any()):
        tokens = torch.where(greedy, logits.argmax(-1), tokens)
    chosen = logprobs.gather(-1, tokens[:, None]).squeeze(-1)
    entropies = torch.special.entr(probabilities).sum(-1)
    return tokens.tolist(), chosen.tolist(), entropies.tolist()


class StopStrings:
    """Recognises stop strings in sampled tokens. Text is only decoded after tokens that could complete one."""

    def __init__(self, codec: TokenCodec, stop: Sequence[str]) -> None:
        """Prepare for these stop strings (empty ones are ignored)."""
        self.stop = tuple(s for s in stop if s)
        self._codec = codec
        self._candidates = frozenset[int]()
        lasts = {s[-1] for s in self.stop}
        # A piece of a longer character, or a blank that decoding may drop, cannot be told from one token alone.
        self._always = any(not c.isascii() or c.isspace() for c in lasts)
        if self.stop and not self._always:
            self._candidates = frozenset(i for i, piece in enumerate(codec.pieces) if not lasts.isdisjoint(piece))

    def text(self, ids: Sequence[int]) -> str | None:
        """Return the completion's text up to and with the stop string that its last token completed, else None."""
        if not self.stop or not (self._always or ids[-1] in self._candidates):
            return None
        text = self._codec.decode(ids)
        ends = [at + len(s) for s in self.stop if (at := text.find(s)) >= 0]
        return text[: min(ends)] if ends else None
