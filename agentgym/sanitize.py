"""Text hygiene: what a policy writes is cleaned before it is read, what a policy reads cannot be mistaken for markup."""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

ENVIRONMENT_TAGS = ("information", "observation", "tool_response", "tool_result", "tool_results")
"""Tags that only an environment writes. In the text of a policy they are a forged result (E_RESERVED)."""

SYNTAX_TAGS = ("think", "tool_call", "tool_calls")
"""Tags with a meaning of their own in a dialect."""

TOKEN_TAGS = ("s", "bos", "eos", "pad", "unk", "start_of_turn", "end_of_turn", "im_start", "im_end")
"""Names of control tokens that are written like tags, as in `</s>`."""

RESERVED_NAMES = frozenset(ENVIRONMENT_TAGS + SYNTAX_TAGS + TOKEN_TAGS)
"""Names that no tool may have, in upper or lower case."""

END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<|return|>", "<end_of_turn>", "<eos>", "</s>")
"""Texts of end-of-turn tokens: at the very end of an action they are dropped, not counted."""

_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TURN = (
    r"<[|｜](?:im_start|start_header_id|start|begin_of_text|system|user|assistant|tool|observation|ipython)[|｜]>"
    r"|<start_of_turn>"
)
_TAG = r"<[ \n\t]{0,4}/?[ \n\t]{0,4}(?:%s)(?![A-Za-z0-9_.-])"
_FORGED = re.compile(f"{_TAG % '|'.join(ENVIRONMENT_TAGS)}|{_TURN}", re.ASCII | re.IGNORECASE)
_TOKENS = r"<[|｜]|<</?SYS>>"


def sanitize(text: str) -> str:
    r"""Drop lone surrogates, NUL and all control characters but "\n" and "\t"."""
    return _FORBIDDEN.sub("", text) if _FORBIDDEN.search(text) else text


def escape_reserved(text: str, names: Iterable[str] = ()) -> str:
    """Turn the `<` of reserved tags and of chat control tokens into `&lt;`; everything else stays.

    For text of documents, tools and users before a policy sees it. Applying it twice changes nothing.

    Args:
        text: Untrusted text.
        names: More tag names to escape: those of the environment's tools.
    """
    return _reserved_pattern(tuple(names)).sub(lambda m: "&lt;" + m.group()[1:], text) if "<" in text else text


def forged(text: str) -> str:
    """Return the first environment tag or turn-opening token in a policy's text, or an empty string."""
    if "<" not in text:
        return ""
    match = _FORGED.search(text)
    return match.group() if match else ""


def strip_end_tokens(text: str) -> str:
    """Drop end-of-turn tokens and blanks from the end of a policy's text."""
    end = len(text)
    while True:
        while end and text[end - 1] in " \n\t":
            end -= 1
        if not text.endswith(END_TOKENS, 0, end):
            return text[:end]
        end = text.rindex("<", 0, end)


def shorten(text: str, max_chars: int) -> tuple[str, bool]:
    """Cut a long text to at most `max_chars` characters, keeping head and tail around a marker.

    Returns:
        The text, and whether it was cut. The head gets two thirds of the room. Where there is no room for
        the marker only a head remains.
    """
    if len(text) <= max_chars:
        return text, False
    room = max_chars - len(_marker(len(text)))
    if room < 3:
        return text[: max(max_chars, 0)], True
    tail = room // 3
    head = room - tail
    return text[:head] + _marker(len(text) - room) + text[len(text) - tail :], True


def clip_action(text: str, max_chars: int, head: int = 1_000) -> str:
    """Return an action as it is recorded: sanitised; an over-long one as its head, its length and a hash."""
    if len(text) <= max_chars:
        return sanitize(text)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{sanitize(text[: min(head, max_chars)])}… [{len(text)} characters, blake2b {digest}]"


def _marker(n: int) -> str:
    return f"\n… [{n} characters cut] …\n"


@lru_cache(maxsize=64)
def _reserved_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    tags = "|".join(re.escape(name) for name in sorted(RESERVED_NAMES | set(names), key=lambda n: (-len(n), n)))
    return re.compile(f"{_TAG % tags}|{_TOKENS}", re.ASCII | re.IGNORECASE)
