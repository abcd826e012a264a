"""Turn credit against outcome credit over horizon, start, noise and group size; the plan is turn_credit_plan.md.

    python benchmarks/turn_credit.py                 # the first part of the plan, then the page; goes on where it stopped
    python benchmarks/turn_credit.py --cells 5       # at most five more cells
    python benchmarks/turn_credit.py --all           # the second part too: the whole grid, five seeds
    python benchmarks/turn_credit.py --report        # only write the page anew

Every cell is one learning run of about 40 CPU seconds; its result is appended to results/turn_credit.jsonl at once.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny_runs
import turn_credit_page
from tiny_runs import Cells, ClosedWorlds, Start, pool_of

from agentgym.credit import CreditConfig, Recipe
from agentgym.credit.arrays import CreditArrays
from agentgym.credit.blocks import Centre
from agentgym.credit.scales import Scales
from agentgym.learn.config import LearnConfig, TrainConfig
from agentgym.rollout import EnvPool

HERE = Path(__file__).resolve().parent
FIRST_WORLD = 40_000
HORIZONS: dict[int, tuple[str, ...]] = {2: ("2a", "2b", "2c"), 3: ("3a", "3b"), 4: ("3b", "4")}
BANDS = {"low": (0.0, 0.06), "mid": (0.15, 0.35)}
WARM_STEPS = tuple(range(60, 601, 60))
WARM_NOISES = (0.7, 0.5, 0.3)
EVALUATE_AT = (25, 50, 75, 100)
EPISODES = 64
"""Episodes a step."""
WEIGHT = 2.0
"""Weight of the turn scores in `plain` and `summed`."""
RECIPES: dict[str, dict[str, Any]] = {
    "turn": {"turn_weight": 1.0},
    "outcome": {"turn_weight": 0.0},
    "grpo": {"recipe": "grpo"},
    "plain": {"turn_weight": WEIGHT, "scale": "none"},
    "summed": {"recipe": "summed"},
    "turn2": {"turn_weight": WEIGHT},
    "one": {"turn_weight": 1.0, "scale": "none"},
    "shared": {"turn_weight": WEIGHT, "scale": "shared"},
    "loo": {"turn_weight": 1.0, "scale": "loo"},
    "igpo": {"recipe": "igpo"},
    "gigpo": {"recipe": "gigpo"},
    "matchtir": {"recipe": "matchtir"},
}
BLIND = ("outcome", "grpo")
"""Recipes that read no turn score: noise on it changes nothing."""


@dataclass(frozen=True, slots=True)
class WeighedSum:
    """The turn scores become a part of the outcome, weighed."""

    weight: float

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the new outcome."""
        return arrays.but(outcome=arrays.outcome + self.weight * arrays.turn_scores.sum(1))

    def describe(self) -> str:
        """Say so."""
        return f"outcome := outcome + {self.weight:g} * sum of the turn scores"


def summed(weight: float = WEIGHT) -> Recipe:
    """Return the control: outcome and weighed turn scores as one number per episode."""
    steps, blocks = (WeighedSum(weight),), (Centre("trajectory", "loo"),)
    return Recipe("summed", ("trajectory",), blocks, f"the gradient of E[outcome] + {weight:g} E[sum of turn scores].", steps)


@dataclass(frozen=True, slots=True)
class Condition:
    """What all recipes of a comparison share."""

    horizon: int
    start: str
    noise: float
    group: int

    @property
    def name(self) -> str:
        """As it stands in ids."""
        return f"h{self.horizon}-{self.start}-n{self.noise:g}-g{self.group}"


FIRST = (
    (Condition(4, "low", 0.0, 8), ("turn", "outcome", "grpo", "plain", "summed")),
    (Condition(2, "mid", 0.0, 8), ("turn", "outcome", "plain", "summed")),
    (Condition(4, "low", 0.4, 8), ("turn",)),
    (Condition(4, "mid", 0.0, 8), ("turn", "outcome")),
    (Condition(4, "low", 0.0, 4), ("turn", "outcome")),
    (Condition(4, "low", 0.0, 16), ("turn", "outcome")),
    (Condition(4, "low", 0.2, 8), ("turn",)),
    (Condition(2, "low", 0.0, 8), ("turn", "outcome")),
)
"""The first part of the plan, in its order."""
SCALES = (
    (Condition(4, "low", 0.0, 8), ("turn2", "one", "shared")),
    (Condition(2, "mid", 0.0, 8), ("turn2", "one", "shared")),
)
"""The addition to the plan: weight or scale?"""
ADDED = tuple(dict.fromkeys(recipe for _, recipes in SCALES for recipe in recipes))


