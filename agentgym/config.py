"""Settings: frozen dataclasses, filled from a TOML file and dotted `key=value` overrides; the last one wins.

An unknown key is an error that names the file, the key path and the nearest known key. TOML has no null: for a
field whose type allows None, the string "none" means None, in files and in overrides.
"""

import ast
import copy
import dataclasses
import inspect
import itertools
import json
import math
import re
import textwrap
import tomllib
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from agentgym import schema
from agentgym.errors import ConfigError, suggestion

T = TypeVar("T")

WIDTH = 116
"""Longest line of a comment in a file of settings."""

_MISSING = "(required)"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """One setting, for tables and golden files."""

    path: str
    """Dotted path from the top of the file."""
    type: str
    default: str
    """As it is written in TOML; "(required)" without a default."""
    doc: str
    """The string below the field."""


def load(cls: type[T], path: str | Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Return an instance of the dataclass `cls`.

    Args:
        cls: a frozen dataclass whose fields are settings, or tables of settings (dataclasses).
        path: a TOML file; None for the defaults.
        overrides: texts like "train.lr=1e-3": a dotted key path, and a TOML value. Where the setting is a string
            the quotes may be left out. Later ones win over earlier ones and over the file. One key of a free table
            ("env_args.k=3") changes that key alone; a file's free table takes the place of the whole default.

    Raises:
        ConfigError: for a file that cannot be read, an unknown key, a value of the wrong type, a missing key.
    """
    tables = _read(Path(path)) if path is not None else {}
    tables = _nones(cls, tables)
    where = str(path) if path is not None else "settings"
    try:
        return schema.from_json(cls, _overridden(cls, tables, overrides), where=where, error=ConfigError)
    except ConfigError as error:
        raise _blamed(cls, tables, overrides, where, error) from None


def _overridden(cls: Any, tables: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the tables with the overrides put in."""
    tables = copy.deepcopy(tables)
    for text in overrides:
        keys, value = _override(cls, text)
        _put_default(cls, tables, keys)
        _put(tables, keys, value, text)
    return tables


def _blamed(cls: Any, tables: dict[str, Any], overrides: Sequence[str], where: str, error: ConfigError) -> ConfigError:
    """Return an error that names the override with which it begins; as it is where the file alone brings it."""
    for n in range(len(overrides) + 1):
        blame = f"override {overrides[n - 1]!r}" if n else where
        try:
            schema.from_json(cls, _overridden(cls, tables, overrides[:n]), where=blame, error=ConfigError)
        except ConfigError as found:
            # The same complaint but for the place; another one is mended by a later override.
            if str(found).removeprefix(blame) == str(error).removeprefix(where):
                return found
    return error


def dump(cfg: Any, *, docs: bool = False) -> str:
    """Return every setting of a dataclass instance as TOML text that `load` reads back to an equal one.

    Args:
        cfg: the instance.
        docs: write what a setting means as a comment above it.

    Raises:
        ConfigError: for a value that TOML cannot hold (None inside a list or a free table).
    """
    known = {key.path: key.doc for key in keys(type(cfg))} if docs else {}
    return "\n".join(_lines(_tables(cfg), (), known)).lstrip("\n") + "\n"


def keys(cls: Any) -> list[Key]:
    """Return all settings of a dataclass, nested tables included, in the order of their fields."""
    return list(_keys(cls, cls, ""))


# ---- reading


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file (working folder: {Path.cwd()})") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: cannot be read: {problem}") from problem
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{path}: not TOML: {problem}") from None


def _nones(tp: Any, value: Any) -> Any:
    """Return the value with "none" replaced by None at every field that allows None."""
    members = _members(tp)
    if value == "none" and type(None) in members:
        return None
    for member in members:
        args = typing.get_args(member)
        if isinstance(value, dict) and dataclasses.is_dataclass(member):
            types = schema.field_types(typing.cast(type, member))
            return {k: _nones(types[k], v) if k in types else v for k, v in value.items()}
        if isinstance(value, dict) and typing.get_origin(member) is dict:
            return {k: _nones(args[1], v) for k, v in value.items()}
        if isinstance(value, list) and typing.get_origin(member) in (tuple, list):
            types = args[:1] * len(value) if args[-1] is ... or len(args) == 1 else args
            return [_nones(t, v) for t, v in itertools.zip_longest(types, value, fillvalue=Any)][: len(value)]
    return value


