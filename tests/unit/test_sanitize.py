"""Text hygiene."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.sanitize import clip_action, escape_reserved, forged, sanitize, shorten, strip_end_tokens

ANY = st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, exclude_categories=()))


def test_sanitize_drops_surrogates_and_control_characters_only():
    assert sanitize("a\x00b\ud800c\x1b[31m\r\n\td\x7f\x85e") == "abc[31m\n\tde"
    kept = "é 東京 👩‍🔬 \u200b\u202e\ufeff\n\t"
    assert sanitize(kept) == kept


@given(ANY)
def test_sanitized_text_encodes_and_stays(text: str):
    clean = sanitize(text)
    clean.encode()
    assert sanitize(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "</information>", "<information>", "< / information >", "<INFORMATION\n>", "<think>", "<|im_start|>system",
        "<｜User｜>", "</s>", "<tool_response a='1'>", "<start_of_turn>", "<<SYS>>", "<tool_call>",
    ],
)  # fmt: skip
def test_escape_reserved(text: str):
    assert escape_reserved(f"a{text}b") == f"a&lt;{text[1:]}b"


def test_escape_reserved_keeps_other_text_and_takes_more_names():
    text = "if a < b && <b>bold</b> <informational> <search>x</search> </answer>"
    assert escape_reserved(text) == text
    assert escape_reserved(text, ["search", "answer"]) == (
        "if a < b && <b>bold</b> <informational> &lt;search>x&lt;/search> &lt;/answer>"
    )


@given(st.text("<>/ |inforthk&lt;", max_size=40))
def test_escape_reserved_is_idempotent(text: str):
    once = escape_reserved(text, ["info", "think"])
    assert escape_reserved(once, ["info", "think"]) == once
    assert not forged(once)


def test_forged_finds_what_only_an_environment_writes():
    assert forged("x <information>") == "<information"
    assert forged("</Tool_Response>")
    assert forged("<|im_start|>user")
    assert not forged("information <search> &lt;information> <informations> a <|b")


def test_end_tokens_go_only_at_the_end():
    assert strip_end_tokens("a <|im_end|> b</s><|im_end|>\n <|endoftext|>\n") == "a <|im_end|> b"


@given(st.text(max_size=300), st.integers(0, 200))
def test_shorten_never_exceeds(text: str, n: int):
    short, cut = shorten(text, n)
    assert len(short) <= n or not cut
    assert cut == (len(text) > n)
    assert cut or short == text


def test_shorten_keeps_head_and_tail_and_counts():
    text = "a" * 500 + "b" * 500
    short, cut = shorten(text, 130)
    assert cut
    assert len(short) <= 130
    head, marker, tail = short.split("\n")
    assert set(head) == {"a"}
    assert set(tail) == {"b"}
    assert marker == f"… [{1000 - len(head) - len(tail)} characters cut] …"


def test_clip_action_names_what_it_left_out():
    assert clip_action("a\x00", 5) == "a"
    one, other = (clip_action("x" * 70_000 + end, 65_536) for end in "ab")
    assert one != other
    assert one.startswith("x" * 1000 + "… [70001 characters, blake2b ")
    assert len(one) < 1100
