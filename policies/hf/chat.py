"""Conversations with native tools through a tokenizer's chat template, without drift.

The template sees a conversation in which every text that is not its own is a mark: contents, thoughts, and each text
inside the arguments of calls. Marks tell what the template does with a text: whether it trims it, writes it as part of
a JSON string, or leaves it out (thoughts of earlier turns). Texts take the places of the marks afterwards, where
special tokens are not recognised, so that a tool result that spells one out stays text.
"""

import copy
import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from agentgym.dialects.chat import declared
from agentgym.errors import ConfigError
from agentgym.policies.hf.codec import TokenCodec
from agentgym.types import JSON, ToolSpec

_EDGE = "\u2003"
"""A blank that templates trim and do not write themselves."""
_MARK = re.compile(f'({_EDGE}?)\ue000(\\d+)(\\\\*)"\ue001({_EDGE}?)')
_KEPT = 512
_PLAIN_KEY = re.compile("[A-Za-z0-9_-]{1,64}")
"""Keys of arguments that stay as they are: no text of theirs can be a special token."""

Part = str | tuple[int, int, bool, bool]
"""Text of the template; or (text's number, how often it is JSON-escaped, whether its left and right edge are trimmed)."""

Chat = Sequence[dict[str, Any]]
"""Messages in the shape of chat templates; those of the assistant have their text as it was sampled under "raw"."""


