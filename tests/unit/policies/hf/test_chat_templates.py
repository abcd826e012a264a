"""Native tools through chat templates: random conversations do not drift, and the checks that say so are sharp."""

import pytest

pytest.importorskip("transformers")

from chat_fuzz import SPECS, Fuzzer
from chat_templates import ORIGINALS, TEMPLATES, tokenizer_of

from agentgym.dialects import ChatDialect
from agentgym.errors import ConfigError
from agentgym.policies.hf import chat
from agentgym.policies.hf.codec import TokenCodec
from agentgym.policies.hf.renderer import TemplateRenderer
from agentgym.task import Limits
from agentgym.types import Message

pytestmark = pytest.mark.torch
N = 60


@pytest.mark.parametrize("name", TEMPLATES)
def test_random_conversations_do_not_drift(name):
    fuzzer = Fuzzer(name)
    for seed in range(N):
        fuzzer.run(seed)
    found = fuzzer.found
    assert found.exact > N / 2
    assert found.turns > 2 * N
    assert (found.segments > found.conversations) == (found.rewrites > 0)


@pytest.mark.trl
@pytest.mark.parametrize("name", ORIGINALS)
def test_published_templates_do_not_drift(name):
    pytest.importorskip("trl")
    fuzzer = Fuzzer(name)
    for seed in range(25):
        fuzzer.run(seed)
    assert fuzzer.found.exact > 10


def test_a_template_is_asked_about_a_blank_text_as_it_stands():
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.content | trim %}{{ ': ' + m.content | trim }}{% endif %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    codec = TokenCodec(tokenizer)
    for blank in ("", " ", "\n\t"):
        messages = [Message.of("system", blank), Message.of("user", "hello")]
        ids = TemplateRenderer(codec).open_chat(messages, (), ChatDialect())
        assert codec.decode(ids) == "<|im_start|>system<|im_end|><|im_start|>user: hello<|im_end|><|im_start|>assistant\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_thousand_conversations_do_not_drift(name):
    fuzzer = Fuzzer(name)
    for seed in range(10_000, 11_000):
        fuzzer.run(seed)


def breaks(monkeypatch, name, what, change):
    monkeypatch.setattr(chat if hasattr(chat, what) else chat.ChatTemplate, what, change)
    fuzzer = Fuzzer(name)

    def run():
        for seed in range(N):
            fuzzer.run(seed)

    with pytest.raises((AssertionError, ConfigError)):
        run()


def test_the_fuzzer_sees_faults(monkeypatch):
    honest = chat._written
    with monkeypatch.context() as patch:  # trimming and escaping forgotten
        breaks(patch, "llama3", "_written", lambda text, part: text)
    with monkeypatch.context() as patch:  # texts trusted
        breaks(
            patch,
            "qwen2.5",
            "_encode",
            lambda self, texts, parts: self.codec.encode_parts(
                [(p, True) if isinstance(p, str) else (honest(texts[p[0]], p), True) for p in parts]
            ),
        )
    with monkeypatch.context() as patch:  # history never rewritten
        breaks(patch, "mistral", "_after", lambda parts, before: parts[len(before) - 1 :])
    with monkeypatch.context() as patch:  # stripped thoughts overlooked
        breaks(
            patch,
            "qwen3",
            "_closing",
            lambda self, rest, own: [str(rest[-1])[str(rest[-1]).index("<|im_end|>") :] if "<|im_end|>" in str(rest[-1]) else rest[-1]],
        )


# ---- by hand ----------------------------------------------------------------------------------------


def conversation(name, *turns, **options):
    """Return renderer and the messages of a conversation that begins with a user's question."""
    return TemplateRenderer(TokenCodec(tokenizer_of(name)), **options), [Message.of("user", "refund the order"), *turns]


def follow(renderer, messages, sampled):
    return renderer.follow_chat(messages, SPECS, ChatDialect(), sampled)


CALL = '<think>\nfirst look\n</think>\n\n<tool_call>\n{"name": "search", "arguments": {"query": "order"}}\n</tool_call>'


def test_thoughts_stay_while_tools_answer_and_go_when_the_user_speaks():
    renderer, messages = conversation("qwen3")
    start = renderer.open_chat(messages, SPECS, ChatDialect())
    sampled = [*renderer.codec.encode(CALL), renderer.end_of_turn]
    messages += [Message.of("assistant", CALL), Message.of("tool", "found", name="search", call_id="c1")]
    appended, anew = follow(renderer, messages, sampled)
    assert not anew
    text = renderer.codec.decode([*start, *sampled, *appended])
    assert text.endswith("<|im_end|>\n<|im_start|>user\n<tool_response>\nfound\n</tool_response><|im_end|>\n<|im_start|>assistant\n")
    reply = "<think>\ndone\n</think>\n\nIt is refunded."
    messages += [Message.of("assistant", reply), Message.of("user", "thanks, and the other one?")]
    context, anew = follow(renderer, messages, [*renderer.codec.encode(reply), renderer.end_of_turn])
    text = renderer.codec.decode(context)
    assert anew
    assert "first look" not in text
    assert "done" not in text
    assert '<tool_call>\n{"name": "search", "arguments": {"query": "order"}}\n</tool_call><|im_end|>' in text
    assert text.endswith("<|im_start|>user\nthanks, and the other one?<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("qwen3", '<think>\nhm\n</think>\n\n<tool_call>\n{"name": "search", "arguments": {"query": "a \\"b\\""}}\n</tool_call>'),
        ("hermes", '<tool_call>\n{"arguments": {"query": "a \\"b\\""}, "name": "search"}\n</tool_call>'),
        ("llama3", '{"name": "search", "parameters": {"query": "a \\"b\\""}}'),
        ("mistral", '[TOOL_CALLS] [{"name": "search", "arguments": {"query": "a \\"b\\""}, "id": "0001c0001"}]'),
        ("mistral-args", '[TOOL_CALLS]search[ARGS]{"query": "a \\"b\\""}'),
    ],
)
def test_a_demonstration_is_written_as_the_model_would(name, written):
    renderer, messages = conversation(name)
    action = '<tool_call>{"name": "search", "arguments": {"query": "a \\"b\\""}}</tool_call>'
    if TEMPLATES[name][3]:
        action = f"<think>hm</think>{action}"
    ids, text = renderer.write_chat(messages, SPECS, ChatDialect(), action)
    assert (text.removeprefix("\n"), ids[-1]) == (written, renderer.end_of_turn)
    (call,) = ChatDialect().parse(text, SPECS, Limits()).calls
    assert call.arguments == {"query": 'a "b"'}
    mark = renderer.codec.special.get("[TOOL_CALLS]")
    assert mark is None or ids[0] == mark


