"""Scoring: the numbers of an independent forward pass, for exactly the tokens of the target."""

import pytest

torch = pytest.importorskip("torch")

from agentgym.errors import ConfigError  # noqa: E402
from agentgym.rewards.component import Scorer  # noqa: E402
from agentgym.types import Message  # noqa: E402

pytestmark = pytest.mark.torch

SHORT = [Message.of("user", "birthplace of Ada ?")]
LONG = [
    Message.of("system", "Ada Lund"),
    *SHORT,
    Message.of("assistant", "<search>Ada</search>"),
    Message.of("tool", "Ada : born Lund . | Lund : in Norland ."),
]
PAIRS = [(SHORT, "Lund"), (LONG, "Lund"), (LONG, "Lund in Norland"), (SHORT, "Ada born"), (LONG, "Oldhaven")]
PREFIX, SUFFIX = "<answer>", "</answer>"


@torch.no_grad()
def independent(policy, context, target, prefix=PREFIX):
    """Score one pair by the whole model, finding the target's tokens from what each one decodes to."""
    start = policy.renderer.start(context, ())
    text = prefix + target + SUFFIX
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    logits = policy.model(input_ids=torch.tensor([[*start, *ids]]), use_cache=False).logits[0].float()
    found, begin, end = [], len(prefix), len(prefix) + len(target)
    for i, token in enumerate(ids):
        a, b = len(policy._codec.decode(ids[:i])), len(policy._codec.decode(ids[: i + 1]))
        if a < end and b > begin:
            found.append(float(logits[len(start) + i - 1].log_softmax(-1)[token]))
    return found


def test_scores_are_those_of_an_independent_forward_pass(policy):
    assert isinstance(policy, Scorer)
    contexts, targets = zip(*PAIRS, strict=True)
    found = policy.score(contexts, PREFIX, targets, SUFFIX)
    for (context, target), values in zip(PAIRS, found, strict=True):
        assert values
        assert values == pytest.approx(independent(policy, context, target), rel=1e-5, abs=1e-5)


def test_borders_are_those_of_the_whole_text(policy):
    """Behind a blank, the first token of a target may start before it; it belongs to the target."""
    prefix = "author of : "
    (found,) = policy.score([SHORT], prefix, ["Lund in"], SUFFIX)
    assert found == pytest.approx(independent(policy, SHORT, "Lund in", prefix), rel=1e-5, abs=1e-5)


def test_batching_and_missing_offsets_change_nothing(policy, monkeypatch):
    from agentgym.policies.hf import scorer

    contexts, targets = zip(*PAIRS, strict=True)
    usual = policy.score(contexts, PREFIX, targets, SUFFIX)
    small = scorer.score(
        policy._causal, policy._codec, policy.renderer, contexts, PREFIX, targets, SUFFIX, max_tokens=1
    )
    monkeypatch.setattr(policy._codec, "_backend", None)
    bare = policy.score(contexts, PREFIX, targets, SUFFIX)
    for a, b, c in zip(usual, small, bare, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-5)
        assert a == pytest.approx(c, abs=1e-6)


def test_edges(fresh):
    assert fresh.score([], PREFIX, [], SUFFIX) == []
    assert fresh.score([SHORT, SHORT], PREFIX, ["", "Lund"], SUFFIX)[0] == []
    with pytest.raises(ConfigError, match="one context per target"):
        fresh.score([SHORT], PREFIX, [], SUFFIX)
    endless = [Message.of("user", "Ada " * 2 * fresh.max_context)]
    (found,) = fresh.score([endless], PREFIX, ["Lund"], SUFFIX)
    assert len(found) == 1


def growing(n=7):
    """Contexts of siblings: they begin alike, grow turn by turn, and some are equal."""
    people = ("Ada", "Lund", "Norland", "Oldhaven")
    found = []
    for sibling in range(3):
        shown = []
        for turn in range(n):
            found.append([Message.of("user", " ".join(["birthplace of Ada ?", *shown]))])
            shown.append(f"{people[(turn * (1 + sibling // 2)) % 4]} : born {people[(turn + 1) % 4]} .")
    return found


@pytest.mark.parametrize(("width", "max_tokens"), [((256, 4096), 16_384), ((8, 48), 16_384), ((8, 96), 1)])
def test_what_rows_share_is_computed_once_with_the_same_values(policy, monkeypatch, width, max_tokens):
    """Trees that hold all rows, or few of them; rows too long for a tree; one forward pass per tree."""
    from agentgym.policies.hf import scorer, shared_prefixes

    monkeypatch.setattr(shared_prefixes, "MIN_WIDTH", width[0])
    monkeypatch.setattr(shared_prefixes, "MAX_WIDTH", width[1])
    monkeypatch.setattr(scorer, "MAX_WIDTH", width[1])
    contexts = [c for c in growing() for _ in range(2)]
    targets = ["Lund", "Norland Lund"] * (len(contexts) // 2)
    parts = (policy._causal, policy._codec, policy.renderer, contexts, PREFIX, targets, SUFFIX, max_tokens)
    together, apart = scorer.score(*parts), scorer.score(*parts, share_prefixes=False)
    for a, b in zip(together, apart, strict=True):
        assert len(a) == len(b) > 0
        assert a == pytest.approx(b, rel=1e-5, abs=1e-5)


def test_shared_tokens_are_read_once(policy, monkeypatch):
    from agentgym.policies.hf import shared_prefixes

    read = []
    hidden = policy._causal.hidden
    monkeypatch.setattr(policy._causal, "hidden", lambda ids, **o: read.append(ids.shape) or hidden(ids, **o))
    contexts = growing()
    assert shared_prefixes.supported(policy._causal)
    read.clear()
    policy.score(contexts, PREFIX, ["Lund"] * len(contexts), SUFFIX)
    rows = [policy.renderer.start(c, ()) for c in contexts]
    assert sum(b * t for b, t in read) < 0.5 * sum(map(len, rows))
