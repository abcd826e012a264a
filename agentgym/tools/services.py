"""What tools use in one episode beside its state: what the environment lends, and what they open themselves."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from agentgym.errors import ServiceError

T = TypeVar("T")


class EpisodeServices(Mapping[str, Any]):
    """A mapping of lent services, and a keeper of resources that live as long as the episode.

    Lent services (a retriever, a sandbox) belong to the environment and stay open. What a tool opens with `opened`
    (a session, a connection) is closed by its own `close()` when the episode ends.
    """

    def __init__(self, lent: Mapping[str, Any] | None = None) -> None:
        """Begin with what the environment lends."""
        self._lent: Mapping[str, Any] = {} if lent is None else lent
        self._opened: dict[str, Any] = {}
        self._closings = 0
        self._lock, self._making = threading.RLock(), threading.RLock()

    def __getitem__(self, name: str) -> Any:
        return self._lent[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lent)

    def __len__(self) -> int:
        return len(self._lent)

    def opened(self, key: str, make: Callable[[], T]) -> T:
        """Return the resource of this key, made at its first use. `make` may raise; then nothing is kept.

        Raises:
            ServiceError: the episode ended while it was made; what came too late is closed.
        """
        with self._making:  # not `_lock`: what takes long to make, in a thread that was given up, must not hold up `close`
            with self._lock:
                if key in self._opened:
                    return self._opened[key]
                before = self._closings
            made = make()
            with self._lock:
                if self._closings == before:
                    self._opened[key] = made
                    return made
        _close(made)
        raise ServiceError(f"{key}: the episode ended while it was opened")

    def drop(self, key: str) -> None:
        """Close one resource, so that the next use makes it anew."""
        with self._lock:
            _close(self._opened.pop(key, None))

    def close(self) -> None:
        """Close everything that tools opened, the newest first. A resource that fails to close is left behind."""
        with self._lock:
            self._closings += 1
            while self._opened:
                _close(self._opened.popitem()[1])

    def __del__(self) -> None:
        if self._opened:
            self.close()


def _close(resource: Any) -> None:
    close = getattr(resource, "close", None)
    if close is not None:
        with contextlib.suppress(Exception):
            close()
