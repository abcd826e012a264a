"""The argument parser: every wrong word gives one line with the nearest right one, and exit code 2."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from agentgym.errors import suggestion

USAGE = 2


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` without abbreviations whose complaints fit on one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of `argparse.ArgumentParser`."""
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse the whole command line; leaves with exit code 2 where it cannot."""
        args, rest = self.parse_known_args(argv)
        if rest and not any(word.startswith("-") for word in rest):
            rest = self._take_more(args, rest)
        if rest:
            flag = rest[0].partition("=")[0]
            near = suggestion(flag, _options(self, args)) if flag.startswith("-") else ""
            self.error(f"unknown argument {rest[0]!r}{near}")
        return args

    def _take_more(self, args: argparse.Namespace, rest: list[str]) -> list[str]:
        """Hand words behind a flag to the command's open list of arguments, which argparse ends at the first flag."""
        for action in _actions(self, args):
            if action.nargs == argparse.ZERO_OR_MORE and not action.option_strings:
                setattr(args, action.dest, [*getattr(args, action.dest), *rest])
                return []
        return rest

    def error(self, message: str) -> NoReturn:
        """Print one line and leave."""
        self.exit(USAGE, f"error: {message}; see `{self.prog} --help`\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is no choice, with the nearest one (argparse calls this for each value)."""
        if action.choices is not None and value not in action.choices:
            allowed = [str(choice) for choice in action.choices]
            known = f"allowed: {', '.join(allowed)}{suggestion(str(value), allowed)}"
            raise argparse.ArgumentError(action, f"{value!r} is not known; {known}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave; a message goes to stderr."""
        if message:
            sys.stderr.write(message)
        sys.exit(status)


def whole_number(least: int) -> Any:
    """Return a reader of whole numbers from `least`, for `add_argument(type=...)`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return value

    return read


def _options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Iterator[str]:
    """Yield the flags of a parser and of the subcommand that `args` chose."""
    for action in _actions(parser, args):
        yield from action.option_strings


def _actions(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of the subcommand that `args` chose."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            chosen = action.choices.get(getattr(args, action.dest, None) or "")
            if chosen is not None:
                yield from _actions(chosen, args)
