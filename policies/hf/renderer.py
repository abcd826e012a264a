"""Messages to tokens, through the tokenizer's own chat template.

The template is rendered once per sequence of roles, with marks in place of the contents; contents are put in
afterwards, as text in which special tokens are not recognised. So a document that spells out a special token
stays a document, and a template's habits (a trimmed line, a default system prompt) stay what they are.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from agentgym.dialects import ChatDialect
from agentgym.dialects.chat import declared
from agentgym.errors import ConfigError
from agentgym.policies.hf.chat import ChatTemplate
from agentgym.policies.hf.codec import TokenCodec
from agentgym.types import Message, ToolSpec

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m.role | capitalize }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For base models, whose tokenizers have none."""

_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")

Part = str | int
"""Text of the template, or the index of the message whose content stands here."""


class TemplateRenderer:
    """Renders conversations and their continuations; implements TokenRenderer."""

    def __init__(
        self, codec: TokenCodec, *, native_tools: bool = False, template_options: dict[str, Any] | None = None
    ) -> None:
        """Try out what the template can do.

        Args:
            codec: The tokenizer.
            native_tools: Hand tool specifications to the template. Off by default, since the dialects describe
                the tools in the prompt. The dialect "chat" has them declared in any case.
            template_options: Handed to the template, e.g. {"enable_thinking": False}.

        Raises:
            ConfigError: If the template cannot render a plain conversation.
        """
        self.codec = codec
        self.native_tools = native_tools
        self.template_options = dict(template_options or {})
        tokenizer = codec.tokenizer
        self._template: str | None = None if getattr(tokenizer, "chat_template", None) else PLAIN_TEMPLATE
        self._skeletons: dict[Any, list[Part]] = {}
        self._skeleton((("user", "", ""), ("assistant", "", ""), ("user", "", "")), "")
        closing = self._encode(self._render((("user", "", ""), ("assistant", "", "")), "", opens=False)[4:], [])
        self.end_of_turn = closing[0] if closing and closing[0] in codec.special.values() else None
        """The special token with which the template closes an assistant's turn, if it does."""
        self.has_system = self._can(("system", "user"))
        self.has_tool = "tool" in (self._template or str(tokenizer.chat_template)) and self._can(
            ("user", "assistant", "tool")
        )
        self.alternates = not self._can(("user", "user"))
        self._chat = ChatTemplate(codec, self._template, self.end_of_turn, self.template_options)
        codec.reserve("\n".join(p for parts in self._skeletons.values() for p in parts if isinstance(p, str)))

    def start(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Return the ids of a conversation, up to where the next completion begins."""
        given = _declare(tools) if self.native_tools and tools else ""
        shaped = self._shape(messages)
        parts = self._skeleton(tuple((m[0], m[2], m[3]) for m in shaped), given)
        return self._encode(parts, [m[1] for m in shaped])

    def extend(self, messages: Sequence[Message], sampled: Sequence[int]) -> list[int]:
        """Return the ids to append after a completion, up to the next: end of turn (unless sampled) and messages."""
        before = [("user", "", "", ""), ("assistant", "", "", "")]
        shaped = before + self._shape(messages)
        parts = self._skeleton(tuple((m[0], m[2], m[3]) for m in shaped), "")
        after = parts[parts.index(1) + 1 :]
        ids = self._encode(after, [m[1] for m in shaped])
        closed = bool(sampled) and sampled[-1] == self.end_of_turn == ids[0]
        return ids[1:] if closed else ids

    def open_chat(self, messages: Sequence[Message], tools: Sequence[ToolSpec], dialect: ChatDialect) -> list[int]:
        """Return the ids of a conversation with natively declared tools (see `agentgym.rollout.context`)."""
        return self._chat.ids(*self._conversation(messages, tools, dialect))

    def follow_chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], dialect: ChatDialect, sampled: Sequence[int]
    ) -> tuple[list[int], bool]:
        """Return the ids to append, or the whole context where the template writes the past anew."""
        chat, shown = self._conversation(messages, tools, dialect)
        n_before = max(n for n, message in enumerate(chat) if message["role"] == "assistant")
        return self._chat.follow(chat, n_before, shown, sampled)

    def write_chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], dialect: ChatDialect, action: str
    ) -> tuple[list[int], str]:
        """Return an action that somebody else wrote as the model would have: its ids, end of turn included, and its text."""
        ids = self._chat.completion(*self._conversation([*messages, Message.of("assistant", action)], tools, dialect))
        end = self.end_of_turn
        if ids is None:
            return [*self.codec.encode(action), *([] if end is None else [end])], action
        return ids, self.codec.decode(ids[:-1] if ids[-1:] == [end] else ids)

    def _conversation(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], dialect: ChatDialect
    ) -> tuple[list[dict[str, Any]], Sequence[ToolSpec]]:
        """Return the messages in the shape of chat templates, and the tools to declare.

        A template that declares none has them described in the system prompt.
        """
        chat = dialect.wire(messages, tools)
        texts = iter([message.text for message in messages if message.role == "assistant"])
        for wired in chat:
            if wired["role"] == "assistant":
                wired["raw"] = next(texts)
        if not tools or self._chat.declares_tools:
            return chat, tools
        told = dialect.described(tools)
        if chat[0]["role"] == "system":
            chat[0]["content"] += f"\n\n{told}"
            return chat, ()
        return [{"role": "system", "content": told}, *chat], ()

    def encode(self, action: str) -> list[int]:
        """Return the ids of an action as a completion would hold them."""
        return self.codec.encode(action)

    # ---- shape ------------------------------------------------------------------------------------

    def _shape(self, messages: Sequence[Message]) -> list[tuple[str, str, str, str]]:
        """Return (role, text, name, call id) in roles and an order that the template knows."""
        shaped: list[tuple[str, str, str, str]] = []
        folded = False
        for message in messages:
            known = message.role not in ("system", "tool") or (self.has_system, self.has_tool)[message.role == "tool"]
            role = message.role if known else "user"
            if shaped and shaped[-1][0] == role != "tool" and (self.alternates or folded):
                shaped[-1] = (role, f"{shaped[-1][1]}\n\n{message.text}", "", "")
            elif role == "tool":
                shaped.append((role, message.text, message.name, message.call_id))
            else:
                shaped.append((role, message.text, "", ""))
            # A system prompt that the template does not know opens the first message of the user.
            folded = message.role == "system" and not known
        return shaped

    def _can(self, roles: Sequence[str]) -> bool:
        """Say whether the template renders these roles with every content in its place."""
        try:
            self._skeleton(tuple((role, "", "") for role in roles), "")
        except ConfigError:
            return False
        return True

    # ---- the template -----------------------------------------------------------------------------

    def _skeleton(self, roles: tuple[tuple[str, str, str], ...], tools: str) -> list[Part]:
        """Return the rendered template around the contents of messages with these (role, name, call id)."""
        key = (roles, tools)
        if key not in self._skeletons:
            if len(self._skeletons) > 4096:
                self._skeletons.clear()
            self._skeletons[key] = self._render(roles, tools)
        return self._skeletons[key]

    def _render(self, roles: tuple[tuple[str, str, str], ...], tools: str, opens: bool = True) -> list[Part]:
        conversation = []
        for i, (role, name, call_id) in enumerate(roles):
            message = {"role": role, "content": _MARK.format(i)}
            if name:
                message["name"] = name
            if call_id:
                message["tool_call_id"] = call_id
            conversation.append(message)
        names = ", ".join(role for role, _, _ in roles)
        try:
            text = self.codec.tokenizer.apply_chat_template(
                conversation,
                tools=json.loads(tools) if tools else None,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=opens,
                **self.template_options,
            )
        except Exception as error:  # a template raises what it likes
            raise ConfigError(f"the tokenizer's chat template cannot render the roles {names}: {error}") from error
        pieces = _MARKS.split(text)
        if pieces[1::2] != [str(i) for i in range(len(roles))]:
            raise ConfigError(
                f"the tokenizer's chat template does not show every message of {names} once and in order"
            )
        return [int(piece) if n % 2 else piece for n, piece in enumerate(pieces)]

    def _encode(self, parts: Sequence[Part], contents: Sequence[str]) -> list[int]:
        return self.codec.encode_parts(
            [(contents[part], False) if isinstance(part, int) else (part, True) for part in parts]
        )


def _declare(tools: Sequence[ToolSpec]) -> str:
    """Return tool specifications in the form that chat templates read, as JSON."""
    return json.dumps(declared(tools))
