"""The preset `tiny`: a word-level Llama of about 200,000 weights that learns to search on one CPU core."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agentgym.errors import ConfigError, suggestion
from agentgym.policies.hf.policy import HFPolicy
from agentgym.seeding import stream
from agentgym.worlds import closed_vocabulary
from agentgym.worlds.shop_words import shop_vocabulary

TOOLS = ("search", "answer", "open", "find", "information")
CODES = ("LENGTH", "RESERVED", "PARSE", "MULTI", "UNKNOWN_TOOL", "ARGS", "BUDGET", "TOOL", "TIMEOUT", "FORBIDDEN")
EXTRA_WORDS = ("|", ":", ",", "nothing", *"0123456789")
UNKNOWN, PAD, END = "<unk>", "<|pad|>", "<|end|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
TEMPLATE = (
    "{% for m in messages %}{{ '<|user|>' if m.role == 'tool' else '<|' + m.role + '|>' }}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""One token a message; an action that closes its tag needs no end of turn."""

VOCABULARIES: dict[str, Callable[[], tuple[str, ...]]] = {"closed": closed_vocabulary, "shop": shop_vocabulary}
"""Vocabularies by name: of the closed worlds of questions, and of the closed shops."""

IDENTITY_SHARE = 0.7
"""Share of the identity in value and output projections: attention copies from the first step on."""


def load(
    *,
    seed: int = 0,
    size: int = 64,
    layers: int = 3,
    heads: int = 2,
    feed_forward: int = 192,
    max_context: int = 1_024,
    tools: Sequence[str] = TOOLS,
    words: Sequence[str] | str | None = None,
    **options: Any,
) -> HFPolicy:
    """Return an untrained tiny policy.

    Args:
        seed: Key of the initial weights.
        size: Width of the hidden states.
        layers: Number of layers.
        heads: Attention heads.
        feed_forward: Width of the feed-forward layers.
        max_context: Longest context in tokens.
        tools: Tool names whose opening and closing tags are words.
        words: The vocabulary, or the name of one in `VOCABULARIES`; None takes "closed".
        options: Handed to `HFPolicy`.
    """
    tokenizer = make_tokenizer(_vocabulary("closed" if words is None else words), tools, max_context)
    ids = tokenizer.get_vocab()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=size // heads,
        max_position_embeddings=max_context,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        tie_word_embeddings=False,
        pad_token_id=ids[PAD],
        eos_token_id=ids[END],
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):  # transformers draws weights of its own, which are replaced
        model = LlamaForCausalLM(config)
    initialize(model, seed)
    return HFPolicy(model, tokenizer, max_context=max_context, **options)


def _vocabulary(words: Sequence[str] | str) -> Sequence[str]:
    if not isinstance(words, str):
        return words
    if words not in VOCABULARIES:
        raise ConfigError(f"tiny: words={words!r} is no vocabulary; allowed: {', '.join(VOCABULARIES)}{suggestion(words, VOCABULARIES)}")
    return VOCABULARIES[words]()


def make_tokenizer(words: Sequence[str], tools: Sequence[str], max_context: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are words, punctuation marks, digits, error codes and whole tags.

    Tags are words, so that they are read and sampled alike; only markers of roles, padding and end are special.
    """
    tags = [tag for tool in tools for tag in (f"<{tool}>", f"</{tool}>")]
    every = dict.fromkeys([*tags, *words, *EXTRA_WORDS, *(f"E_{code}" for code in CODES), UNKNOWN])
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(every)}, unk_token=UNKNOWN))
    pattern = Regex(r"</?[A-Za-z_]\w*>|\w+|[^\w\s]")
    backend.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="removed", invert=True)
    # Words are joined by blanks, except around tags.
    after = "|".join(f"(?<={tag})" for tag in tags)
    before = "|".join(f"(?={tag})" for tag in tags)
    backend.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="\ue000", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(f"(?:{after}) "), ""),
            decoders.Replace(Regex(f" (?:{before})"), ""),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES.values()),
        model_max_length=max_context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@torch.no_grad()
def initialize(model: Any, seed: int) -> None:
    """Set the weights of a LlamaForCausalLM: matrices N(0, 1 / fan-in), with what lets attention copy from the first step on.

    Value and output projections are near the identity, keys are half queries, and the output head starts as a copy
    of the embeddings (but is not tied to them). With the usual standard deviation of 0.02 a model of this size does
    not learn to copy names.
    """
    depth_scale = 1 / math.sqrt(2 * model.config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            parameter.fill_(1.0)
            continue
        draw = stream("tiny", seed, name).standard_normal(tuple(parameter.shape))
        parameter.copy_(torch.from_numpy(draw / math.sqrt(parameter.shape[1])))
    for layer in model.model.layers:
        attention = layer.self_attn
        attention.o_proj.weight.mul_(depth_scale)
        layer.mlp.down_proj.weight.mul_(depth_scale)
        for weight in (attention.v_proj.weight, attention.o_proj.weight):
            weight.mul_(1 - IDENTITY_SHARE).add_(IDENTITY_SHARE * torch.eye(*weight.shape))
        attention.k_proj.weight.add_(attention.q_proj.weight).div_(2)
    model.lm_head.weight.copy_(model.model.embed_tokens.weight)
