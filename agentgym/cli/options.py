"""Arguments that several commands share, and how they become environments and policies."""

import argparse
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

from agentgym.cli.parser import whole_number
from agentgym.errors import ConfigError, suggestion
from agentgym.named import is_object_name


def add_env_arguments(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add what `gym.make` takes; `optional`: the command has a use without an environment."""
    parser.add_argument("env", metavar="ENV", nargs="?" if optional else None, help='environment id, e.g. "SearchQA-v0"')
    parser.add_argument("--world", help='world spec, e.g. "synthetic:natural?entities=1000&seed=0"')
    parser.add_argument("--tasks", type=existing_text, help="question file (JSON, JSON lines, .gz)")
    parser.add_argument("--index", type=existing_text, help="folder made by `agentgym index build`, or a file of passages")
    parser.add_argument(
        "--reward", help="preset, component, expression, FILE.toml, or one of your own: MODULE:NAME or FILE.py:NAME"
    )
    parser.add_argument("--dialect", choices=("tags", "json", "chat"), help="how a call is written; chat: native tool calls")
    parser.add_argument("--observation", choices=("full", "compact"), help="how results are shown")
    parser.add_argument("--split", help="which tasks to draw: train, dev or test of a synthetic world (default: train); question files have one")
    parser.add_argument("--env-arg", action="append", default=[], metavar="KEY=JSON", help="further argument of gym.make, e.g. tools=my_tools.py:refund")


def env_kwargs(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for `gym.make`. Raises ConfigError for a malformed --env-arg."""
    names = ("world", "tasks", "index", "reward", "dialect", "observation", "split")
    kwargs = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    kwargs.update(key_values(args.env_arg, "--env-arg"))
    return kwargs


def key_values(items: list[str], flag: str) -> dict[str, Any]:
    """Parse KEY=JSON items; a value that is no JSON is a string."""
    parsed: dict[str, Any] = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise ConfigError(f"{flag} {item!r}: write KEY=VALUE")
        try:
            parsed[key] = json.loads(value)
        except ValueError:
            parsed[key] = value
    return parsed


def check_env_id(env_id: str) -> None:
    """Raise ConfigError with the nearest id if gymnasium does not know `env_id` ("module:id" imports first)."""
    import gymnasium

    from agentgym.envs import ENVIRONMENTS

    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"{env_id!r}: the module {module!r} cannot be imported: {error}") from error
    if name not in gymnasium.registry:
        known = [*ENVIRONMENTS, *(i for i in gymnasium.registry if i not in ENVIRONMENTS)]
        raise ConfigError(
            f"no environment has the id {name!r}{suggestion(name, known)}; `agentgym list envs` shows ours"
        )


def add_policy_arguments(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the choice of a policy."""
    parser.add_argument("--policy", default=default, help="policy id, e.g. scripted, smollm2-135m, hf:PATH (default: %(default)s)")
    parser.add_argument("--policy-arg", action="append", default=[], metavar="KEY=JSON", help="argument of the policy")
    parser.add_argument("--noise", type=float, default=0.0, help="chance of a bad action per turn (scripted policy)")
    parser.add_argument("--temperature", type=float, default=1.0, help="sampling temperature; 0 is greedy (default: %(default)s)")
    parser.add_argument("--max-tokens", type=whole_number(1), default=256, help="longest completion of one turn in tokens (default: %(default)s)")


def sampling_config(args: argparse.Namespace, policy: Any) -> Any:
    """Return the SamplingConfig of --temperature, --max-tokens and --noise.

    Raises:
        ConfigError: a value that is not allowed, or noise for a policy that does not play the environment's solution.
    """
    from agentgym.rollout import SamplingConfig

    config = SamplingConfig(args.temperature, args.max_tokens, oracle_noise=args.noise)
    if args.noise and not policy.privileged:
        raise ConfigError(f"--noise {args.noise:g}: the policy {args.policy} makes mistakes of its own; noise is for scripted, which knows the solution")
    return config


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a judge."""
    parser.add_argument("--judge", help="who decides what the reward leaves to a judge, e.g. endpoint")
    parser.add_argument(
        "--judge-arg", action="append", default=[], metavar="KEY=JSON", help="argument of the judge, e.g. base_url=…, votes=3"
    )


def judge_config(args: argparse.Namespace) -> Any:
    """Return the JudgeConfig of --judge and --judge-arg, None where neither is given. Raises ConfigError."""
    from agentgym.judges.build import config_of

    given = key_values(args.judge_arg, "--judge-arg")
    return config_of(args.judge or "endpoint", given) if args.judge or given else None


def make_policy(name: str, arguments: list[str] | dict[str, Any], seed: int | None = None) -> Any:
    """Return the policy of a registered id; "ID:VALUE" hands VALUE to its factory first.

    Args:
        name: The id; or "MODULE:NAME" or "FILE.py:NAME" of a factory of one's own.
        arguments: Arguments of the factory, by name or as KEY=JSON texts.
        seed: The run's seed, for factories that take one (those that draw weights).
    """
    from agentgym import hooks

    kind, _, value = name.partition(":")
    if is_object_name(name) and kind not in hooks.POLICIES:
        kind, value = name, ""
    factory = hooks.POLICIES.resolve(kind)
    if not callable(factory):
        raise ConfigError(f"policy {name!r} is {type(factory).__name__}; name a class or function that makes a policy")
    options = dict(arguments) if isinstance(arguments, dict) else key_values(arguments, "--policy-arg")
    if seed is not None and "seed" in inspect.signature(factory).parameters:
        options.setdefault("seed", seed)
    try:
        made = factory(value, **options) if value else factory(**options)
    except TypeError as error:
        raise ConfigError(f"policy {name!r}: {error}; pass what it needs with --policy-arg KEY=VALUE") from error
    lacks = [part for part in ("privileged", "served", "act", "release") if not hasattr(made, part)]
    if lacks or not inspect.iscoroutinefunction(made.act):
        what = f"has no {', '.join(lacks)}" if lacks else "has an `act` that is no `async def`"
        raise ConfigError(f"policy {name!r} {what}; agentgym.rollout.policy.Policy says what a policy is")
    return made


def existing_path(text: str) -> Path:
    """Return a path that exists. Raises ConfigError otherwise, with the nearest name of its folder."""
    path = Path(text)
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(f"{text}: no such file or folder{suggestion(path.name, beside)}")
    return path


def existing_text(text: str) -> str:
    """Return `existing_path` as it was written."""
    existing_path(text)
    return text
