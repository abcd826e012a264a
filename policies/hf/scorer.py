"""Log-probabilities of given targets after given conversations (for rewards such as information gain)."""

from collections.abc import Sequence

import torch

from agentgym.errors import ConfigError
from agentgym.policies.hf.codec import TokenCodec
from agentgym.policies.hf.model import CausalModel
from agentgym.policies.hf.renderer import TemplateRenderer
from agentgym.policies.hf.training import logprobs
from agentgym.types import Message, TokenRows


def score(
    model: CausalModel,
    codec: TokenCodec,
    renderer: TemplateRenderer,
    contexts: Sequence[Sequence[Message]],
    prefix: str,
    targets: Sequence[str],
    suffix: str,
    max_tokens: int = 16_384,
) -> list[list[float]]:
    """Return for each pair the natural log-probabilities of the target's tokens, without gradient.

    Args:
        model: The model.
        codec: Its tokenizer.
        renderer: Renders a context afresh, with the generation prompt.
        contexts: Conversations, one per target; one that is too long for the model loses its beginning.
        prefix: What the policy would write before the target.
        targets: Texts to score.
        suffix: What it would write after it; tokenised along, so that borders fall where they would in sampling.
        max_tokens: Most padded tokens of one forward pass.

    Returns:
        Per pair one number for each token that overlaps the target's characters.

    Raises:
        ConfigError: If contexts and targets differ in number.
    """
    if len(contexts) != len(targets):
        raise ConfigError(f"score: {len(contexts)} contexts for {len(targets)} targets; give one context per target")
    rendered: dict[int, list[int]] = {}
    rows: list[tuple[list[int], list[int]]] = []
    for context, target in zip(contexts, targets, strict=True):
        if id(context) not in rendered:
            rendered[id(context)] = renderer.start(context, ())
        start = rendered[id(context)]
        ids, inside = codec.covering(prefix + target + suffix, len(prefix), len(prefix) + len(target))
        # Where both do not fit, the oldest tokens go: one long episode must not cost the others their scores.
        start = start[max(0, len(start) + len(ids) - model.max_context) :]
        rows.append((start + ids, [len(start) + i for i in inside]))
    found: list[list[float]] = [[] for _ in rows]
    order = sorted((i for i in range(len(rows)) if rows[i][1]), key=lambda i: -len(rows[i][0]))
    with torch.no_grad():
        while order:
            n = max(1, max_tokens // len(rows[order[0]][0]))
            part, order = order[:n], order[n:]
            ids_mask = [(tuple(rows[i][0]), _mask(*rows[i])) for i in part]
            values = logprobs(model, TokenRows(*zip(*ids_mask, strict=True))).tolist()
            for i, row in zip(part, values, strict=True):
                found[i] = [row[at] for at in rows[i][1]]
    return found


def _mask(ids: list[int], wanted: list[int]) -> tuple[int, ...]:
    chosen = set(wanted)
    return tuple(int(at in chosen) for at in range(len(ids)))
