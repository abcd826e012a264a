"""What a user's own code is called: "MODULE:NAME" or "FILE.py:NAME" -> the object. The one place that imports by name.

Recipes, the command line, `gym.make`, checklists and registered names all come here, so that one spelling works
everywhere. A module is looked for in the working folder first, then where Python looks; a file is loaded once, whatever
its path is called. Both folders stay at the end of Python's path, for imports that the code makes later.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from agentgym.errors import ConfigError, MissingExtraError, ServiceError, suggestion

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_OF_MODULE = re.compile(rf"{_NAME}:{_NAME}")
_OF_FILE = re.compile(rf".+\.py(?::{_NAME})?", re.DOTALL)
_BY_FILE: set[str] = set()
"""Modules whose names Python alone would not find: their file's name was taken."""
_FORMS = "write MODULE:NAME or FILE.py:NAME, e.g. my_tools:refund or my_tools.py:refund"


def is_object_name(text: str) -> bool:
    """Say whether a text has the form "MODULE:NAME" or "FILE.py:NAME" (a file without a name counts: it is refused with a hint)."""
    return bool(_OF_MODULE.fullmatch(text) or _OF_FILE.fullmatch(text))


def named_object(text: str, where: str = "", known: Iterable[str] = (), *, installed: bool = False) -> Any:
    """Return what "MODULE:NAME" or "FILE.py:NAME" names; NAME may have dots.

    Args:
        text: the name; a relative FILE is one of the working folder.
        where: begins the message of an error, before the name, e.g. "policy".
        known: registered names that could have been meant.
        installed: take only modules that Python finds by itself: for names that come with data, which must not choose
            a file of the working folder.

    Raises:
        ConfigError: the text is of another form, there is no such module or file, it fails while it is imported, or it
            has nothing of that name.
        MissingExtraError: its code needs an optional package.
        ServiceError: its code needs a service that is not there.
    """
    said = f"{where} {text!r}" if where else repr(text)
    place, colon, name = text.rpartition(":")
    if not is_object_name(text) or not colon or text.endswith(".py"):
        raise ConfigError(f"{said}: {_FORMS}{suggestion(text, known)}")
    if installed and place.endswith(".py"):
        raise ConfigError(f"{said}: data may name MODULE:NAME of an installed module only, no file")
    module = _of_file(Path(place), said) if place.endswith(".py") else _of_module(place, said, known, installed)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            hint = suggestion(part, (n for n in vars(found) if not n.startswith("_")) if hasattr(found, "__dict__") else ())
            what = f"the {'file' if place.endswith('.py') else 'module'} {place!r}"
            raise ConfigError(f"{said}: {what} has no {name!r}{hint}") from None
    return found


def source_file(text: str) -> Path | None:
    """Return the file that a name's code lies in; None for what is no such name, or a module that is not loaded.

    A file of settings ("my.toml") is its own.
    """
    if text.endswith(".toml"):
        return Path(text)
    if not is_object_name(text):
        return None
    place = text.rpartition(":")[0] or text
    if place.endswith(".py"):
        return Path(place)
    file = getattr(sys.modules.get(place), "__file__", None)
    return Path(file) if file else None


def place_of(function: Callable[..., Any]) -> str:
    """Return the name under which another process finds a function."""
    module = function.__module__
    return f"{sys.modules[module].__file__ if module in _BY_FILE else module}:{function.__qualname__}"


def _of_module(name: str, said: str, known: Iterable[str], installed: bool) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    with _importing(said, f"the module {name!r}", None if installed else Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and what it imports is not
            here = [] if installed else [p.stem for p in Path.cwd().glob("*.py")]
            raise ConfigError(
                f"{said}: the module {name!r} cannot be imported: none is installed"
                f"{'' if installed else f', and there is none in {Path.cwd()}'}{suggestion(name, [*known, *here])}"
            ) from None


def _of_file(path: Path, said: str) -> ModuleType:
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(f"{said}: there is no file {path} (working folder: {Path.cwd()}){suggestion(path.name, near)}")
    path = path.resolve()
    for module in tuple(sys.modules.values()):  # loaded before, perhaps under another name: a second copy would register twice
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(path.name) and os.path.realpath(file) == str(path):
            return module
    taken = _is_taken(path)
    with _importing(said, f"the file {path.name!r}", path.parent):
        if not taken:
            return importlib.import_module(path.stem)
        name = f"{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)  # pyright: ignore[reportArgumentType]
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)  # pyright: ignore[reportOptionalMemberAccess]
        except BaseException:
            del sys.modules[name]
            raise
        _BY_FILE.add(name)
        return module


def _is_taken(path: Path) -> bool:
    """Whether `import STEM` gives, or would have given, another module than the file."""
    if not path.stem.isidentifier() or path.stem in sys.modules:
        return True
    found = importlib.util.find_spec(path.stem)
    return found is not None and (found.origin is None or os.path.realpath(found.origin) != str(path))


@contextlib.contextmanager
def _importing(said: str, what: str, folder: Path | None) -> Iterator[None]:
    """Import with `folder` first in the path, what the code prints on stderr, and its errors as ours."""
    if folder is not None:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # the file may be younger than Python's list of its folder
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (ConfigError, MissingExtraError, ServiceError):
        raise
    except (Exception, SystemExit) as error:  # code of others may fail in any way while it is imported
        raise ConfigError(f"{said}: {what} cannot be imported: {type(error).__name__}: {error}{_line(error, folder)}") from error
    finally:
        if folder is not None:
            with contextlib.suppress(ValueError):  # the code may have changed the path
                sys.path.remove(str(folder))
            if str(folder) not in sys.path:
                sys.path.append(str(folder))


def _line(error: BaseException, folder: Path | None) -> str:
    """Return the last line below `folder` that an error passed, as " (file.py:3)"."""
    if folder is None or isinstance(error, SyntaxError):  # the latter says it itself
        return ""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(folder)]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
