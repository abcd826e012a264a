"""Log-probabilities of given targets after given conversations (for rewards such as information gain)."""

from collections.abc import Sequence

import torch

from agentgym.errors import ConfigError
from agentgym.policies.hf.codec import TokenCodec
from agentgym.policies.hf.model import CausalModel
from agentgym.policies.hf.renderer import TemplateRenderer
from agentgym.policies.hf.shared_prefixes import MAX_WIDTH, supported
from agentgym.policies.hf.shared_prefixes import logprobs as shared_logprobs
from agentgym.policies.hf.shared_prefixes import logprobs_and_entropies as shared_both
from agentgym.policies.hf.training import Measure, entropy, log_probability, logprobs
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
    *,
    share_prefixes: bool = True,
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
        share_prefixes: Compute what rows have in common at their beginnings once; False reads every row as a whole.

    Returns:
        Per pair one number for each token that overlaps the target's characters.

    Raises:
        ConfigError: If contexts and targets differ in number.
    """
    rows, wanted = _rows(model, codec, renderer, contexts, prefix, targets, suffix)
    together, apart = _split(model, rows, share_prefixes)
    with torch.no_grad():
        values = shared_logprobs(model, [rows[i] for i in together], [wanted[i] for i in together], max_tokens)
        found = _placed([[] for _ in rows], together, values)
        return _placed(found, apart, _separately(model, [rows[i] for i in apart], [wanted[i] for i in apart], max_tokens))


def score_with_entropies(
    model: CausalModel,
    codec: TokenCodec,
    renderer: TemplateRenderer,
    contexts: Sequence[Sequence[Message]],
    prefix: str,
    targets: Sequence[str],
    suffix: str,
    max_tokens: int = 16_384,
) -> tuple[list[list[float]], list[list[float]]]:
    """Return what `score` returns, and for each token the entropy, in nats, of the distribution it was read from.

    One pass over what rows share; rows that are read apart are read twice.
    """
    rows, wanted = _rows(model, codec, renderer, contexts, prefix, targets, suffix)
    together, apart = _split(model, rows, True)
    with torch.no_grad():
        both = shared_both(model, [rows[i] for i in together], [wanted[i] for i in together], max_tokens)
        found = [_placed([[] for _ in rows], together, values) for values in both]
        own, at = [rows[i] for i in apart], [wanted[i] for i in apart]
        for filled, measure in zip(found, (log_probability, entropy), strict=True):
            _placed(filled, apart, _separately(model, own, at, max_tokens, measure))
    return found[0], found[1]


def _split(model: CausalModel, rows: Sequence[list[int]], share_prefixes: bool) -> tuple[list[int], list[int]]:
    """Return the rows that are read together, and those that are read apart, the longest first."""
    share_prefixes = share_prefixes and supported(model)
    together = [i for i, row in enumerate(rows) if share_prefixes and len(row) <= MAX_WIDTH]
    apart = [i for i, row in enumerate(rows) if not share_prefixes or len(row) > MAX_WIDTH]
    return together, sorted(apart, key=lambda i: -len(rows[i]))


def _rows(
    model: CausalModel,
    codec: TokenCodec,
    renderer: TemplateRenderer,
    contexts: Sequence[Sequence[Message]],
    prefix: str,
    targets: Sequence[str],
    suffix: str,
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the tokens of each pair, and the places of the target's among them."""
    if len(contexts) != len(targets):
        raise ConfigError(f"score: {len(contexts)} contexts for {len(targets)} targets; give one context per target")
    rendered: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    covered: dict[str, tuple[list[int], list[int]]] = {}
    rows: list[list[int]] = []
    wanted: list[list[int]] = []
    for context, target in zip(contexts, targets, strict=True):
        said = tuple((m.role, m.text, m.name, m.call_id) for m in context)  # siblings often saw the same
        if said not in rendered:
            rendered[said] = renderer.start(context, ())
        if target not in covered:
            covered[target] = codec.covering(prefix + target + suffix, len(prefix), len(prefix) + len(target))
        start, (ids, inside) = rendered[said], covered[target]
        # Where both do not fit, the oldest tokens go: one long episode must not cost the others their scores.
        start = start[max(0, len(start) + len(ids) - model.max_context) :]
        rows.append(start + ids)
        wanted.append([len(start) + i for i in inside])
    return rows, wanted


def _separately(
    model: CausalModel,
    rows: Sequence[list[int]],
    wanted: Sequence[list[int]],
    max_tokens: int,
    measure: Measure = log_probability,
) -> list[list[float]]:
    """Return the log-probabilities of wanted tokens, each row read from its beginning; the longest rows come first."""
    found: list[list[float]] = [[] for _ in rows]
    order = [i for i, at in enumerate(wanted) if at]
    while order:
        n = max(1, max_tokens // len(rows[order[0]]))
        part, order = order[:n], order[n:]
        masks = [tuple(int(at in set(wanted[i])) for at in range(len(rows[i]))) for i in part]
        values = logprobs(model, TokenRows(tuple(tuple(rows[i]) for i in part), tuple(masks)), measure).tolist()
        for i, row in zip(part, values, strict=True):
            found[i] = [row[at] for at in wanted[i]]
    return found


def _placed(found: list[list[float]], at: Sequence[int], values: Sequence[list[float]]) -> list[list[float]]:
    for i, row in zip(at, values, strict=True):
        found[i] = row
    return found
