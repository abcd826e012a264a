"""From settings to a judge service: names, endpoints, votes, cache and canaries put in their order."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentgym import hooks, schema
from agentgym.errors import ConfigError
from agentgym.judges.cache import CachedJudge, VerdictCache
from agentgym.judges.canary import EVERY, CanaryJudge
from agentgym.judges.combine import Ensemble, FaithfulThenCorrect, Votes
from agentgym.judges.protocol import Judge
from agentgym.judges.service import JudgeRunner


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeConfig:
    """Settings of a judge service, as a table [judge] of a run's settings has them."""

    judge: str = "endpoint"
    """Name of a registered judge: endpoint, rule, or one of your own."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Its options; for endpoint: base_url, model, api_key_env, max_concurrent, limits = { max_calls = … }, …"""
    votes: int = 1
    """Odd number of votes per request; more than 1 needs a temperature above 0 to be of use."""
    cache: str = ""
    """File of the verdict cache; empty: verdicts are kept in memory for the run."""
    canary_every: int = EVERY
    """One canary beside this many requests; 0: none."""
    faithful: bool = False
    """Ask first whether a text follows from its context."""


def judge_named(name: str, **options: Any) -> Judge:
    """Make a registered judge. Raises NotRegisteredError for a name nobody registered, ConfigError for options."""
    made = hooks.JUDGES.resolve(name)
    if isinstance(made, Judge) and not isinstance(made, type):
        return made
    try:
        judge = made(**options)
    except TypeError as error:
        raise ConfigError(f"judge {name!r}: options {options!r} do not fit: {error}") from None
    if not isinstance(judge, Judge):
        raise ConfigError(f"judge {name!r}: expected an object with id, decide and metrics, got {judge!r:.80}")
    return judge


def judge_service(judge: str | Judge | Sequence[Judge] | JudgeConfig = "endpoint", **settings: Any) -> JudgeRunner:
    """Return the service that `suite.complete(trajectories, judge=service)` takes.

    Args:
        judge: a registered name, a judge, several judges (their majority decides), or whole settings.
        **settings: fields of `JudgeConfig`; any others are options of the named judge.

    Raises:
        ConfigError: For unknown or unusable settings.
        DataError: The cache file cannot be used.
    """
    config = judge if isinstance(judge, JudgeConfig) else config_of(judge, settings)
    if isinstance(judge, (str, JudgeConfig)):
        members: list[Judge] = [judge_named(config.judge, **config.options)]
    else:
        members = [judge] if isinstance(judge, Judge) else list(judge)
    cache = VerdictCache(Path(config.cache)) if config.cache else None
    built = [_member(member, config, cache) for member in members]
    whole: Judge = built[0] if len(built) == 1 else Ensemble(built)
    return JudgeRunner(FaithfulThenCorrect(whole) if config.faithful else whole)


def config_of(judge: Any, settings: dict[str, Any]) -> JudgeConfig:
    """Return the settings of a judge by name from flat ones: those that are no field are options of the judge.

    Raises:
        ConfigError: A value of the wrong type, or options for a judge that is made already.
    """
    known = {field.name for field in dataclasses.fields(JudgeConfig)} - {"judge"}
    options = {**settings.pop("options", {}), **{k: v for k, v in settings.items() if k not in known}}
    own = {k: v for k, v in settings.items() if k in known}
    if options and not isinstance(judge, str):
        raise ConfigError(f"judge_service: options {sorted(options)} belong to a judge made by name; set them on yours")
    body = {**own, "options": options, **({"judge": judge} if isinstance(judge, str) else {})}
    return schema.from_json(JudgeConfig, body, "judge", error=ConfigError)


def _member(judge: Judge, config: JudgeConfig, cache: VerdictCache | None) -> Judge:
    """Put one judge behind canaries (only real calls get them), then the cache, then votes."""
    watched: Judge = CanaryJudge(judge, config.canary_every) if config.canary_every else judge
    cached = CachedJudge(watched, cache)
    return Votes(cached, config.votes) if config.votes > 1 else cached