def _members(tp: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself alone."""
    return typing.get_args(tp) if schema.is_union(tp) else (tp,)


def _override(cls: Any, text: str) -> tuple[list[str], Any]:
    path, equals, given = text.partition("=")
    where = f"override {text!r}"
    names = path.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"{where}: expected key=value with a dotted key, e.g. train.lr=1e-3")
    tp = _type_at(cls, names, where)
    value = _nones(tp, _value(tp, given.strip()))
    schema.from_json(tp, value, where=f"{where}: {path.strip()}", error=ConfigError)
    return names, value


def _type_at(cls: Any, names: list[str], where: str) -> Any:
    tp = cls
    for depth, name in enumerate(names):
        below = ".".join(names[:depth]) or "the top level"
        table = next((m for m in _members(tp) if dataclasses.is_dataclass(m)), None)
        mapping = next((m for m in _members(tp) if typing.get_origin(m) is dict), None)
        if tp is Any:
            return Any
        if table is not None:
            types = schema.field_types(typing.cast(type, table))
            if name not in types:
                hint = suggestion(name, types)
                raise ConfigError(f"{where}: unknown key {name!r} at {below}{hint} (known keys: {', '.join(types)})")
            tp = types[name]
        elif mapping is not None:
            tp = typing.get_args(mapping)[1]
        else:
            raise ConfigError(f"{where}: {below} is no table but {schema.type_name(tp)}")
    return tp


def _value(tp: Any, text: str) -> Any:
    """Parse the value of an override: TOML, or a bare word where the setting can be a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    if len(parsed) > 1:  # a line break and a second assignment
        return text
    value = parsed["value"]
    members = _members(tp)
    if isinstance(value, str) or tp is Any or dataclasses.is_dataclass(tp):
        return value
    takes = {type(choice) for m in members if typing.get_origin(m) is Literal for choice in typing.get_args(m)}
    takes |= {m for m in members if m in (str, int, float, bool, Path)}
    only_text = takes <= {str, Path} and bool(takes)
    return text if only_text and not isinstance(value, (list, dict)) else value


def _put_default(cls: Any, tables: dict[str, Any], names: list[str]) -> None:
    """Put the default of a free table into `tables` before one of its keys is set, so that the others keep theirs."""
    tp = cls
    for name in names[:-1]:
        owner = next((m for m in _members(tp) if dataclasses.is_dataclass(m)), None)
        if owner is None:
            return
        tp = schema.field_types(typing.cast(type, owner))[name]
        default = _default(next(f for f in dataclasses.fields(owner) if f.name == name))
        if isinstance(default, dict):
            tables.setdefault(name, _tables(default))
        tables = tables.setdefault(name, {})
        if not isinstance(tables, dict):
            return


def _put(tables: dict[str, Any], names: list[str], value: Any, text: str) -> None:
    for name in names[:-1]:
        below = tables.setdefault(name, {})
        if below is None:  # a table that the file switched off
            below = tables[name] = {}
        if not isinstance(below, dict):
            raise ConfigError(f"override {text!r}: {name!r} holds {below!r}, which is no table")
        tables = below
    tables[names[-1]] = value


# ---- writing


def _tables(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)
        return {name: "none" if item is None else _tables(item) for name, item in pairs}
    if isinstance(value, dict):
        return {k: _tables(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tables(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _lines(table: dict[str, Any], path: tuple[str, ...], docs: dict[str, str]) -> Iterator[str]:
    plain = {k: v for k, v in table.items() if not isinstance(v, dict)}
    nested = {k: v for k, v in table.items() if isinstance(v, dict)}
    if path and (plain or not nested):
        yield f"\n[{'.'.join(map(_key, path))}]"
    for name, value in plain.items():
        yield from (f"# {line}" for line in textwrap.wrap(docs.get(".".join((*path, name)), ""), WIDTH))
        yield f"{_key(name)} = {_toml(value, (*path, name))}"
    for name, value in nested.items():
        yield from _lines(value, (*path, name), docs)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _toml(name, (name,))


def _toml(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v, path) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_toml(v, (*path, k))}" for k, v in value.items()) + "}"
    raise ConfigError(f"{'.'.join(path)}: TOML cannot hold {type(value).__name__} {value!r} here")


# ---- describing


def _keys(cls: Any, default: Any, prefix: str) -> Iterator[Key]:
    docs = field_docs(cls)
    for field in dataclasses.fields(cls):
        tp = schema.field_types(cls)[field.name]
        value = _default(field) if default is cls else getattr(default, field.name)
        table = next((m for m in _members(tp) if dataclasses.is_dataclass(m)), None)
        if table is not None and (len(_members(tp)) == 1 or dataclasses.is_dataclass(value)):
            yield from _keys(table, value if dataclasses.is_dataclass(value) else table, f"{prefix}{field.name}.")
            continue
        path = f"{prefix}{field.name}"
        missing = value is dataclasses.MISSING
        shown = _MISSING if missing else _toml("none" if value is None else _tables(value), (path,))
        yield Key(path, schema.type_name(tp), shown, docs.get(field.name, ""))
        if table is not None:
            yield from _keys(table, table, f"{path}.")


def _default(field: Any) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def field_docs(cls: type) -> dict[str, str]:
    """Return the string below each field of a dataclass, inherited ones too, joined to one line."""
    docs: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        except (OSError, TypeError):  # without source
            continue
        docs.update(_documented(typing.cast(ast.ClassDef, tree.body[0]).body))
    return docs


def _documented(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
    name = ""
    for statement in body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and name:
            yield name, " ".join(str(statement.value.value).split())
            name = ""
        else:
            name = ""