def test_options_reach_the_template():
    renderer, messages = conversation("qwen3", template_options={"enable_thinking": False})
    ids = renderer.open_chat(messages, SPECS, ChatDialect())
    assert renderer.codec.decode(ids).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_parallel_results_of_a_template_that_knows_none_are_texts():
    two = "".join(f'<tool_call>{{"name": "search", "arguments": {{"query": "{q}"}}}}</tool_call>' for q in "ab")
    results = [Message.of("tool", f"found {q}", name="search", call_id=f"c{i}") for i, q in enumerate("ab", 1)]
    for name, marks in (("llama3", "ipython"), ("gemma", "found a\n\nfound b")):
        renderer, messages = conversation(name, Message.of("assistant", two), *results)
        text = renderer.codec.decode(renderer.open_chat(messages, SPECS, ChatDialect()))
        assert marks in text
        assert two in text


def test_a_template_without_tools_has_them_described_in_its_system_prompt():
    for name in ("chatml", "gemma"):
        renderer, messages = conversation(name)
        text = renderer.codec.decode(renderer.open_chat(messages, SPECS, ChatDialect()))
        assert text.count("search(query: string") == 1, name
        assert text.index("search(query: string") < text.index("refund the order")
        assert "search(" not in renderer.codec.decode(renderer.open_chat(messages, (), ChatDialect()))


def test_a_completion_that_was_cut_is_closed():
    renderer, messages = conversation("qwen2.5", Message.of("assistant", "I thin"), Message.of("user", "go on"))
    ids, anew = follow(renderer, messages, renderer.codec.encode("I thin"))
    assert not anew
    assert renderer.codec.decode(ids) == "<|im_end|>\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_shows_nothing_is_refused():
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}"
    renderer = TemplateRenderer(TokenCodec(tokenizer))
    tokenizer.chat_template = "always the same"
    renderer._chat._kept.clear()
    with pytest.raises(ConfigError, match="cannot render the roles"):
        renderer.open_chat([Message.of("user", "hello")], SPECS, ChatDialect())
