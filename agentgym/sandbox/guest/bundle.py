"""The sources that go into a sandbox, as one message; runs on the host."""

import json
from functools import cache
from importlib import resources
from typing import Any

_PACKAGE = "agentgym.sandbox.guest"
_MODULES = ("frames", "syscalls", "confine", "workspace", "procfs", "servant", "program", "zygote")
PRELOAD = (
    "collections", "copy", "csv", "datetime", "decimal", "fractions", "functools", "heapq", "io", "itertools", "json",
    "math", "operator", "os.path", "pathlib", "random", "re", "statistics", "string", "tempfile", "textwrap", "typing",
)  # fmt: skip
"""Loaded once by the zygote, so that programs find them loaded."""


@cache
def boot() -> str:
    """Return the lines for `python -c`."""
    return _source("boot")


@cache
def _modules() -> list[list[str]]:
    return [[f"{_PACKAGE}.{name}", _source(name)] for name in _MODULES]


def bundle(config: dict[str, Any], preload: tuple[str, ...] = PRELOAD) -> bytes:
    """Return what the booted interpreter waits for: four bytes of length, then JSON."""
    packages = ["agentgym", "agentgym.sandbox", _PACKAGE]
    message = {"packages": packages, "modules": _modules(), "preload": list(preload), "config": config}
    body = json.dumps(message).encode("ascii")
    return len(body).to_bytes(4, "big") + body


def _source(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(f"{name}.py").read_text("utf-8")
