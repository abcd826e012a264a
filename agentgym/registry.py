"""Names -> objects. A target is an object, or the string "module:attribute" that is imported on first look-up."""

import os
import warnings
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from agentgym.errors import ConfigError, NotRegisteredError, RegistrationError, suggestion
from agentgym.named import is_object_name, named_object

T = TypeVar("T")

PLUGIN_GROUP = "agentgym.plugins"
PLUGIN_VARIABLE = "AGENTGYM_PLUGINS"
"""Comma-separated names of the entry points to load; unset = all, empty = none."""

_plugins_loaded = False


class Registry(Generic[T]):
    """The names of one kind of thing. Registering imports nothing; the first look-up does."""

    def __init__(self, kind: str) -> None:
        """Name the kind as messages and `agentgym list` call it, e.g. "policy"."""
        self.kind = kind
        self._targets: dict[str, str | T] = {}
        self._loaded: dict[str, T] = {}

    def add(self, name: str, target: "str | T", *, replace: bool = False) -> None:
        """Register `target` (an object, or "module:attribute") under `name`.

        Raises:
            RegistrationError: the name is empty or taken (and `replace` is not set), or a string target
                is not of the form "module:attribute".
        """
        if not isinstance(name, str) or not name or name != name.strip():
            raise RegistrationError(f"a {self.kind} needs a non-empty name without outer blanks, got {name!r}")
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            if not module or not attribute or module.startswith("."):
                raise RegistrationError(
                    f"{self.kind} {name!r}: a string target is 'module:attribute' with an absolute module, got {target!r}"
                )
        if name in self._targets and not replace:
            raise RegistrationError(
                f"{self.kind} {name!r} is already registered as {self._targets[name]!r}; "
                f"choose another name, or pass replace=True"
            )
        self._targets[name] = target
        self._loaded.pop(name, None)

    def resolve(self, name: str) -> T:
        """Return what is registered under `name`, importing it the first time; else what "MODULE:NAME" or "FILE.py:NAME" names.

        Raises:
            NotRegisteredError: nobody registered the name, plugins included.
            ConfigError: it has the form of one's own code, and there is none (`agentgym.named`).
            RegistrationError: the target cannot be imported.
            MissingExtraError: its module needs an optional package.
        """
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._targets:
            load_plugins()
        if name not in self._targets and is_object_name(name):
            return cast(T, named_object(name, self.kind, self._targets))
        if name not in self._targets:
            raise NotRegisteredError(
                f"unknown {self.kind} {name!r}{suggestion(name, self._targets)}; "
                f"{len(self._targets)} registered; list with `agentgym list {self.kind}`, or name code of your own: MODULE:NAME"
            )
        target = self._targets[name]
        loaded = cast(T, self._load(name, target)) if isinstance(target, str) else target
        self._loaded[name] = loaded
        return loaded

    def names(self) -> tuple[str, ...]:
        """Return the registered names, sorted (call `load_plugins` first to include those of plugins)."""
        return tuple(sorted(self._targets))

    def __contains__(self, name: object) -> bool:
        """Say whether the name is registered; loads plugins on the first miss."""
        if name not in self._targets:
            load_plugins()
        return name in self._targets

    def __len__(self) -> int:
        """Return the number of registered names."""
        return len(self._targets)

    def _load(self, name: str, target: str) -> object:
        try:
            # What was registered lies where Python looks: a file of the working folder does not take its place.
            return named_object(target, installed=not target.partition(":")[0].endswith(".py"))
        except ConfigError as error:
            raise RegistrationError(f"{self.kind} {name!r}: cannot load {target!r}: {error}") from error


def load_plugins(*, again: bool = False) -> None:
    """Load the entry points of group "agentgym.plugins" that AGENTGYM_PLUGINS allows, once per process.

    An entry point names a module (importing it registers) or a function without arguments that registers.
    A plugin that fails to load gives a RuntimeWarning that names it and is left out.
    """
    global _plugins_loaded
    if _plugins_loaded and not again:
        return
    _plugins_loaded = True
    chosen = os.environ.get(PLUGIN_VARIABLE)
    allowed = None if chosen is None else {part.strip() for part in chosen.split(",") if part.strip()}
    if allowed is not None and not allowed:
        return
    for point in entry_points(group=PLUGIN_GROUP):
        if allowed is not None and point.name not in allowed:
            continue
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except Exception as error:  # noqa: BLE001 - foreign code: one broken plugin must not stop the others
            warnings.warn(
                f"plugin {point.name!r} ({point.value}) could not be loaded: {type(error).__name__}: {error}; "
                f"leave it out with {PLUGIN_VARIABLE}",
                RuntimeWarning,
                stacklevel=2,
            )
