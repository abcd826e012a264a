"""`UnicodeText`: strings as actions and observations, in single and in vector environments.

Gymnasium's own `Text` takes a fixed alphabet, refuses "" and, with shared memory, shows the observations of
the first reset forever. This space takes any string and is registered with gymnasium's vector functions, so that
`make_vec(…, "sync")` and `make_vec(…, "async")` work, with shared memory or without.
"""

import copy
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from gymnasium.spaces import Space, Tuple
from gymnasium.vector.utils import (
    batch_differing_spaces,
    batch_space,
    concatenate,
    create_empty_array,
    create_shared_memory,
    iterate,
    read_from_shared_memory,
    write_to_shared_memory,
)

_HEADER = 8
_CHAR_BYTES = 4
_FALLBACK = ("", "word", "naïve café", "東京 → Kyōto", "a < b & c")


class UnicodeText(Space[str]):
    """All strings of at most `max_length` characters."""

    def __init__(
        self,
        max_length: int = 65_536,
        examples: Sequence[str] | Callable[[np.random.Generator], str] | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        """Set the length and what `sample` draws from.

        Args:
            max_length: in characters. Shared memory holds four bytes for each, per environment.
            examples: strings, or a function of the space's generator (it is not stored when the space is
                pickled). An environment gives valid actions here.
            seed: seed of `sample`.

        Raises:
            ValueError: max_length is not positive, or an example is too long.
        """
        if isinstance(max_length, bool) or not isinstance(max_length, (int, np.integer)) or max_length < 1:
            raise ValueError(f"UnicodeText: max_length must be a positive integer, got {max_length!r}")
        self.max_length = int(max_length)
        self._draw = examples if callable(examples) else None
        fallback = [text for text in _FALLBACK if len(text) <= self.max_length]
        self.examples: tuple[str, ...] = tuple(fallback if examples is None or callable(examples) else examples)
        for text in self.examples:
            if not self.contains(text):
                raise ValueError(f"UnicodeText: an example must have at most {max_length} characters, got {text!r:.80}")
        if not self.examples:
            raise ValueError("UnicodeText: examples is empty; leave it out or give at least one string")
        super().__init__(seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no fixed array form."""
        return False

    def contains(self, x: Any) -> bool:
        """Say whether x is a string that is not too long."""
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Draw one of the examples with the space's generator. Raises ValueError for a mask: text has none."""
        if mask is not None or probability is not None:
            raise ValueError("UnicodeText.sample takes neither mask nor probability")
        if self._draw is not None:
            return self._draw(self.np_random)
        return self.examples[int(self.np_random.integers(len(self.examples)))]

    def __eq__(self, other: object) -> bool:
        """Spaces are equal if they hold the same strings; what they sample does not matter."""
        return isinstance(other, UnicodeText) and self.max_length == other.max_length

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        """Name the space."""
        return f"UnicodeText({self.max_length})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "UnicodeText":
        """Copy the generator, share the function that draws."""
        twin = UnicodeText(self.max_length, self.examples)
        twin._draw = self._draw
        twin._np_random = copy.deepcopy(self._np_random, memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the function that draws: it may belong to a live environment."""
        return {**self.__dict__, "_draw": None}


class TextBatch(Tuple):
    """A `Tuple` of text spaces; its batches are tuples of strings."""


class SharedTexts(Sequence[str]):
    """The strings of a shared buffer, read anew at each access. A deep copy is a plain tuple."""

    def __init__(self, memory: Any, n: int, stride: int) -> None:
        """View `n` slots of `stride` bytes: an 8-byte length, then UTF-8."""
        self._memory, self._n, self._stride = memory, n, stride

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(self._n)))
        if not -self._n <= index < self._n:
            raise IndexError(index)
        start = (index % self._n) * self._stride
        view = memoryview(self._memory.get_obj()).cast("B")
        length = int.from_bytes(view[start : start + _HEADER], "little")
        return bytes(view[start + _HEADER : start + _HEADER + length]).decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and tuple(self) == tuple(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


@batch_space.register(UnicodeText)
def _batch_space(space: UnicodeText, n: int = 1) -> TextBatch:
    generator = copy.deepcopy(space.np_random)
    batch = TextBatch(tuple(copy.deepcopy(space) for _ in range(n)), seed=copy.deepcopy(space.np_random))
    batch.seed([int(s) for s in generator.integers(0, 2**31, n)])
    return batch


@batch_differing_spaces.register(UnicodeText)
def _batch_differing_spaces(spaces: Sequence[UnicodeText]) -> TextBatch:
    return TextBatch(tuple(copy.deepcopy(space) for space in spaces), seed=copy.deepcopy(spaces[0].np_random))


@iterate.register(TextBatch)
def _iterate(space: TextBatch, items: Sequence[str]) -> Iterator[str]:
    return iter(items)


@concatenate.register(UnicodeText)
def _concatenate(space: UnicodeText, items: Sequence[str], out: Any) -> tuple[str, ...]:
    return tuple(items)


@create_empty_array.register(UnicodeText)
def _create_empty_array(space: UnicodeText, n: int = 1, fn: Any = np.zeros) -> tuple[str, ...]:
    return ("",) * n


def _stride(space: UnicodeText) -> int:
    return _HEADER + _CHAR_BYTES * space.max_length


@create_shared_memory.register(UnicodeText)
def _create_shared_memory(space: UnicodeText, n: int = 1, ctx: Any = multiprocessing) -> Any:
    return ctx.Array("B", n * _stride(space))


@read_from_shared_memory.register(UnicodeText)
def _read_from_shared_memory(space: UnicodeText, shared_memory: Any, n: int = 1) -> Any:
    return SharedTexts(shared_memory, n, _stride(space))


@write_to_shared_memory.register(UnicodeText)
def _write_to_shared_memory(space: UnicodeText, index: int, value: str, shared_memory: Any) -> None:
    if not space.contains(value):
        what = f"a text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"
        raise ValueError(f"{what} does not fit in {space!r}")
    data = value.encode("utf-8", "surrogatepass")
    start = index * _stride(space)
    view = memoryview(shared_memory.get_obj()).cast("B")
    view[start + _HEADER : start + _HEADER + len(data)] = data
    view[start : start + _HEADER] = len(data).to_bytes(_HEADER, "little")
