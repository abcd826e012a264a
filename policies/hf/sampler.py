"""The sampler: batched decoding over caches that live as long as their episodes.

A completion depends on its own request alone, bit for bit: not on who shared the batch, nor on whether the cache
survived since the last turn. Three things bring that about (measured on x86 CPUs, float32): rows lie contiguous from
position 0; a batch never has fewer than 8 rows, below which matrix products use other kernels; and attention sees
keys and queries in numbers for which its sums do not change (see attention.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from agentgym.errors import ConfigError
from agentgym.policies.hf.attention import KEY_BLOCK, exact_widths
from agentgym.policies.hf.cache import CacheStore, Kept, RowCache
from agentgym.policies.hf.model import CausalModel
from agentgym.policies.hf.sampling import StopStrings, choose


@dataclass(slots=True)
class Row:
    """One completion in the making."""

    episode: str
    context: list[int]
    max_tokens: int
    temperature: float
    noise: np.ndarray
    """[max_tokens] float64 in [0, 1)."""
    stop: StopStrings | None = None
    slot: int = 0
    """Its row in the batch's cache."""
    n_cached: int = 0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    text: str | None = None
    """Set where a stop string ended it."""
    finish_reason: str = ""

    @property
    def n_fed(self) -> int:
        """Tokens whose keys and values are in the cache once all but the last sampled one were fed."""
        return len(self.context) + max(0, len(self.tokens) - 1)

    def take(self, token: int, logprob: float, entropy: float, ends: frozenset[int]) -> None:
        """Append a sampled token and see whether it is the last."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.entropies.append(entropy)
        if token in ends:
            self.finish_reason = "stop"
        elif self.stop is not None and (text := self.stop.text(self.tokens)) is not None:
            self.text, self.finish_reason = text, "stop"
        elif len(self.tokens) >= self.max_tokens:
            self.finish_reason = "length"


class Sampler:
    """Runs rows to their ends in as few forward passes as they allow."""

    def __init__(
        self,
        model: CausalModel,
        ends: frozenset[int],
        *,
        min_rows: int = 8,
        key_multiple: int = 64,
        max_rows: int = 256,
        prefill_tokens: int = 8_192,
        cache_bytes: int = 2 << 30,
    ) -> None:
        """Sample from `model`.

        Args:
            model: The model; it stays on its device.
            ends: Tokens that end a completion.
            min_rows: Smallest batch; missing rows are empty.
            key_multiple: Caches are read in multiples of this many positions (a divisor of 512).
            max_rows: Largest batch.
            prefill_tokens: Most tokens of one forward pass over contexts.
            cache_bytes: Bound of one batch's cache, and of all that is kept between calls.
        """
        self.model, self.ends = model, ends
        self.min_rows, self.key_multiple, self.max_rows = min_rows, key_multiple, max_rows
        self.prefill_tokens, self.cache_bytes = prefill_tokens, cache_bytes
        self.store = CacheStore(cache_bytes)
        if KEY_BLOCK % key_multiple:
            raise ConfigError(f"key_multiple is {key_multiple}; allowed are divisors of {KEY_BLOCK}")
        self._widths = exact_widths(key_multiple, model.head_dim, model.dtype, str(model.device))

    def run(self, rows: Sequence[Row]) -> None:
        """Sample every row to its end."""
        with torch.inference_mode():
            for part in self._parts(rows):
                cache = self._assemble(part)
                self._decode(cache, part, self._prefill(cache, part))
                self.store.trim()

    def forced(self, ids: Sequence[int], n: int) -> list[float]:
        """Return the log-probabilities of the last `n` of some ids, each fed alone as in sampling."""
        with torch.inference_mode():
            context = list(ids[:-n])
            row = Row("", context, n, 1.0, np.zeros(n))
            cache = self._assemble([row])
            hidden = self._prefill(cache, [row])
            found = []
            for i, token in enumerate(ids[-n:]):
                found.append(float(torch.log_softmax(self.model.head(hidden), -1)[0, token]))
                if i < n - 1:
                    hidden = self._step(cache, {0: token}, {0: len(context) + i})
            return found

    # ---- batches ----------------------------------------------------------------------------------

    def _parts(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Split rows into batches within the bounds; rows of similar length go together."""
        n_bytes = self.model.bytes_per_token
        longest = max((len(r.context) + min(r.max_tokens, 256) for r in rows), default=0)
        if len(rows) <= self.max_rows and len(rows) * longest * n_bytes <= self.cache_bytes:
            return [list(rows)] if rows else []
        parts: list[list[Row]] = [[]]
        for row in sorted(rows, key=lambda r: -len(r.context)):
            first = parts[-1][0] if parts[-1] else row
            size = (len(parts[-1]) + 1) * (len(first.context) + 256) * n_bytes
            if parts[-1] and (len(parts[-1]) >= self.max_rows or size > self.cache_bytes):
                parts.append([])
            parts[-1].append(row)
        return parts

    def _assemble(self, rows: list[Row]) -> RowCache:
        """Give every row a slot in one cache that holds what is known of its context."""
        found = [self.store.find(row.episode, row.context) for row in rows]
        for row, (_, n_cached) in zip(rows, found, strict=True):
            row.n_cached = n_cached
        capacity = self._round(max(len(row.context) for row in rows) + 1)
        caches = {id(kept.cache): kept.cache for kept, _ in found if kept is not None}
        if len(caches) == 1 and all(kept is not None for kept, _ in found):
            cache = next(iter(caches.values()))
            slots = [kept.row for kept, _ in found if kept is not None]
            alone = sorted(slots) == list(range(len(rows))) and self.store.n_users(cache) == len(rows)
            if alone and cache.n_rows == max(len(rows), self.min_rows):
                for row, slot in zip(rows, slots, strict=True):
                    row.slot = slot
                if cache.capacity < capacity:
                    cache.grow(capacity)
                return cache
        order = sorted(range(len(rows)), key=lambda i: rows[i].n_cached - len(rows[i].context))
        for slot, i in enumerate(order):
            rows[i].slot = slot
        sources = [found[i][0] if found[i][1] else None for i in order]
        return RowCache.gather(sources, max(len(rows), self.min_rows), capacity)

    def _round(self, n: int) -> int:
        """Return the number of keys to show where `n` are needed."""
        blocks, rest = divmod(n - 1, KEY_BLOCK)
        return blocks * KEY_BLOCK + next(width for width in self._widths if width > rest)

    # ---- forward passes ---------------------------------------------------------------------------

    def _prefill(self, cache: RowCache, rows: list[Row]) -> torch.Tensor:
        """Read what the cache lacks of every context; return the last hidden states [rows, d]."""
        new: list[list[int]] = [[0]] * cache.n_rows
        start, end = [0] * cache.n_rows, [0] * cache.n_rows
        for row in rows:
            new[row.slot] = row.context[row.n_cached :]
            start[row.slot], end[row.slot] = row.n_cached, len(row.context)
        last: torch.Tensor | None = None
        for a, b in self._slices([len(n) for n in new]):
            n_max = max(len(n) for n in new[a:b])
            width = max(self.min_rows, self.prefill_tokens // (b - a))
            ids = np.zeros((b - a, n_max), dtype=np.int64)
            # Padding goes to the place of the next token, which overwrites it before anything can see it.
            places = np.empty((b - a, n_max), dtype=np.int64)
            for i in range(b - a):
                n = len(new[a + i])
                ids[i, :n] = new[a + i]
                places[i, :n] = np.arange(start[a + i], start[a + i] + n)
                places[i, n:] = end[a + i]
            visible = self._round(max(end[a:b]) + 1)
            for left in range(0, n_max, width):
                columns = slice(left, min(left + width, n_max))
                hidden = self._forward(cache, slice(a, b), ids[:, columns], places[:, columns], visible)
                if last is None:
                    last = hidden.new_zeros(cache.n_rows, hidden.shape[-1])
                for_rows = [i for i in range(b - a) if left <= len(new[a + i]) - 1 < left + width]
                if for_rows:
                    at = [len(new[a + i]) - 1 - left for i in for_rows]
                    last[[a + i for i in for_rows]] = hidden[for_rows, at]
        assert last is not None  # a cache has rows
        return last

    def _slices(self, lengths: list[int]) -> list[tuple[int, int]]:
        """Cut rows into runs of at least `min_rows`, within the token bound, that waste little on padding."""
        slices, a, n = [], 0, len(lengths)
        while a < n:
            b = longest = 0
            for b in range(a, n):
                longest = max(longest, lengths[b])
                wasteful = longest > self.key_multiple and 2 * lengths[b] < longest
                if b - a >= self.min_rows and (wasteful or (b - a + 1) * longest > self.prefill_tokens):
                    break
            else:
                b = n
            if n - b < self.min_rows:
                b = n
            slices.append((a, b))
            a = b
        return slices

    def _step(self, cache: RowCache, tokens: dict[int, int], places: dict[int, int]) -> torch.Tensor:
        """Feed one token to each of some slots; return the hidden states [rows, d] of all."""
        ids, where = np.zeros((cache.n_rows, 1), dtype=np.int64), np.zeros((cache.n_rows, 1), dtype=np.int64)
        for slot, place in places.items():
            ids[slot, 0], where[slot, 0] = tokens.get(slot, 0), place
        visible = self._round(max(places[slot] for slot in tokens) + 1)
        if int(where.max()) >= cache.capacity:
            cache.grow(self._round(int(where.max()) + 1 + cache.capacity // 2))
        return self._forward(cache, slice(0, cache.n_rows), ids, where, visible)[:, 0]

    def _forward(
        self, cache: RowCache, rows: slice, ids: np.ndarray, places: np.ndarray, visible: int
    ) -> torch.Tensor:
        device = self.model.device
        positions = torch.from_numpy(np.ascontiguousarray(places)).to(device)
        cache.aim(rows, positions, visible)
        return self.model.hidden(
            torch.from_numpy(np.ascontiguousarray(ids)).to(device),
            attention_mask=self.model.masks(positions, visible),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )

    # ---- decoding ---------------------------------------------------------------------------------

    def _decode(self, cache: RowCache, live: list[Row], hidden: torch.Tensor) -> None:
        """Sample, feed, repeat; finished rows stay where they are until half of the batch is finished."""
        device = self.model.device
        places = {row.slot: len(row.context) for row in live}
        while True:
            temperature, noise = np.ones(cache.n_rows, dtype=np.float32), np.zeros(cache.n_rows)
            for row in live:
                temperature[row.slot], noise[row.slot] = row.temperature, row.noise[len(row.tokens)]
            tokens, logprobs, entropies = choose(
                self.model.head(hidden), torch.from_numpy(temperature).to(device), torch.from_numpy(noise).to(device)
            )
            for row in live:
                row.take(tokens[row.slot], logprobs[row.slot], entropies[row.slot], self.ends)
                if row.finish_reason:
                    kept = [*row.context, *row.tokens[:-1]]
                    self.store.keep(row.episode, Kept(cache, row.slot, kept))
                    places[row.slot] = len(kept)
            live = [row for row in live if not row.finish_reason]
            if not live:
                return
            if 2 * len(live) <= cache.n_rows > self.min_rows:
                cache = self._compact(cache, live)
                places = {row.slot: row.n_fed for row in live}
            hidden = self._step(
                cache, {row.slot: row.tokens[-1] for row in live}, places | {row.slot: row.n_fed for row in live}
            )

    def _compact(self, cache: RowCache, live: list[Row]) -> RowCache:
        """Move the live rows into a smaller cache."""
        sources = [Kept(cache, row.slot, [*row.context, *row.tokens[:-1]]) for row in live]
        smaller = RowCache.gather(sources, max(len(live), self.min_rows), cache.capacity)
        for slot, row in enumerate(live):
            row.slot = slot
        return smaller
