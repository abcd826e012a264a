"""Endless seeded orders: which item comes at which position is a function of the key, not of a generator's state."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from agentgym.errors import ConfigError
from agentgym.seeding import stream

T = TypeVar("T")


class Order(Generic[T]):
    """The items of a sequence, every pass in a new order.

    Position p is item p mod n of pass p div n; the permutation of a pass depends on (key, pass) only. Any position can
    be asked for at any time, so a resumed run needs nothing but its position.
    """

    def __init__(self, items: Sequence[T], *key: int | str) -> None:
        """Order `items` under `key`. Raises ConfigError if there are none."""
        if len(items) == 0:
            raise ConfigError(f"nothing to draw from: the sequence for {'/'.join(map(str, key))} is empty")
        self._items = items
        self._key = key
        self._pass = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def at(self, position: int) -> T:
        """Return the item at a position (0-based, unbounded)."""
        index_pass, index = divmod(position, len(self._items))
        if index_pass != self._pass:
            self._permutation = stream(*self._key, index_pass).permutation(len(self._items))
            self._pass = index_pass
        return self._items[int(self._permutation[index])]

    def take(self, position: int, n: int) -> list[T]:
        """Return the `n` items from `position` on; they may span two passes."""
        return [self.at(p) for p in range(position, position + n)]
