"""What others rely on, frozen: command-line flags, settings, the record of a trajectory, the root's names.

A change here is a change for users: write it with `pytest --update-golden`, and a line into the changelog.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import agentgym
from agentgym import config, schema, types
from agentgym.cli.main import build_parser

Golden = Callable[[str, str], None]


def test_public_names(golden: Golden) -> None:
    golden("public_names.txt", "\n".join(sorted(agentgym.__all__)) + "\n")


def test_command_line(golden: Golden) -> None:
    golden("command_line.txt", "\n".join(_flags(build_parser(), "agentgym")) + "\n")


def _flags(parser: argparse.ArgumentParser, name: str) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, below in action.choices.items():
                yield from _flags(below, f"{name} {command}")
        elif not isinstance(action, argparse._HelpAction):
            choices = f" {{{','.join(map(str, action.choices))}}}" if action.choices else ""
            yield f"{name} {'/'.join(action.option_strings) or action.dest}{choices} default={action.default!r}"


@pytest.mark.torch
def test_settings_of_train(golden: Golden) -> None:
    from agentgym.learn.run import RunConfig

    golden("settings.txt", "".join(f"{k.path}: {k.type} = {k.default}\n" for k in config.keys(RunConfig)))


def test_record_of_a_trajectory(golden: Golden) -> None:
    golden("trajectory_schema.txt", "\n".join(_record(types.Trajectory, set())) + "\n")


def _record(cls: Any, seen: set[Any]) -> Iterator[str]:
    seen.add(cls)
    nested = []
    yield f"{cls.__name__}:"
    for name, tp in schema.field_types(cls).items():
        yield f"  {name}: {schema.type_name(tp)}"
        nested += [c for c in vars(types).values() if dataclasses.is_dataclass(c) and _mentions(tp, c)]
    for below in dict.fromkeys(nested):
        if below not in seen:
            yield from _record(below, seen)


def _mentions(tp: Any, cls: Any) -> bool:
    return tp is cls or any(_mentions(a, cls) for a in getattr(tp, "__args__", ()))
