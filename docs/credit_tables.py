"""Writes the tables of docs/credit.md: `make docs-tables`; with --check it only compares (`make check`).

Every number is an exact expectation: all groups that can occur are enumerated with their probabilities, no sampling.
"""

import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the enumeration lies beside the tests

from agentgym.credit import CreditConfig, Scales, recipe_of  # noqa: E402
from agentgym.credit.forecast import forecast  # noqa: E402
from agentgym.hooks import RECIPES  # noqa: E402
from tests import mdps  # noqa: E402
from tests.mdps import enumerate_groups, gradient  # noqa: E402
from tests.support.credit_claims import CLAIMS, Claim, expectation  # noqa: E402
from tests.unit.credit.test_forecast import CASES, gain, sample  # noqa: E402

OUT = Path(__file__).parent / "credit.md"
SIZE = 4


def main(arguments: Sequence[str]) -> int:
    """Write the tables into the page, or compare them."""
    logging.disable(logging.WARNING)
    old = OUT.read_text(encoding="utf-8")
    new = old
    for name, lines in (("recipes", recipes()), ("exact", exact()), ("choices", choices()), ("forecasts", forecasts())):
        block = f"<!-- {name}: written by `make docs-tables` -->\n" + "\n".join(lines) + f"\n<!-- end of {name} -->"
        new, n = re.subn(rf"<!-- {name}: .*?<!-- end of {name} -->", lambda _, b=block: b, new, flags=re.DOTALL)
        if n != 1:
            print(f"docs/credit.md: the markers of table {name!r} are missing", file=sys.stderr)
            return 1
    if "--check" not in arguments:
        OUT.write_text(new, encoding="utf-8")
    elif new != old:
        print("docs/credit.md is stale: run `make docs-tables`", file=sys.stderr)
        return 1
    return 0


def recipes() -> Iterator[str]:
    """Yield the table of recipes, sources and evidence."""
    rows = []
    for name in RECIPES.names():
        doc = " ".join((RECIPES.resolve(name).__doc__ or "").split())
        parts = re.split(r"(?<=\. )(Source|Evidence|Deviation): ", doc)
        found = dict(zip(parts[1::2], (p.strip() for p in parts[2::2]), strict=True))
        rows.append((f"`{name}`", *(found.get(key, "") for key in ("Source", "Evidence", "Deviation"))))
    yield from table(("recipe", "source", "evidence", "deviation"), rows)


def exact() -> Iterator[str]:
    """Yield expectation / gradient of the objective for each recipe, on problems B and C."""
    rows = []
    for claim in CLAIMS:
        row = [f"`{claim.label}`", claim.of, "exact" if claim.factor else "biased"]
        flips = 0
        for problem in (mdps.B, mdps.C):
            got, _ = expectation(claim, problem, SIZE)
            truth = gradient(problem, claim.value)
            row.append(ratios(got, truth))
            flips += int(((got * truth) < -1e-12).sum())
        row += [str(flips) if flips else "", direction(claim), f"{expectation(claim, mdps.C, SIZE)[1]:.2f}"]
        rows.append(row)
    head = ("recipe", "compared with the gradient of E of", "claim", "ratio, B", "ratio, C", "sign flips", "cosine, C")
    yield from table((*head, "relative sd, C"), rows)


def direction(claim: Claim) -> str:
    """Return the cosine between expectation and gradient on problem C."""
    got, truth = expectation(claim, mdps.C, SIZE)[0], gradient(mdps.C, claim.value)
    return f"{float(got @ truth / np.linalg.norm(got) / np.linalg.norm(truth)):.4f}"


def ratios(got: np.ndarray, truth: np.ndarray) -> str:
    """Return one ratio per decision; where the gradient is 0 the expectation itself, marked by =."""
    cells = []
    for g, t in zip(got, truth, strict=True):
        cells.append(f"={clean(g)}" if abs(t) < 1e-12 else clean(g / t))
    return ", ".join(cells)


def clean(value: float) -> str:
    """Return three decimals, without a negative zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def choices() -> Iterator[str]:
    """Yield what a choice outside the recipe does to the expectation of turn_grpo without scales."""
    config = CreditConfig(turn_weight=1.0, scale="none")
    recipe = recipe_of(config)

    def run(groups: mdps.Enumeration, weights: np.ndarray | None = None) -> np.ndarray:
        return groups.expectation(recipe.run(groups.arrays, Scales()), weights)

    def vector(values: Iterable[float]) -> str:
        return ", ".join(f"{round(v, 4) + 0.0:+.4f}" for v in values)

    truth = gradient(mdps.T, mdps.total)
    masks = (
        ("cut episodes kept in statistics and loss", True, True),
        ("cut episodes out of the loss", True, False),
        ("cut episodes out of both", False, False),
    )
    rows = [("turn limit", "the gradient", vector(truth))]
    for words, statistics, loss in masks:
        groups = enumerate_groups(mdps.T, 8, cut_in_statistics=statistics, cut_in_loss=loss)
        rows.append(("turn limit", words, vector(run(groups))))
    groups = enumerate_groups(mdps.FLIP, 8)
    mean_length = groups.tokens.reshape(-1, 8).mean(1).repeat(8)
    rows += [
        ("long success", "the gradient", vector(gradient(mdps.FLIP, mdps.total))),
        ("long success", "constant denominator", vector(run(groups))),
        ("long success", "mean over each sequence, times 18", vector(18 * run(groups, 1 / groups.tokens))),
        ("long success", "mean over the tokens of the group, times 18", vector(18 * run(groups, 1 / mean_length))),
    ]
    rows.append(("late pay", "the gradient", vector(gradient(mdps.EARLY, mdps.total))))
    for gamma in (1.0, 0.9, 0.6, 0.5):
        one = recipe_of(CreditConfig(turn_weight=1.0, scale="none", gamma=gamma))
        groups = enumerate_groups(mdps.EARLY, SIZE)
        rows.append(("late pay", f"gamma = {gamma:g}", vector(groups.expectation(one.run(groups.arrays, Scales())))))
    rows.append(("noisy verifier", "the gradient of E[true outcome], B", vector(gradient(mdps.B, mdps.outcome))))
    groups = enumerate_groups(mdps.noisy(mdps.B, 0.1, 0.3), SIZE)
    rates = {"rho0": 0.1, "rho1": 0.3}
    for name, options in (("rloo", {}), ("noisy_backward", rates), ("noisy_forward", rates), ("grpo", {}), ("noisy_backward", rates | {"std": True})):  # fmt: skip
        one = recipe_of(CreditConfig(recipe=name, options=options))
        words = f"`{name}`{' with std' if 'std' in options else ''}"
        rows.append(("noisy verifier", words, vector(groups.expectation(one.run(groups.arrays, Scales())))))
    yield from table(("problem", "choice", "expectation per decision"), rows)


def forecasts() -> Iterator[str]:
    """Yield what the criterion says about problems on which the truth is known, and that truth."""
    rows = []
    for problem, p, _ in CASES:
        found = forecast(sample(problem, p))
        alignment = "" if found.alignment is None else f"{found.alignment:+.2f}"
        shares = (f"{x:.0%}" for x in (found.silent, found.rescued))
        name = f"{problem.name}, p = {', '.join(f'{x:g}' for x in p)}"
        rows.append((name, f"{found.horizon:.1f}", *shares, f"{found.locality:.2f}", alignment, found.verdict, f"{gain(problem, p):.2f}"))
    head = ("problem and start", "turns", "silent", "rescued", "locality", "alignment", "verdict", "ascent, turn / outcome only")
    yield from table(head, rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
