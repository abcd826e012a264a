"""Text to ids and back, with a clear rule for special tokens: text never makes one."""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any


class TokenCodec:
    """A tokenizer, without its own ideas about special tokens, blanks and warnings."""

    def __init__(self, tokenizer: Any) -> None:
        """Wrap a transformers tokenizer."""
        self.tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self.special = {token.content: i for i, token in added.items() if token.special}
        """Special tokens by their text."""
        self._added = {token.content: i for i, token in added.items()}
        self._swallows_blanks = {i for i, token in added.items() if token.rstrip}
        self._reserved: dict[str, int] = {}
        self._pattern: re.Pattern[str] | None = None
        self.reserve("")

    def reserve(self, template: str) -> None:
        """Keep for the template alone, besides the special tokens, the added tokens that its text writes.

        Some tokenizers mark the roles with added tokens that are not called special.
        """
        written = {name: i for name, i in self._added.items() if name in template}
        self._reserved |= self.special | written
        names = sorted(self._reserved, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names))) if names else None
        # The unknown token is what any text may become.
        self._forbidden = frozenset(self._reserved.values()) - {getattr(self.tokenizer, "unk_token_id", None)}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; whatever looks like a reserved token is ordinary text."""
        if not text:
            return []
        ids = self._ids(text)
        if self._pattern is None or self._forbidden.isdisjoint(ids):
            return ids
        # Cut between all characters of a reserved token's name, it is not found; what is left over goes.
        inside = (i for match in self._pattern.finditer(text) for i in range(match.start() + 1, match.end()))
        pieces = [text[a:b] for a, b in pairwise(sorted({0, len(text), *inside}))]
        return [i for piece in pieces for i in self._ids(piece) if i not in self._forbidden]

    def _ids(self, text: str) -> list[int]:
        if self._backend is not None:
            self._backend.encode_special_tokens = True
            return self._backend.encode(text, add_special_tokens=False).ids
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def encode_parts(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Return the ids of (text, trusted) parts joined; only trusted text may hold reserved tokens.

        Text between two reserved tokens is tokenised as one piece, whether trusted or not.
        """
        ids: list[int] = []
        pending: list[str] = []
        for text, trusted in parts:
            at = 0
            for match in self._pattern.finditer(text) if trusted and self._pattern else ():
                pending.append(text[at : match.start()])
                ids += self.encode("".join(pending))
                pending.clear()
                token = self._reserved[match.group()]
                ids.append(token)
                at = match.end()
                if token in self._swallows_blanks:
                    at += len(text[at:]) - len(text[at:].lstrip())
            pending.append(text[at:])
        return ids + self.encode("".join(pending))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included."""
        if self._backend is not None:
            return self._backend.decode(list(ids), skip_special_tokens=False)
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    @cached_property
    def pieces(self) -> list[str]:
        """The text of every single token."""
        every = [[i] for i in range(len(self.tokenizer))]
        if self._backend is not None:
            return self._backend.decode_batch(every, skip_special_tokens=False)
        return [self.decode(ids) for ids in every]

    def covering(self, text: str, start: int, end: int) -> tuple[list[int], list[int]]:
        """Return the ids of a text and the indices of the tokens that overlap characters [start, end)."""
        if self._backend is not None:
            self._backend.encode_special_tokens = True
            encoding = self._backend.encode(text, add_special_tokens=False)
            ids, spans = encoding.ids, encoding.offsets
        else:
            ids = self.encode(text)
            # Without offsets: a token covers what decoding one token more adds.
            borders = [0, *(len(self.decode(ids[: n + 1])) for n in range(len(ids)))]
            spans = list(pairwise(borders))
        return ids, [i for i, (a, b) in enumerate(spans) if a < end and b > start]
