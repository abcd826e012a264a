"""Time of every credit recipe on one batch: `python benchmarks/credit_speed.py [--trajectories 4096] [--turns 16]`.

Prints one line per recipe: median and greatest CPU milliseconds of `Recipe.run` over some repeats, one thread.
"""

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from agentgym.credit import RECIPES, CreditArrays, CreditConfig, Scales, recipe_of
from agentgym.credit.scales import SCALE_NAMES
from agentgym.seeding import stream

FORMS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "turn_grpo": ({}, {"among": "alive"}, *({"scale": scale} for scale in SCALE_NAMES[1:])),
    "igpo": ({"form": "joint"}, {"form": "separate"}, {"curriculum": True}),
    "c_grpo": ({"form": "paper"}, {"form": "released"}),
    "cm2": ({"form": "trajectory"}, {"form": "turn"}, {"form": "step"}),
    "gigpo": ({"over": "trajectories"}, {"over": "rows"}, {"form": "mean_std"}, {"baseline": "loo"}),
}
"""Options (and the setting `scale`) under which a recipe is timed; {} for the others."""


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a recipe is slower than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=4096)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--turns", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--limit-ms", type=float, default=20.0, help="0: no limit")
    args = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    arrays = batch(args.trajectories, args.group_size, args.turns)
    slow = []
    for name in RECIPES.names():
        for options in FORMS.get(name, ({},)):
            own = {k: v for k, v in options.items() if k != "scale"}
            config = CreditConfig(recipe=name, options=own, scale=options.get("scale", "running"))
            median, worst = measure(config, arrays, args.repeats)
            label = f"{name} {', '.join(f'{k}={v}' for k, v in options.items())}".strip()
            print(f"{label:40s} median {median:6.2f} ms   worst {worst:6.2f} ms")
            if args.limit_ms and median > args.limit_ms:
                slow.append(label)
    print(f"numpy {np.__version__}, {args.trajectories} trajectories, up to {args.turns} turns, groups of {args.group_size}")
    if slow:
        print(f"slower than {args.limit_ms:g} ms: {', '.join(slow)}", file=sys.stderr)
    return int(bool(slow))


def batch(n: int, group_size: int, n_turns: int) -> CreditArrays:
    """Return a ragged batch with everything that any recipe reads."""
    rng = stream("credit-speed", 0)
    mask = np.arange(n_turns) < rng.integers(1, n_turns + 1, n)[:, None]
    shape = mask.shape
    items = rng.random((*shape, 4)) < 0.3
    extras = {
        "state": rng.integers(0, 997, shape),
        "entropy": rng.random(shape),
        **{name: rng.random(shape) for name in ("accuracy", "confidence", "log_ratio", "masked")},
        "potential": rng.random((n, n_turns + 1)),
        "mode_support": rng.random((n, n_turns + 1, 3)),
        "mode_reliability": rng.random((n, 3)),
        "continued_outcome": np.where(rng.random((n, n_turns + 1)) < 0.5, 0.3, np.nan),
        "continued_turns": rng.random((n, n_turns + 1)),
        "n_tokens": rng.integers(10, 4000, n),
        "mean_logprob": -rng.random(n),
        "channels": rng.random((n, 4)),
        "channel_weights": np.array([1.0, 0.5, 0.25, 2.0]),
        "items": items.astype(float),
        "eligible": rng.random((*shape, 4)) < 0.8,
        "item_weights": np.full(4, 0.25),
        **{f"score:{c}": rng.random(n) for c in ("entity_match", "citation_rubric", "atomic_thought", "self_aligned")},
    }
    return CreditArrays(
        turn_scores=np.where(mask, rng.normal(size=shape), 0.0),
        turn_mask=mask,
        outcome=(rng.random(n) < 0.4).astype(float),
        group=np.arange(n) // group_size,
        in_statistics=rng.random(n) < 0.95,
        in_loss=rng.random(n) < 0.95,
        extras=extras,
    )


def measure(config: CreditConfig, arrays: CreditArrays, repeats: int) -> tuple[float, float]:
    """Return the median and the greatest CPU time of a run, in milliseconds."""
    recipe, scales = recipe_of(config), Scales()
    recipe.run(arrays, scales)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        recipe.run(arrays, scales)
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times), max(times)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
