"""The audit of one environment with one reward: every check, in the order of the report."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from agentgym.audit.capacity import INSTANCES, check_learned, check_scale
from agentgym.audit.description import check_description
from agentgym.audit.golden import check_golden
from agentgym.audit.isolation import check_isolation
from agentgym.audit.ladder import climb
from agentgym.audit.mechanics import check_mechanics
from agentgym.audit.players import completed, lacking, oracle, play
from agentgym.audit.probes import check_components
from agentgym.audit.report import SECTIONS, Finding, Report
from agentgym.audit.reproduction import check_reproduction
from agentgym.audit.rewarding import check_rewards
from agentgym.audit.turns import check_turns
from agentgym.env import ToolEnv
from agentgym.errors import ConfigError
from agentgym.rollout.groups import check_arguments
from agentgym.task import Task
from agentgym.types import Trajectory

DEAR = ("components", "golden episodes")
"""The groups of checks that take longest."""


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """How much to look at."""

    episodes: int = 12
    """Tasks that every player plays; spread over the split."""
    instances: int = INSTANCES
    """Environments at once in the measurement of throughput."""
    run: Path | None = None
    """A training run whose metrics show whether the environment can be learned."""
    steps: int = 300
    """Steps within which it must be learned."""
    stop: bool = False
    """Stop after the first group of checks in which one fails, the cheap groups first."""


def audit_env(
    env_id: str, config: AuditConfig | None = None, *, progress: Callable[[str], None] | None = None, **kwargs: Any
) -> Report:
    """Audit an environment and its reward.

    Args:
        env_id: A registered id of a `ToolEnv`.
        config: How much to look at.
        progress: Called with the name of every step that is done.
        kwargs: Arguments of gym.make: world, tasks, index, reward, dialect, …

    Raises:
        ConfigError: The environment cannot be made, is no `ToolEnv`, or `episodes` is below 1.
        DataError: `config.run` holds no metrics of a training run.
    """
    config, say = config or AuditConfig(), progress or (lambda _: None)
    if config.episodes < 1 or config.instances < 1:
        raise ConfigError(f"audit: episodes={config.episodes}, instances={config.instances}; allowed: 1 or more")
    check_arguments(env_id, kwargs)
    learned, curve = check_learned(config.run, config.steps)

    def make(**more: Any) -> ToolEnv:
        # Tasks that are given take the place of the world's.
        given = {name: value for name, value in kwargs.items() if name != "world" or "tasks" not in more}
        env = gym.make(env_id, disable_env_checker=True, **{**given, **more}).unwrapped
        if not isinstance(env, ToolEnv):
            raise ConfigError(f"{env_id} is no agentgym.ToolEnv; the audit needs its record and its oracle")
        return env

    env = make()
    further = _further(env, kwargs)
    machine = make(**further) if further else env
    tasks = spread(env.tasks(), config.episodes)
    rows, needed, findings = climb(env, tasks, progress=say)
    live = [play(env, task, oracle(noise), (0, n)) for noise in (0.0, 0.5) for n, task in enumerate(tasks)]
    hostile = [play(env, task, lambda p: p.bad if p.turn % 2 else p.look(p.question), (0, 0)) for task in tasks[:2]]
    records: Sequence[Trajectory] = completed(env.suite, [*live, *hostile])
    steps: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
        ("scores", lambda: check_rewards(env, tasks, records)),
        ("components", lambda: check_components(env.suite)),
        ("machine", lambda: _machine(machine, tasks, lambda **more: make(**further, **more))),
        ("gold", lambda: check_isolation(env, tasks)),
        ("repetition", lambda: check_reproduction(env, tasks, live, make)),
        ("golden episodes", lambda: check_golden(env)),
        ("description", lambda: check_description(env, tasks, records)),
    )
    for name, step in sorted(steps, key=lambda s: s[0] in DEAR) if config.stop else steps:
        if config.stop and any(f.status == "fail" for f in findings):
            return Report(env_id, env.suite.name, env.suite.bounds().margin, needed, tuple(rows), tuple(findings))
        findings += _guarded(name, step)
        say(name)
    scale, measured = check_scale(tasks, live, make, config.instances)
    findings += [*scale, *learned]
    say("throughput")
    findings.sort(key=lambda f: SECTIONS.index(f.section))
    return Report(
        env_id, env.suite.name, env.suite.bounds().margin, needed, tuple(rows), tuple(findings), measured | curve
    )


def _further(env: ToolEnv, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument that gives an environment the tools it lacks for checks of the machine; empty for none."""
    if not (more := lacking(env, env.tasks()[0])) or "tools" not in inspect.signature(type(env).__init__).parameters:
        return {}
    return {"tools": [kwargs.get("tools", ()), *more]}


def _machine(env: ToolEnv, tasks: Sequence[Task], make: Callable[..., ToolEnv]) -> list[Finding]:
    return [*check_mechanics(env, tasks, make), *check_turns(env, tasks, make)]


def spread(tasks: Sequence[Task], n: int) -> list[Task]:
    """Return n tasks spread evenly over a split; all of a smaller one."""
    count = len(tasks)  # kinds often take turns: the added i keeps the step from meeting one kind alone
    return [tasks[(i * count // n + i) % count] for i in range(n)] if count > 2 * n else list(tasks[:n])


def _guarded(name: str, step: Callable[[], list[Finding]]) -> list[Finding]:
    """Run a group of checks; one that raises is a failed check."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the finding)
        return [Finding("hack-resistant", f"the checks of {name} run", "fail", f"{type(error).__name__}: {error}")]
