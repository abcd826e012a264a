"""Keys and values of many rows, each contiguous from position 0, and the store that keeps them between turns."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache


class RowCache(Cache):
    """Keys and values per layer: [rows, capacity, heads, dim]. Row r's token at position p lies at [r, p].

    What lies behind a row's own length is finite garbage that masks hide and later tokens overwrite.
    """

    def __init__(self, n_rows: int, capacity: int) -> None:
        """Reserve space for `n_rows` rows of `capacity` tokens; it is allocated on first use."""
        super().__init__(layers=[])
        self.n_rows, self.capacity = n_rows, capacity
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self._rows, self._n_visible = slice(0, n_rows), capacity
        self._places = torch.empty(0)

    @property
    def n_bytes(self) -> int:
        """Allocated memory."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def aim(self, rows: slice, positions: torch.Tensor, n_visible: int) -> None:
        """Say where the next forward pass writes and what it sees.

        Args:
            rows: The rows that take part: B of them.
            positions: [B, T] where each new token goes.
            n_visible: Keys that are shown: positions 0..n_visible-1.
        """
        self._rows, self._n_visible = rows, n_visible
        first = torch.arange(rows.start, rows.stop, device=positions.device)[:, None] * self.capacity
        self._places = (first + positions).reshape(-1)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values [B, heads, T, dim]; return what is visible: [B, heads, S, dim]."""
        for kept, new in ((self.keys, key_states), (self.values, value_states)):
            if layer_idx == len(kept):
                kept.append(new.new_zeros(self.n_rows, self.capacity, new.shape[1], new.shape[3]))
            tail = kept[layer_idx].shape[2:]
            kept[layer_idx].view(-1, *tail).index_copy_(0, self._places, new.transpose(1, 2).reshape(-1, *tail))
        return (
            self.keys[layer_idx][self._rows, : self._n_visible].transpose(1, 2),
            self.values[layer_idx][self._rows, : self._n_visible].transpose(1, 2),
        )

    def grow(self, capacity: int) -> None:
        """Make room for longer rows."""
        for kept in (self.keys, self.values):
            for layer, old in enumerate(kept):
                kept[layer] = old.new_zeros(self.n_rows, capacity, *old.shape[2:])
                kept[layer][:, : self.capacity] = old
        self.capacity = capacity

    @staticmethod
    def gather(sources: "Sequence[Kept | None]", n_rows: int, capacity: int) -> "RowCache":
        """Return a new cache whose row i holds what sources[i] keeps (None: an empty row)."""
        new = RowCache(n_rows, capacity)
        by_cache: dict[int, list[tuple[int, Kept]]] = {}
        for row, source in enumerate(sources):
            if source is not None:
                by_cache.setdefault(id(source.cache), []).append((row, source))
        for group in by_cache.values():
            old = group[0][1].cache
            n = min(capacity, old.capacity, max(len(source.ids) for _, source in group))
            if not old.keys or not n:
                continue
            device = old.keys[0].device
            to = torch.tensor([row for row, _ in group], device=device)
            rows = torch.tensor([source.row for _, source in group], device=device)
            for kept, previous in ((new.keys, old.keys), (new.values, old.values)):
                for layer, tensor in enumerate(previous):
                    if layer == len(kept):
                        kept.append(tensor.new_zeros(n_rows, capacity, *tensor.shape[2:]))
                    kept[layer][:, :n].index_copy_(0, to, tensor[:, :n].index_select(0, rows))
        return new


@dataclass(slots=True)
class Kept:
    """What is cached for one episode: the keys and values of `ids`, in one row of a cache."""

    cache: RowCache
    row: int
    ids: list[int]


class CacheStore:
    """The caches of live episodes, within a bound; the least recently used go first and are computed anew."""

    def __init__(self, max_bytes: int) -> None:
        """Keep at most about `max_bytes` of keys and values between calls."""
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, episode: str, ids: Sequence[int]) -> tuple[Kept | None, int]:
        """Return what is kept for an episode and how many of its tokens fit `ids` (at most all but the last)."""
        kept = self._kept.get(episode)
        if kept is None:
            return None, 0
        limit = min(len(kept.ids), len(ids) - 1)
        if list(ids[:limit]) == kept.ids[:limit]:
            return kept, limit
        return kept, next(i for i in range(limit) if ids[i] != kept.ids[i])

    def keep(self, episode: str, kept: Kept) -> None:
        """Remember an episode's cache."""
        self._kept[episode] = kept
        self._kept.move_to_end(episode)

    def n_users(self, cache: RowCache) -> int:
        """Return how many episodes are kept in a cache."""
        return sum(kept.cache is cache for kept in self._kept.values())

    def trim(self) -> None:
        """Forget the oldest until the bound holds."""
        while self._kept and self.n_bytes > self.max_bytes:
            self._kept.popitem(last=False)

    @property
    def n_bytes(self) -> int:
        """Memory of all distinct caches that are kept alive."""
        return sum(cache.n_bytes for cache in {id(k.cache): k.cache for k in self._kept.values()}.values())

    def release(self, episodes: Iterable[str]) -> None:
        """Forget these episodes."""
        for episode in episodes:
            self._kept.pop(episode, None)

    def clear(self) -> None:
        """Forget everything (the weights changed)."""
        self._kept.clear()
