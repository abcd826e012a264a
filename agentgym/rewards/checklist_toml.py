"""Checklists from TOML, where programs are named and never written out.

::

    [checklist.refund]
    assignment = "turn_end"
    items = [
      { id = "found", call = "get_order", args = { order_id = "#W23" }, critical = true },
      { id = "refunded", kind = "program", program = "shop_checks:refunded", after = ["found"], weight = 2 },
      { id = "told", kind = "judge", focus = "reply", question = "States the refunded amount.", after = ["refunded"] },
    ]
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym import schema
from agentgym.criterion import Criterion
from agentgym.errors import ConfigError, suggestion
from agentgym.rewards.checklist import Checklist, register_checklist
from agentgym.types import JSON

_KEYS = ("items", "assignment")


def load_checklists(path: str | Path, *, register: bool = True, replace: bool = False) -> list[Checklist]:
    """Read all tables [checklist.NAME] of a file; other tables are left alone.

    Args:
        path: the TOML file.
        register: also make them known as rewards "checklist:NAME".
        replace: replace registered ones of the same name.

    Raises:
        ConfigError: The file cannot be read or holds no checklist; an unknown key (with a suggestion), a value of the
            wrong type, a checklist that cannot score. The message begins with file and line.
        RegistrationError: A name is taken.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text).get("checklist")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file (working folder: {Path.cwd()})") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: cannot be read: {problem}") from problem
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{path}: not TOML: {problem}") from None
    if not isinstance(tables, dict) or not tables:
        raise ConfigError(f"{path}: holds no table [checklist.NAME]")
    made = [_checklist(name, table, text, path) for name, table in tables.items()]
    for checklist in made if register else ():
        register_checklist(checklist, replace=replace)
    return made


def read_checklists(tables: Mapping[str, JSON], where: str, *, replace: bool = False) -> list[Checklist]:
    """Make and register the checklists of a table of tables, as `[checklist.NAME]` of a settings file gives it.

    Args:
        tables: by name, each with items and assignment.
        where: what messages begin with.
        replace: replace registered ones of the same name.

    Raises:
        ConfigError: As `load_checklists`.
        RegistrationError: A name is taken.
    """
    made = []
    for name, table in tables.items():
        place = f"{where}.{name}"
        items = _items(table, place)
        criteria = [schema.from_json(Criterion, e, f"{place}.items[{i}]", error=ConfigError) for i, e in enumerate(items)]
        made.append(Checklist(name, criteria, assignment=table.get("assignment", "turn_end"), where=place).check())
    for checklist in made:
        register_checklist(checklist, replace=replace)
    return made


def _items(table: Any, where: str) -> list[Any]:
    """Return the items of one table, its keys checked."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table with items = […]")
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}{suggestion(key, _KEYS)} (known keys: {', '.join(_KEYS)})")
    items = table.get("items")
    if not isinstance(items, list):
        raise ConfigError(f"{where}: needs items = [ {{ id = …, call = … }}, … ]")
    return items


def _checklist(name: str, table: Any, text: str, path: Path) -> Checklist:
    begins = _line(text, rf"^\s*\[\s*checklist\.[\"']?{re.escape(name)}[\"']?\s*[\].]")
    where = f"{path}:{begins}: checklist {name!r}"
    items, criteria = _items(table, where), []
    for number, item in enumerate(items):
        id_ = item.get("id") if isinstance(item, dict) else None
        line = _line(text, rf"\bid\s*=\s*[\"']{re.escape(id_)}[\"']", begins) if isinstance(id_, str) else begins
        place = f"{path}:{line}: checklist.{name}.items[{number}]"
        criteria.append(schema.from_json(Criterion, item, place, error=ConfigError))
    return Checklist(name, criteria, assignment=table.get("assignment", "turn_end"), where=where).check()


def _line(text: str, pattern: str, start: int = 1) -> int:
    """Return the number of the first line from `start` that the pattern finds, or `start`.

    The parser gives no positions; an id is as good as one.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if number >= start and re.search(pattern, line):
            return number
    return start
