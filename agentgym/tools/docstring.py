"""What a docstring says of a tool and of its parameters."""

import inspect
import re
from collections.abc import Iterable
from itertools import zip_longest

_SECTION = re.compile(r"^(?:Args|Arguments|Parameters|Params):[ \t]*$", re.MULTILINE)
_HEADER = re.compile(r"^[A-Z][A-Za-z ]{2,20}:[ \t]*$", re.MULTILINE)
_ENTRY = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)\n]*\))?\s*:\s*(.*)$")


def read_docstring(doc: str | None, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return the description (first paragraph) and the texts of the parameters.

    Parameters are read from a Google section "Args:", and from "name: text" at the start of a line, after a
    full stop or after two blanks.
    """
    text = inspect.cleandoc(doc or "")
    names = list(names)
    header = _HEADER.search(text)
    intro = text[: header.start()] if header else text
    described = _section(text, names)
    description = intro
    if names:
        places = list(_inline(names).finditer(intro))
        for place, after in zip_longest(places, places[1:]):
            body = intro[place.end() : after.start() if after else len(intro)].split("\n\n")[0]
            described.setdefault(place[1], _one_line(body))
        if places:
            description = intro[: places[0].start()]
    return _one_line(description.split("\n\n")[0]), described


def _inline(names: list[str]) -> re.Pattern[str]:
    choice = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?:^|(?<=[.;!?])\s+|[ \t]{{2,}}|\n\s*)({choice}):\s+", re.MULTILINE)


def _section(text: str, names: list[str]) -> dict[str, str]:
    start = _SECTION.search(text)
    found: dict[str, list[str]] = {}
    name, depth = "", 0
    for line in text[start.end() :].splitlines()[1:] if start else ():
        if line.strip() and not line[0].isspace():
            break
        indent = len(line) - len(line.lstrip())
        entry = _ENTRY.match(line)
        if entry and entry[1] in names and (not name or indent <= depth):
            name, depth = entry[1], indent
            found[name] = [entry[2]]
        elif name and line.strip():
            found[name].append(line)
    return {key: _one_line(" ".join(lines)) for key, lines in found.items()}


def _one_line(text: str) -> str:
    return " ".join(text.split())
