"""Writes docs/tables.md from what is registered: `make docs-tables`; with --check it only compares (`make check`)."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agentgym import config, hooks
from agentgym.endpoint import EndpointConfig
from agentgym.envs import ENVIRONMENTS
from agentgym.judges.endpoint_judge import JudgeModel
from agentgym.learn.run import RunConfig
from agentgym.registry import Registry
from agentgym.rewards import build_suite

OUT = Path(__file__).parent / "tables.md"
BAR = "\\|"
"""A bar inside a cell."""


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
    yield "\nA component by name is `reward=\"answer_em\"`; `kind:argument`, as in `checklist:refund`, where it takes one. Ranges bound"
    yield "one value of costs and outcomes, and the sum over an episode of potential and once. Needs are checked against each task."
    yield from table(("name", "scope", "supply", "range", "needs", "what it says", "source"), map(component, hooks.COMPONENTS.names()))
    yield "\n## Reward presets"
    yield "\nTotals by interval arithmetic over the declared ranges; the margin is the lowest success less the highest failure."
    yield from table(("name", "what it is", "total of a failure", "of a success", "margin"), map(preset, hooks.SUITES.names()))
    yield "\n## Dialects"
    dialects = [(name, hooks.DIALECTS.resolve(name)) for name in hooks.DIALECTS.names()]
    yield from table(("name", "how a call is written"), ((f"`{name}`", summary(d)) for name, d in dialects))
    yield "\n## Credit recipes"
    yield "\nNames for `credit.recipe`, options for `[credit.options]`; biases and exact numbers: [credit](credit.md)."
    yield from table(("name", "options", "advantage"), (recipe(name) for name in hooks.RECIPES.names()))
    yield "\n## Settings of `agentgym train`"
    yield "\nAs TOML tables in a recipe, or as `key=value` behind the command."
    yield from settings(RunConfig)
    yield "\n## Settings of the judge `endpoint`"
    yield "\nUnder `[judge.options]` in a recipe, as `--judge-arg` of `agentgym eval`, as arguments of `judge_service`."
    yield from settings(JudgeModel)
    yield "\n## Settings of an endpoint"
    yield "\nArguments of the policy `http_chat`."
    yield from settings(EndpointConfig)


def component(name: str) -> Sequence[str]:
    """Return the row of a component."""
    given = hooks.COMPONENTS.resolve(name)
    try:
        made = given() if isinstance(given, type) else given
    except TypeError:  # it takes an argument: the class says the rest
        made = given
    needs = ", ".join(need.replace("|", " or ") for need in sorted(made.needs)) or "–"
    return (f"`{name}`", show(made.scope), show(made.supply), show(made.range), needs, summary(given), source(given))


def preset(name: str) -> Sequence[str]:
    """Return the row of a preset."""
    given = hooks.SUITES.resolve(name)
    bounds = build_suite(name).bounds()
    return (f"`{name}`", summary(given), show(bounds.failure), show(bounds.success), f"{bounds.margin:g}")


def source(thing: Any) -> str:
    """Return where a formula is from, as its docstring or its module's says; deviations stay there."""
    cls = thing if isinstance(thing, type) else type(thing)
    for doc in (inspect.getdoc(thing) or "", inspect.getdoc(inspect.getmodule(cls)) or ""):
        found = [part for part in doc.split("\n\n") if part.startswith("Source: ")]
        if found:
            text = found[0].replace("\n", " ").removeprefix("Source: ")
            return text.partition(" Deviation")[0].partition(". ")[0].rstrip(".")
    return "own"


def recipe(name: str) -> tuple[str, str, str]:
    """Return the row of a credit recipe."""
    factory = hooks.RECIPES.resolve(name)
    options = inspect.signature(factory).parameters.values()
    given = ", ".join(f"{o.name}={o.default!r}" for o in options if o.kind is inspect.Parameter.KEYWORD_ONLY)
    return f"`{name}`", f"`{given}`" if given else "", summary(factory).removeprefix("Return ")


def settings(cls: Any) -> Iterator[str]:
    """Yield the table of a settings dataclass."""
    rows = ((f"`{key.path}`", key.type, f"`{key.default}`", key.doc) for key in config.keys(cls))
    yield from table(("key", "type", "default", "meaning"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    yield f"\n| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', BAR) for cell in row)} |"


def summary(thing: Any) -> str:
    """Return the first sentence of a docstring."""
    doc = inspect.getdoc(thing) or ""
    return doc.split("\n\n")[0].replace("\n", " ")


def show(value: Any) -> str:
    """Return an attribute as a cell."""
    return f"{value[0]:g} to {value[1]:g}" if isinstance(value, tuple) else "by instance" if value is None else str(value)


def target(registry: Registry[Any], name: str) -> str:
    """Return where a registered thing is defined, without importing what it may need."""
    given = registry._targets[name]
    return given if isinstance(given, str) else f"{given.__module__}:{given.__qualname__}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
