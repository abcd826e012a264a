"""Sampling: independent of batching bit for bit, equal to what the learner computes, and honest about its ends."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agentgym.errors import ConfigError, LedgerError  # noqa: E402
from agentgym.policies.hf import tiny  # noqa: E402
from agentgym.policies.hf.cache import CacheStore, Kept, RowCache  # noqa: E402
from agentgym.policies.hf.sampling import StopStrings, choose  # noqa: E402
from agentgym.seeding import stream  # noqa: E402
from agentgym.types import Message, TokenRows  # noqa: E402

from .conftest import STOP, Conversations, act, load, request_for  # noqa: E402

pytestmark = pytest.mark.torch


def bits(completions):
    return [(c.token_ids, c.logprobs, c.entropies, c.text) for c in completions]


def check_batches(conversations, n, subsets, turns=2):
    together, _ = conversations.run(range(n), turns)
    for subset in subsets:
        found, _ = conversations.run(subset, turns)
        for episode in subset:
            assert bits(found[episode]) == bits(together[episode]), (len(subset), episode)


def test_a_row_does_not_depend_on_its_batch(policy):
    check_batches(Conversations(policy, longest=12), 20, [[0], [19, 3, 11], list(range(12))])


LARGE = [[0], [95], [5, 50, 77], list(range(20, 40)), list(range(95, -1, -1))]


def test_a_row_does_not_depend_on_a_large_batch(fresh):
    check_batches(Conversations(fresh, longest=40), 96, LARGE, turns=4)


def test_nor_on_the_length_of_its_context():
    """Long contexts: read at once or built up turn by turn, cached or not, beside shorter ones or alone."""
    fresh = tiny.load(max_context=2048)
    conversations = Conversations(fresh, seed=7, longest=400)
    usual, _ = conversations.run(range(12), 4)
    assert max(len(c[-1].context_ids) for c in usual.values()) > 700
    check_batches(conversations, 12, [[3], [11, 0]], turns=4)
    fresh._sampler.store.max_bytes = 0
    found, _ = conversations.run(range(12), 4)
    assert {e: bits(c) for e, c in found.items()} == {e: bits(c) for e, c in usual.items()}


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.timeout(600)
def test_nor_does_a_row_of_a_real_model():
    check_batches(Conversations(load("smollm2")), 96, LARGE[1:])


def test_nor_on_what_is_cached_or_how_contexts_are_read(policy):
    conversations = Conversations(policy, seed=1, longest=12)
    usual, _ = conversations.run(range(10), 2)
    sampler = policy._sampler
    kept = sampler.prefill_tokens, sampler.max_rows, sampler.store.max_bytes
    try:
        sampler.store.max_bytes = 0
        assert {e: bits(c) for e, c in conversations.run(range(10), 2)[0].items()} == {
            e: bits(c) for e, c in usual.items()
        }
        assert len(sampler.store) == 0
        sampler.store.max_bytes, sampler.prefill_tokens, sampler.max_rows = kept[2], 30, 9
        assert {e: bits(c) for e, c in conversations.run(range(10), 2)[0].items()} == {
            e: bits(c) for e, c in usual.items()
        }
    finally:
        sampler.prefill_tokens, sampler.max_rows, sampler.store.max_bytes = kept


def test_rollout_logprobs_are_the_learners(policy):
    conversations = Conversations(policy, seed=2)
    _, ledgers = conversations.run(range(8))
    rows, masks, expected = [], [], []
    for ids, spans in ledgers.values():
        mask, values = [0] * len(ids), [0.0] * len(ids)
        for start, completion in spans:
            mask[start : start + len(completion.token_ids)] = [1] * len(completion.token_ids)
            values[start : start + len(completion.token_ids)] = completion.logprobs
        rows.append(tuple(ids))
        masks.append(tuple(mask))
        expected.append(values)
    with torch.no_grad():
        found = policy.logprobs(TokenRows(tuple(rows), tuple(masks)))
    assert found.dtype == torch.float32
    assert found.shape == (8, max(map(len, rows)))
    for b, values in enumerate(expected):
        assert found[b, : len(values)].numpy() == pytest.approx(np.array(values), abs=1e-4)
        assert not found[b, len(values) :].any()


def test_samples_are_independent_of_dropped_and_foreign_rows(policy):
    """Episodes that share a cache, leave it, come back and meet others keep their own context."""
    conversations = Conversations(policy, seed=3, longest=8)
    alone = conversations.run(range(4), 2)[0]
    ids = {e: conversations.text(e, 0) for e in range(4)}
    first = act(policy, [request_for(e, ids[e]) for e in range(4)])
    for e in range(4):
        ids[e] = [*ids[e], *first[e].token_ids, *conversations.text(e, 1)]
    policy.release(["0"])
    second = {}
    for group in ([1, 2], [3], [0]):
        second.update(zip(group, act(policy, [request_for(e, ids[e], 1) for e in group]), strict=True))
    policy.release(map(str, range(4)))
    for e in range(4):
        assert bits([first[e], second[e]]) == bits(alone[e])


def test_a_context_that_changed_is_read_anew(policy):
    conversations = Conversations(policy, seed=4)
    ids = conversations.text(0, 0) + conversations.text(1, 0)
    changed = [*ids[:3], *conversations.text(2, 0)]
    act(policy, [request_for("a", ids)])
    found = act(policy, [request_for("a", changed)])
    policy.release(["a"])
    other = act(policy, [request_for("b", changed, key=("test", "a", 0))])
    policy.release(["b"])
    assert bits(found) == bits(other)


# ---- ends ------------------------------------------------------------------------------------------


def test_greedy_takes_the_most_probable_token_and_records_temperature_one(policy):
    ids = Conversations(policy, seed=5).text(0, 0)
    (greedy,) = act(policy, [request_for("g", ids, temperature=0.0, stop=())])
    policy.release(["g"])
    whole = [*ids, *greedy.token_ids]
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([whole]), use_cache=False).logits[0].float()
    at = range(len(ids) - 1, len(whole) - 1)
    assert list(greedy.token_ids) == [int(logits[i].argmax()) for i in at]
    expected = [float(logits[i].log_softmax(-1).max()) for i in at]
    assert greedy.logprobs == pytest.approx(expected, abs=1e-4)


def test_length_end_of_sequence_and_version(fresh):
    ids = fresh.renderer.start([Message.of("user", "birthplace of Ada ?")], ())
    (long,) = act(fresh, [request_for(0, ids, temperature=0.0, max_tokens=3, stop=())])
    assert (long.finish_reason, len(long.token_ids)) == ("length", 3)
    assert long.text == fresh._codec.decode(long.token_ids)
    fresh._sampler.ends = frozenset({long.token_ids[0]})
    fresh.sync(7)
    (ended,) = act(fresh, [request_for(0, ids, temperature=0.0, max_tokens=3, stop=())])
    assert (ended.finish_reason, ended.token_ids, ended.text) == ("stop", long.token_ids[:1], "")
    assert ended.policy_version == 7


def test_a_bad_row_fails_alone(fresh):
    good = request_for(0, [1, 2, 3])
    bad = [
        request_for(1, [1] * fresh.max_context),
        request_for(2, [len(fresh.tokenizer)]),
        request_for(3, [1], temperature=math.nan),
    ]
    found = act(fresh, [bad[0], good, *bad[1:]])
    assert [c.finish_reason == "error" for c in found] == [True, False, True, True]
    assert "leaves no room" in found[0].error
    assert bits([found[1]]) == bits(act(fresh, [good]))


def test_messages_are_rendered_where_there_are_no_ids(fresh):
    messages = (Message.of("user", "birthplace of Ada ?"),)
    (found,) = act(fresh, [request_for(0, (), messages=messages)])
    assert list(found.context_ids) == fresh.renderer.start(messages, ())


def test_stop_strings_end_where_a_plain_search_would_find_them(policy):
    codec = policy._codec
    texts = [
        "<search>Ada author</search>",
        "<search>a</search>\n\nand more",
        "x</search></answer>",
        "</search",
        "plain text. With stops? Yes\n",
    ]
    for stop in (STOP, (".",), ("?\n", "Yes"), (" ",), ("é",), ()):
        stops = StopStrings(codec, stop)
        for text in [*texts, "ein Café é"]:
            ids = codec.encode(text)
            for n in range(1, len(ids) + 1):
                so_far = codec.decode(ids[:n])
                ends = [so_far.find(s) + len(s) for s in stop if s in so_far]
                found = stops.text(ids[:n])
                assert found == (so_far[: min(ends)] if ends else None), (stop, so_far)
                if found is not None:
                    break


@pytest.mark.smollm2
def test_surplus_characters_stay_in_the_tokens_but_not_in_the_text():
    from agentgym.policies.hf import smollm2
    from agentgym.policies.hf.codec import TokenCodec
    from agentgym.policies.hf.policy import read

    codec = TokenCodec(read(smollm2.converted(), "float32")[1])
    ids = codec.encode('say "stop".')
    assert codec.decode(ids).endswith('".')
    last = next(n for n in range(1, len(ids) + 1) if '"' in codec.decode(ids[n - 1 : n]) and n > 3)
    assert codec.decode(ids[last - 1 : last]) == '".', "this tokenizer joins both characters"
    assert StopStrings(codec, ('stop"',)).text(ids[:last]) == 'say "stop"'


# ---- numbers ---------------------------------------------------------------------------------------


def test_choose_gives_every_token_its_share():
    """Inverse-CDF sampling with evenly spread noise is exact up to one draw a token."""
    logits = torch.tensor([2.0, -1.0, 0.5, -40.0, 1.0])
    n = 10_000
    for temperature in (0.5, 1.0, 2.0):
        p = torch.softmax(logits.double() / temperature, -1)
        noise = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        tokens, logprobs, entropies = choose(logits.expand(n, -1), torch.full((n,), temperature), noise)
        counts = np.bincount(tokens, minlength=5)
        assert np.abs(counts - n * p.numpy()).max() <= 1
        assert logprobs == pytest.approx([math.log(p[t]) for t in tokens], abs=1e-5)
        assert entropies[0] == pytest.approx(-float((p * p.log()).sum()), abs=1e-5)


def test_choose_never_takes_a_token_of_probability_zero():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]])
    for noise in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        tokens, _, entropies = choose(logits, torch.ones(1), torch.tensor([noise]))
        assert tokens[0] in (1, 3)
        assert entropies[0] == pytest.approx(math.log(2))


def test_noise_is_the_keyed_stream(fresh):
    """The first token is the one that the key's first number selects from the model's distribution."""
    ids = [3, 5, 8, 13]
    with torch.no_grad():
        p = fresh.model(torch.tensor([ids]), use_cache=False).logits[0, -1].double().softmax(-1)
    for key in range(5):
        (found,) = act(fresh, [request_for(0, ids, key=("k", key), max_tokens=1)])
        u = stream("k", key).random()
        assert found.token_ids[0] == int(np.searchsorted(np.cumsum(p.numpy()), u, side="right"))
        fresh.release(["0"])


# ---- weights ---------------------------------------------------------------------------------------


def test_changed_weights_void_what_is_cached(fresh):
    ids = Conversations(fresh, seed=6).text(0, 0)
    act(fresh, [request_for(0, ids)])
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.mul_(1.1)
    found = act(fresh, [request_for(0, [*ids, 4])])
    fresh.sync(1)
    assert bits(found) == bits(act(fresh, [request_for(0, [*ids, 4])]))


def test_sync_refuses_a_sampler_that_computes_something_else(fresh, monkeypatch):
    fresh.sync(1)
    honest = fresh._causal.masks
    monkeypatch.setattr(fresh._causal, "masks", lambda positions, n: honest(positions - 1, n))
    with pytest.raises(LedgerError, match="differ by"):
        fresh.sync(2)


def test_sync_refuses_weights_that_are_not_finite(fresh):
    with torch.no_grad():
        next(iter(fresh.parameters())).fill_(math.nan)
    with pytest.raises(LedgerError):
        fresh.sync(1)


def test_gradients_flow_and_large_vocabularies_are_cut_into_pieces(fresh, monkeypatch):
    from agentgym.policies.hf import training

    ids = tuple(tuple(Conversations(fresh).text(e, 0)) for e in range(40))
    rows = TokenRows(ids, tuple((0,) + (1,) * (len(r) - 1) for r in ids))

    def gradient():
        fresh.model.zero_grad()
        fresh.logprobs(rows).sum().backward()
        return [p.grad.clone() for p in fresh.parameters()]

    whole = gradient()
    monkeypatch.setattr(training, "LOGITS_AT_ONCE", 1)
    for a, b in zip(whole, gradient(), strict=True):
        assert a.abs().max() > 0
        assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()))


def test_logprobs_refuses_a_mask_that_cannot_be(fresh):
    with pytest.raises(ConfigError, match="row 1"):
        fresh.logprobs(TokenRows(((1, 2), (1, 2)), ((0, 1), (1, 1))))
    assert fresh.logprobs(TokenRows(((1, 2),), ((0, 0),))).tolist() == [[0.0, 0.0]]


def test_the_store_forgets_the_least_recently_used():
    store = CacheStore(max_bytes=2 * 8 * 64 * 2 * 4 * 4)
    for name in ("a", "b", "c"):
        cache = RowCache(8, 64)
        cache.aim(slice(0, 8), torch.zeros(8, 1, dtype=torch.long), 64)
        cache.update(torch.ones(8, 2, 1, 4), torch.ones(8, 2, 1, 4), 0)
        store.keep(name, Kept(cache, 0, [1, 2]))
        store.trim()
    assert store.find("a", [1, 2, 3]) == (None, 0)
    assert store.find("c", [1, 2, 3])[1] == 2
    assert store.find("c", [1, 9, 3])[1] == 1
    assert store.find("c", [1, 2])[1] == 1
    store.clear()
    assert store.n_bytes == 0
