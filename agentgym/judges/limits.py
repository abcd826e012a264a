"""What a run may spend on a judge: calls, tokens, tokens per minute. Running out is an abstention, said once."""

import asyncio
import time
import warnings
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agentgym.errors import ConfigError

_WINDOW_S = 60.0
CHARS_PER_TOKEN = 3.0
"""A low guess for what a request will cost before the service says what it did cost."""


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """Limits of one judge; 0 is none."""

    max_calls: int = 0
    """Requests in a run; after that the judge abstains."""
    max_tokens: int = 0
    """Prompt and completion tokens in a run; after that the judge abstains."""
    tokens_per_minute: int = 0
    """Requests wait so that no 60 seconds spend more (a single larger request goes alone)."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a negative limit."""
        for name in ("max_calls", "max_tokens", "tokens_per_minute"):
            if getattr(self, name) < 0:
                raise ConfigError(f"judge: {name} is {getattr(self, name)}; allowed: 0 (no limit) or more")


class Meter:
    """Counts what a judge spends and makes requests wait; one per judge, used from one event loop at a time."""

    def __init__(
        self,
        limits: JudgeLimits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Count from zero; `clock` and `sleep` are exchanged in tests."""
        self.limits, self._clock, self._sleep = limits, clock, sleep
        self.n_calls = 0
        self.n_refused = 0
        self.tokens = 0
        self._spent: deque[list[float]] = deque()
        self._warned = False

    def refusal(self, estimate: int) -> str:
        """Return why a request of this many tokens may not be made, or an empty string; warns the first time."""
        limits, reason = self.limits, ""
        if limits.max_calls and self.n_calls >= limits.max_calls:
            reason = f"{self.n_calls} of max_calls={limits.max_calls} calls are spent"
        elif limits.max_tokens and self.tokens + estimate > limits.max_tokens:
            reason = (
                f"{self.tokens} of max_tokens={limits.max_tokens} tokens are spent, the next call needs ~{estimate}"
            )
        if reason:
            self.n_refused += 1
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"the judge's budget is used up ({reason}): it abstains from here on, and trajectories that need it"
                    " leave loss and statistics; raise the limit or judge less",
                    UserWarning,
                    stacklevel=2,
                )
        return reason

    async def admit(self, estimate: int) -> list[float]:
        """Count a call and wait until the minute has room; returns the entry that `settle` corrects."""
        self.n_calls += 1
        self.tokens += estimate
        limit = self.limits.tokens_per_minute
        while limit:
            now = self._clock()
            while self._spent and self._spent[0][0] <= now - _WINDOW_S:
                self._spent.popleft()
            if not self._spent or sum(entry[1] for entry in self._spent) + estimate <= limit:
                break
            await self._sleep(max(self._spent[0][0] + _WINDOW_S - now, 0.001))
        entry = [self._clock(), float(estimate)]
        self._spent.append(entry)
        if not limit:
            self._spent.clear()
        return entry

    def settle(self, entry: list[float], used: int) -> None:
        """Replace the estimate of a call by what the service says that it used."""
        self.tokens += used - int(entry[1])
        entry[1] = float(used)


def estimate_tokens(text: str, max_completion: int) -> int:
    """Return a guess of the tokens of a call."""
    return int(len(text) / CHARS_PER_TOKEN) + max_completion
