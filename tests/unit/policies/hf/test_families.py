"""Models of other families, at random and tiny: the same numbers as the untouched model, in sampler and learner."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from agentgym.errors import ConfigError  # noqa: E402
from agentgym.policies.hf import HFPolicy, load, tiny  # noqa: E402
from agentgym.types import TokenRows  # noqa: E402
from agentgym.worlds import closed_vocabulary  # noqa: E402

from .conftest import Conversations  # noqa: E402

pytestmark = pytest.mark.torch

MIXED = ["sliding_attention", "full_attention"]
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAMILIES = {
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen2/windows": {"use_sliding_window": True, "sliding_window": 16, "layer_types": MIXED},
    "Qwen3": {"num_key_value_heads": 1},
    "Qwen3Moe": EXPERTS,
    "Mistral": {"sliding_window": 16},
    "Gemma": {"tie_word_embeddings": True},
    "Gemma2": {"sliding_window": 16, "layer_types": MIXED, "final_logit_softcapping": 5.0},
    "Gemma3": {"sliding_window": 16, "layer_types": MIXED},
    "Cohere": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 4.0},
    "Olmo2": {},
    "Phi3": {"sliding_window": None},
    "GPT2": {},
    "GPTNeoX": {},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Falcon": {"multi_query": True},
    "GPTJ": {"rotary_dim": 4},
    "Mpt": {"max_seq_len": 512},
}
"""Grouped and single key heads, windows in some layers or all, learned and rotary positions and biases instead of
them, tied and scaled and capped heads, experts, and attention that only the model itself knows (GPTJ, Mpt)."""
NOT_BIT_EQUAL = {"Mpt"}
"""Their own attention sums in an order that depends on the batch."""


def small(family, **options):
    kind = family.partition("/")[0]
    names = {"Gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM")}
    config_name, model_name = names.get(kind, (f"{kind}Config", f"{kind}ForCausalLM"))
    model_class = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else model_name)
    settings = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        **options,
    }
    if kind == "Falcon":  # computes it
        del settings["head_dim"]
    config = getattr(transformers, config_name)(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 1)
    if "num_experts" in options:
        model.set_experts_implementation("batched_mm")
    return model


def tokenizer():
    return tiny.make_tokenizer(closed_vocabulary(), ("search",), 256)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def test_sampler_and_learner_compute_what_the_untouched_model_does(family):
    model = small(family, **FAMILIES[family])
    untouched = copy.deepcopy(model)
    untouched.set_attn_implementation("eager")
    policy = HFPolicy(model, tokenizer())
    policy.sync(1)
    ids = np.random.default_rng(0).integers(0, 200, 100).tolist()
    n = 60
    sampled = policy._sampler.forced(ids, n)
    with torch.no_grad():
        learned = policy.logprobs(TokenRows((tuple(ids),), ((0,) * (100 - n) + (1,) * n,)))[0, 100 - n :]
    whole = logits_of(untouched, ids).log_softmax(-1)
    expected = [float(whole[i - 1, ids[i]]) for i in range(100 - n, 100)]
    assert np.std(expected) > 0.05, "the model prefers something"
    assert learned.tolist() == pytest.approx(expected, abs=1e-4)
    assert sampled == pytest.approx(learned.tolist(), abs=1e-4)


def test_completions_do_not_depend_on_the_batch(family):
    policy = HFPolicy(small(family, **FAMILIES[family]), tokenizer())
    conversations = Conversations(policy, longest=24)
    together, _ = conversations.run(range(12), 3)
    for subset in ([3], [11, 0]):
        found, _ = conversations.run(subset, 3)
        for episode in subset:
            for a, b in zip(found[episode], together[episode], strict=True):
                assert a.token_ids == b.token_ids
                assert np.allclose(a.logprobs, b.logprobs, rtol=0, atol=1e-5)
                assert a.logprobs == b.logprobs or family in NOT_BIT_EQUAL


def test_saved_weights_are_the_models_own(family, tmp_path):
    policy = HFPolicy(small(family, **FAMILIES[family]), tokenizer())
    policy.save(tmp_path)
    ids = list(range(5, 40))
    assert torch.allclose(
        logits_of(transformers.AutoModelForCausalLM.from_pretrained(tmp_path), ids),
        logits_of(policy.model, ids),
        atol=1e-4,
    )
    again = load(tmp_path, experts="batched_mm" if "Moe" in family else "")
    rows = TokenRows((tuple(ids),), ((0,) + (1,) * (len(ids) - 1),))
    with torch.no_grad():
        assert torch.equal(again.logprobs(rows), policy.logprobs(rows))


def test_every_weight_that_matters_gets_a_gradient_once(family):
    policy = HFPolicy(small(family, **FAMILIES[family]), tokenizer())
    parameters = list(policy.parameters())
    assert len({id(p) for p in parameters}) == len(parameters)
    ids = tuple(range(5, 40))
    policy.logprobs(TokenRows((ids,), ((0,) + (1,) * (len(ids) - 1),))).sum().backward()
    moved = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in parameters]
    assert sum(moved) > 0.8 * len(moved)


# ---- what cannot be supported ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("Bloom", {"n_head": 4}, "BloomForCausalLM is not supported"),
        ("GPTNeo", {"attention_types": [[["global", "local"], 1]], "window_size": 16}, "GPTNeoForCausalLM is not"),
        ("Bert", {}, "BertLMHeadModel is not supported"),
        ("Mamba", {}, "layers of kind"),
    ],
)
def test_a_model_whose_pieces_do_not_make_the_whole_is_refused(family, options, message):
    names = {"Bert": "BertLMHeadModel"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(
            **{"vocab_size": 300, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}
            | {"num_attention_heads": 4, "num_hidden_layers": 2}
            | {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
            | options
        )
        model = getattr(transformers, names.get(family, f"{family}ForCausalLM"))(config).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 1)
    with pytest.raises(ConfigError, match=message):
        HFPolicy(model, tokenizer())


def test_a_model_without_keys_and_values_is_refused():
    model = small("Llama")
    model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ConfigError, match="linear_attention"):
        HFPolicy(model, tokenizer())


def test_a_head_that_is_not_the_output_embeddings_is_refused(monkeypatch):
    model = small("Llama")
    forward = type(model).forward

    def doubled(self, *args, **kwargs):
        found = forward(self, *args, **kwargs)
        found.logits = 2 * found.logits
        return found

    monkeypatch.setattr(type(model), "forward", doubled)
    with pytest.raises(ConfigError, match="log-probabilities differ"):
        HFPolicy(model, tokenizer())


def test_unknown_experts_are_refused(tmp_path):
    HFPolicy(small("Llama"), tokenizer()).save(tmp_path)
    with pytest.raises(ConfigError, match="experts 'none'"):
        load(tmp_path, experts="none")


WITHOUT_TREES = {"Mpt"}
"""Their attention goes by the place in the sequence, whatever the positions are."""


def test_rows_that_begin_alike_are_read_as_a_tree_or_one_by_one(family):
    from agentgym.policies.hf import shared_prefixes

    policy = HFPolicy(small(family, **FAMILIES[family]), tokenizer())
    assert shared_prefixes.supported(policy._causal) == (family not in WITHOUT_TREES)
    rng = np.random.default_rng(1)
    start = rng.integers(0, 200, 40).tolist()
    rows = [start[:n] + rng.integers(0, 200, 5).tolist() for n in (3, 20, 40, 40, 31)]
    wanted = [[len(row) - 3, len(row) - 1] for row in rows]
    if family in WITHOUT_TREES:
        return
    with torch.no_grad():
        found = shared_prefixes.logprobs(policy._causal, rows, wanted, 4_096)
        for row, at, values in zip(rows, wanted, found, strict=True):
            mask = tuple(int(i in at) for i in range(len(row)))
            assert values == pytest.approx(policy.logprobs(TokenRows((tuple(row),), (mask,)))[0, at].tolist(), abs=1e-4)