def planned(everything: bool, scales: bool = False) -> Iterator[tuple[Condition, str, int]]:
    """Yield condition, recipe and seed of every cell, in the plan's order."""
    for condition, recipes in (*FIRST, *(SCALES if scales else ())):
        for seed, recipe in itertools.product(range(3), recipes):
            yield condition, recipe, seed
    if not everything:
        return
    grid = itertools.product(range(5), (0.0, 0.4, 0.2), (8, 4, 16), ("low", "mid"), (4, 2, 3), (r for r in RECIPES if r not in ADDED))
    for seed, noise, group, start, horizon, recipe in grid:
        if not (noise and recipe in BLIND):
            yield Condition(horizon, start, noise, group), recipe, seed


def cell_id(condition: Condition, recipe: str, seed: int) -> str:
    """Return the id of a cell."""
    return f"{condition.name}-{recipe}-s{seed}"


class Laboratory:
    """Worlds and warm starts, made when first needed and kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pools: dict[int, EnvPool] = {}

    def pool(self, horizon: int) -> EnvPool:
        """Return the environments of a horizon."""
        if horizon not in self._pools:
            self._pools[horizon] = pool_of(ClosedWorlds(HORIZONS[horizon], FIRST_WORLD))
        return self._pools[horizon]

    def start(self, horizon: int, band: str) -> dict[str, Any]:
        """Return the warm start of a band: by its success alone, and before any cell.

        The first in the band for "mid". For "low" the last one in it: the first would be one that cannot even write a
        search, from which nothing can be learned either way.

        Raises:
            SystemExit: No warm start lies in the band.
        """
        low, high = BANDS[band]
        for noise in WARM_NOISES:
            folder = self.folder / f"h{horizon}-noise{noise:g}"
            rows = tiny_runs.warm_starts(folder, self.pool(horizon), noise, WARM_STEPS)
            inside = [row for row in rows if low <= row["success"] <= high]
            if inside:
                return inside[-1 if band == "low" else 0]
        raise SystemExit(f"horizon {horizon}: no warm start with success in [{low}, {high}]")

    def run(self, condition: Condition, recipe: str, seed: int) -> dict[str, Any]:
        """Learn, and return the cell."""
        start = self.start(condition.horizon, condition.start)
        train = TrainConfig(
            steps=max(EVALUATE_AT), schedule="constant", n_prompts=EPISODES // condition.group, group_size=condition.group
        )
        config = LearnConfig(seed=seed, train=train, credit=CreditConfig(**RECIPES[recipe]))
        noisy = tiny_runs.tell_wrongly(condition.noise, seed) if condition.noise else None
        found = tiny_runs.learn(
            self.pool(condition.horizon), Start(Path(start["path"]), start["c"]), config, EVALUATE_AT, complete=noisy
        )
        facts = {"horizon": condition.horizon, "start": condition.start, "noise": condition.noise, "group": condition.group}
        origin = {"success": start["success"], "steps": start["steps"], "noise": start["noise"]}
        return {"id": cell_id(condition, recipe, seed), **facts, "recipe": recipe, "seed": seed, "warm": origin, **found}


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="the second part of the plan too")
    parser.add_argument("--scales", action="store_true", help="the addition to the plan too: weight or scale?")
    parser.add_argument("--cells", type=int, default=0, help="at most so many cells now; 0: all that are missing")
    parser.add_argument("--report", action="store_true", help="run nothing, write the page")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs" / "turn_credit", help="where warm starts are kept")
    args = parser.parse_args(arguments)
    tiny_runs.register_recipe("summed", lambda config: summed())
    cells, laboratory = Cells(args.results / "turn_credit.jsonl"), Laboratory(args.runs)
    missing = [c for c in dict.fromkeys(planned(args.all, args.scales)) if cell_id(*c) not in cells.rows]
    for condition, recipe, seed in () if args.report else missing[: args.cells or None]:
        row = laboratory.run(condition, recipe, seed)
        cells.add(row)
        shown = " ".join(f"{e['success']:.3f}" for e in row["evaluations"])
        print(f"{row['id']:32s} {row['warm']['success']:.3f} -> {shown}  {row['cpu_s']:.0f} CPU-s {row['stopped']}", flush=True)
    turn_credit_page.write(cells, [cell_id(*c) for c in dict.fromkeys(planned(False))], args.results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