class ChatTemplate:
    """Renders whole conversations; says which tokens to append after a completion, or that history was rewritten."""

    def __init__(self, codec: TokenCodec, template: str | None, end_of_turn: int | None, options: dict[str, Any]) -> None:
        """Remember the template.

        Args:
            codec: the tokenizer.
            template: a template to use in the place of the tokenizer's own.
            end_of_turn: the special token that closes an assistant's turn, if there is one.
            options: handed to the template, e.g. {"enable_thinking": False}.
        """
        self.codec, self._template, self.options = codec, template, options
        self.end_of_turn = end_of_turn
        self._end_text = next((text for text, i in codec.special.items() if i == end_of_turn), "")
        self._kept: dict[str, list[Part]] = {}
        # Known before anything is encoded: a token that became reserved later would change what a text is.
        codec.reserve(template or str(codec.tokenizer.chat_template))

    @cached_property
    def declares_tools(self) -> bool:
        """Whether the template shows tools that it is given."""
        probe, spec = [{"role": "user", "content": "probe"}], ToolSpec("probe_of_tools", "", {"type": "object"})
        try:
            return any("probe_of_tools" in part for part in self._parts(probe, (spec,)) if isinstance(part, str))
        except Exception:  # noqa: BLE001 (a template raises what it likes)
            return False

    def ids(self, chat: Chat, tools: Sequence[ToolSpec]) -> list[int]:
        """Return the ids of a conversation, up to where the next completion begins."""
        return self._encode(*self._rendered(chat, tools)[:2])

    def follow(self, chat: Chat, n_before: int, tools: Sequence[ToolSpec], sampled: Sequence[int]) -> tuple[list[int], bool]:
        """Return the ids to append after the completion `chat[n_before]`, and False; or the whole context, and True.

        Args:
            chat: the whole conversation.
            n_before: how many messages the sampler saw.
            tools: declared to the template.
            sampled: ids of the completion.
        """
        texts, parts, shape = self._rendered(chat, tools)
        rest = self._rest(chat, n_before, tools, shape, parts)
        if rest is None:
            return self._encode(texts, parts), True
        ids = self._encode(texts, rest)
        closed = bool(sampled) and sampled[-1] == self.end_of_turn and ids[:1] == [self.end_of_turn]
        return (ids[1:] if closed else ids), False

    def completion(self, chat: Chat, tools: Sequence[ToolSpec]) -> list[int] | None:
        """Return the last message, an assistant's, as the template writes it, with its end of turn.

        None where the template writes none in this place, or leaves out some of it: a thought, a text beside a call.
        """
        marked, before = _marked(_shaped(chat[:-1], 0))
        whole, texts = _marked(_shaped(chat, 0))
        try:
            rest = _after(self._parts(whole, tools, opens=False), self._parts(marked, tools))
        except Exception:  # noqa: BLE001 (a template raises what it likes)
            return None
        own = range(len(before), len(texts))
        shown = {part[0] for part in rest or () if not isinstance(part, str)}
        closing = self._closing(rest, own) if rest and self._end_text else [""] if shown == set(own) else None
        if rest is None or closing is None:
            return None
        ids = self._encode(texts, rest)
        after = self._encode(texts, closing)
        return ids[: len(ids) - len(after) + bool(self._end_text)]

    # ---- what was there already -----------------------------------------------------------------------

    def _rest(self, chat: Chat, n_before: int, tools: Sequence[ToolSpec], shape: int, parts: list[Part]) -> list[Part] | None:
        """Return the parts from the end of the completion on; None where the template wrote the past anew."""
        marked, before = _marked(_shaped(chat[:n_before], shape))
        n_own = len(_marked(_shaped(chat[n_before : n_before + 1], shape))[1])
        try:
            rest = _after(parts, self._parts(marked, tools))
        except Exception:  # noqa: BLE001 (it refuses the shorter conversation in this shape)
            return None
        if rest is None:
            return None
        if chat[n_before].get("tool_calls") and shape == 0 and not self._end_text:
            return self._after_calls(chat[: n_before + 1], tools, parts)
        return self._closing(rest, range(len(before), len(before) + n_own))

    def _after_calls(self, chat: Chat, tools: Sequence[ToolSpec], parts: list[Part]) -> list[Part] | None:
        """Return what follows calls that no token closes: what the template writes behind them, blanks included."""
        try:
            own = self._parts(_marked(_shaped(chat, 0))[0], tools, opens=False)
        except Exception:  # noqa: BLE001 (it refuses a conversation that ends with calls)
            return None
        rest, last = _after(parts, own), own[-1]
        if rest is None or not isinstance(rest[0], str) or not isinstance(last, str):
            return None
        return [last[len(last.rstrip()) :] + rest[0], *rest[1:]]

    def _closing(self, rest: list[Part], own: range) -> list[Part] | None:
        """Return what follows a completion; None where the template does not show all of its texts."""
        places = [n for n, part in enumerate(rest) if not isinstance(part, str) and part[0] in own]
        if len(places) != len(own):
            return None
        start = places[-1] + 1 if places else 0
        for n in range(start, len(rest)):
            part = rest[n]
            if not isinstance(part, str):
                break
            if self._end_text and self._end_text in part:
                return [part[part.index(self._end_text) :], *rest[n + 1 :]]
        return rest[start:] if not self._end_text else None

    # ---- rendering ------------------------------------------------------------------------------------

    def _rendered(self, chat: Chat, tools: Sequence[ToolSpec]) -> tuple[list[str], list[Part], int]:
        """Return the texts of a conversation, the template around them, and the shape that the template took.

        A template that refuses calls or tool results in their places, or leaves them out, gets them as plain texts.
        """
        problem = "it leaves out or repeats what it is given"
        for shape in range(N_SHAPES):
            shaped = _shaped(chat, shape)
            marked, texts = _marked(shaped)
            try:
                parts = self._parts(marked, tools)
            except Exception as error:  # noqa: BLE001 (a template raises what it likes)
                problem = str(error)
                continue
            shown = [part[0] for part in parts if not isinstance(part, str)]
            if shown == sorted(set(shown)) and _needed(shaped) <= set(shown):
                return texts, parts, shape
        roles = ", ".join(message["role"] for message in chat)
        raise ConfigError(f"the tokenizer's chat template cannot render the roles {roles}: {problem}")

    def _parts(self, marked: list[dict[str, Any]], tools: Sequence[ToolSpec], *, opens: bool = True) -> list[Part]:
        key = json.dumps([marked, [tool.name for tool in tools], opens])
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            text = self.codec.tokenizer.apply_chat_template(
                copy.deepcopy(marked),
                tools=copy.deepcopy(declared(tools)) or None,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=opens,
                **self.options,
            )
            self._kept[key] = _split(text)
        return self._kept[key]

    def _encode(self, texts: Sequence[str], parts: Sequence[Part]) -> list[int]:
        return self.codec.encode_parts([(p, True) if isinstance(p, str) else (_written(texts[p[0]], p), False) for p in parts])


