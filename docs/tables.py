"""Writes docs/tables.md from what is registered: `make docs-tables`; with --check it only compares (`make check`)."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agentgym import config, hooks
from agentgym.endpoint import EndpointConfig
from agentgym.envs import ENVIRONMENTS
from agentgym.learn.run import RunConfig
from agentgym.registry import Registry

OUT = Path(__file__).parent / "tables.md"


def main(arguments: Sequence[str]) -> int:
    """Write the file, or compare it."""
    text = "\n".join(page()) + "\n"
    if "--check" not in arguments:
        OUT.write_text(text, encoding="utf-8")
    elif not OUT.exists() or OUT.read_text(encoding="utf-8") != text:
        print("docs/tables.md is stale: run `make docs-tables`", file=sys.stderr)
        return 1
    return 0


def page() -> Iterator[str]:
    """Yield the lines of the whole page."""
    yield "# Tables"
    yield "\nWritten by `make docs-tables` from what is registered; do not edit."
    yield "\n## Environments"
    families = {i: "/".join(target.split(":")[0].split(".")[1:3]) for i, target in sorted(ENVIRONMENTS.items())}
    yield from table(("id", "card"), ((f"`{i}`", f"[{f}](../{f}/CARD.md)") for i, f in families.items()))
    yield "\n## Policies"
    yield from table(("id", "factory"), ((f"`{n}`", f"`{target(hooks.POLICIES, n)}`") for n in hooks.POLICIES.names()))
    yield "\n## Reward components"
    rows = [(name, hooks.COMPONENTS.resolve(name)) for name in hooks.COMPONENTS.names()]
    yield from table(
        ("name", "scope", "range", "supply", "what it says"),
        ((f"`{n}`", *(show(getattr(c, a, "")) for a in ("scope", "range", "supply")), summary(c)) for n, c in rows),
    )
    yield "\n## Reward presets"
    suites = [(name, hooks.SUITES.resolve(name)) for name in hooks.SUITES.names()]
    yield from table(("name", "what it is"), ((f"`{name}`", summary(suite)) for name, suite in suites))
    yield "\n## Dialects"
    dialects = [(name, hooks.DIALECTS.resolve(name)) for name in hooks.DIALECTS.names()]
    yield from table(("name", "how a call is written"), ((f"`{name}`", summary(d)) for name, d in dialects))
    yield "\n## Settings of `agentgym train`"
    yield "\nAs TOML tables in a recipe, or as `key=value` behind the command."
    yield from settings(RunConfig)
    yield "\n## Settings of an endpoint"
    yield "\nArguments of the policy `http_chat` and of judges behind an endpoint."
    yield from settings(EndpointConfig)


def settings(cls: Any) -> Iterator[str]:
    """Yield the table of a settings dataclass."""
    rows = ((f"`{key.path}`", key.type, f"`{key.default}`", key.doc) for key in config.keys(cls))
    yield from table(("key", "type", "default", "meaning"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    yield f"\n| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |"


def summary(thing: Any) -> str:
    """Return the first sentence of a docstring."""
    doc = inspect.getdoc(thing) or ""
    return doc.split("\n\n")[0].replace("\n", " ")


def show(value: Any) -> str:
    """Return an attribute as a cell."""
    return f"{value[0]:g} to {value[1]:g}" if isinstance(value, tuple) else str(value)


def target(registry: Registry[Any], name: str) -> str:
    """Return where a registered thing is defined, without importing what it may need."""
    given = registry._targets[name]
    return given if isinstance(given, str) else f"{given.__module__}:{given.__qualname__}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
