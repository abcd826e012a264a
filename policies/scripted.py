"""The scripted policy: plays the environment's own solution, with a noise dial."""

from collections.abc import Iterable, Sequence

from agentgym.errors import ConfigError
from agentgym.rollout.policy import Request
from agentgym.types import Completion


class ScriptedPolicy:
    """Does what `ToolEnv.oracle_action` says; the driver's `oracle_noise` makes it careless."""

    privileged = True
    served = False

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Return the oracle's actions. Raises ConfigError where the driver handed over none."""
        for request in requests:
            if request.oracle is None:
                raise ConfigError("the scripted policy needs a driver that hands it the environment's oracle action")
        return [Completion(text=request.oracle or "") for request in requests]

    def release(self, episodes: Iterable[str]) -> None:
        """Keep nothing."""