def _split(text: str) -> list[Part]:
    """Cut a rendered conversation at its marks."""
    parts: list[Part] = []
    at = 0
    for found in _MARK.finditer(text):
        parts.append(text[at : found.start()])
        depth = (len(found[3]) + 1).bit_length() - 1
        parts.append((int(found[2]), depth, not found[1], not found[4]))
        at = found.end()
    return [*parts, text[at:]]


def _written(text: str, part: tuple[int, int, bool, bool]) -> str:
    """Return a text as the template writes it."""
    _, depth, left, right = part
    text = text.lstrip() if left else text
    text = text.rstrip() if right else text
    for _ in range(depth):
        text = json.dumps(text, ensure_ascii=False)[1:-1]
    return text


def _after(parts: list[Part], before: list[Part]) -> list[Part] | None:
    """Return what follows `before` in `parts`, or None where they differ."""
    n = len(before) - 1
    first, last = parts[n] if n < len(parts) else "", before[n]
    if parts[:n] != before[:n] or not isinstance(first, str) or not isinstance(last, str) or not first.startswith(last):
        return None
    return [first[len(last) :], *parts[n + 1 :]]


# ---- marks --------------------------------------------------------------------------------------------


def _marked(chat: Chat) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the conversation with marks in the places of its texts, and the texts.

    A blank text stays as it is: it can bring in no token, and templates ask whether there is anything to write.
    """
    texts: list[str] = []

    def mark(text: str) -> str:
        if not text.strip():
            return text
        texts.append(text)
        return f'{_EDGE}\ue000{len(texts) - 1}"\ue001{_EDGE}'

    marked = []
    for message in chat:
        new = {key: value for key, value in message.items() if key != "raw"}
        for key in ("reasoning_content", "content"):
            if key in new:
                new[key] = mark(new[key])
        if "tool_calls" in new:
            new["tool_calls"] = [{**call, "function": _marked_call(call["function"], mark)} for call in new["tool_calls"]]
        marked.append(new)
    return marked, texts


def _marked_call(function: dict[str, JSON], mark: Callable[[str], str]) -> dict[str, JSON]:
    def leaves(value: JSON) -> JSON:
        if isinstance(value, str):
            return mark(value)
        if isinstance(value, list):
            return [leaves(item) for item in value]
        if isinstance(value, dict):
            return {key if _PLAIN_KEY.fullmatch(key) else mark(key): leaves(item) for key, item in value.items()}
        return value

    return {"name": mark(function["name"]), "arguments": leaves(function["arguments"])}


def _needed(chat: Chat) -> set[int]:
    """Return the numbers of the texts that a template must show: all but thoughts, which it may strip."""
    needed: set[int] = set()
    n = 0
    for message in chat:
        own = range(n, n + len(_marked([message])[1]))
        n = own.stop
        needed.update(own[1:] if message.get("reasoning_content", "").strip() else own)
    return needed


# ---- shapes that templates take -------------------------------------------------------------------------

N_SHAPES = 4
"""As it is; calls as the texts that were sampled; results as users' texts too; the system prompt as well."""


def _shaped(chat: Chat, shape: int) -> list[dict[str, Any]]:
    """Return the conversation in one of the shapes, neighbours of the role user joined."""
    joined: list[dict[str, Any]] = []
    for message in chat:
        new = dict(message)
        if new["role"] == "assistant" and shape >= 1:
            new = {"role": "assistant", "content": new.get("raw", new["content"])}
        if (new["role"] == "tool" and shape >= 2) or (new["role"] == "system" and shape >= 3):
            new = {"role": "user", "content": new["content"]}
        if joined and joined[-1]["role"] == new["role"] == "user":
            joined[-1] = {"role": "user", "content": f"{joined[-1]['content']}\n\n{new['content']}"}
        else:
            joined.append(new)
    return joined
