"""`agentgym train`: one run from a recipe, printed as it goes, with a report at the end."""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from agentgym.cli.options import check_env_id, existing_path, make_policy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("items", nargs="*", metavar="RECIPE | KEY=VALUE", help="TOML file, settings like train.lr=5e-4")
    parser.add_argument("--out", type=Path, help="run folder; a stopped run resumes there (default runs/NAME)")
    parser.add_argument("--seed", type=int, help="shorthand for seed=N")
    parser.add_argument("--print-config", action="store_true", help="print the resolved recipe and exit")


def run(args: argparse.Namespace) -> int:
    """Train, print a line a step, write the report."""
    from agentgym.errors import ConfigError, MissingExtraError

    overrides = [item for item in args.items if "=" in item]
    recipes = [item for item in args.items if "=" not in item]
    if len(recipes) > 1:
        raise ConfigError(f"train takes one recipe, got {len(recipes)}: {', '.join(recipes)}")
    recipe = existing_path(recipes[0]) if recipes else None
    if args.seed is not None:
        overrides.append(f"seed={args.seed}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from agentgym import config as configs

    try:
        from agentgym.learn.run import Run, RunConfig, use_threads
    except ModuleNotFoundError as error:
        raise MissingExtraError("agentgym train", str(error.name), "pip install 'agentic-gym[train]'") from error
    from agentgym.view import write_report

    config = configs.load(RunConfig, recipe, overrides)
    if args.print_config:
        sys.stdout.write(configs.dump(config))
        return 0
    check_env_id(config.env)
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("agentgym.learn").setLevel(logging.ERROR)  # its warnings are in the events
    use_threads(int(os.environ["OMP_NUM_THREADS"]))
    out = args.out or Path("runs") / f"{recipe.stem if recipe else 'search-tiny'}-seed{config.seed}"
    policy = make_policy(config.policy, [f"{k}={json.dumps(v)}" for k, v in {"seed": config.seed, **config.policy_args}.items()])
    run_ = Run(config, policy, make_policy(config.demonstrations.policy, []), out)
    printer = _Printer(args.json, args.quiet)
    try:
        for event in run_.events():
            printer.show(event)
    finally:
        report = write_report(out)
        sys.stderr.write(f"report: {report}\n")
    printer.close(out, report)
    return 0


class _Printer:
    """Prints the curve while the run goes on."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.started = time.monotonic()
        self.evaluations: list[dict[str, float]] = []

    def show(self, event: Any) -> None:
        if event.phase == "evaluation":
            self.evaluations.append({"step": event.step, **event.metrics})
            m = event.metrics
            bar = "█" * round(40 * m["eval/success"])
            self._line(
                f"held-out after {event.step:4d} steps: success {m['eval/success']:.3f} "
                f"[{m['eval/success_low']:.3f}, {m['eval/success_high']:.3f}] {bar}"
            )
        elif event.phase == "warmstart" and event.step % 50 == 49:
            self._line(f"warm start {event.step + 1:4d}: loss {event.metrics['sft/loss']:.3f}")
        elif event.phase == "train" and event.step % 10 == 0:
            m = event.metrics
            self._line(
                f"step {event.step:4d}: success {m['success']:.3f}  reward {m['reward']:+.3f}  turns {m['turns']:.2f}  "
                f"entropy {m.get('entropy', 0.0):.3f}"
            )
        for warning in event.warnings:
            self._line(f"warning: {warning}")

    def _line(self, text: str) -> None:
        if not self.quiet:
            sys.stderr.write(f"[{time.monotonic() - self.started:6.1f} s] {text}\n")
            sys.stderr.flush()

    def close(self, out: Path, report: Path) -> None:
        body = {"out": str(out), "report": str(report), "model": str(out / "model"), "evaluations": self.evaluations}
        if self.as_json:
            sys.stdout.write(json.dumps(body) + "\n")
        elif self.evaluations:
            first, last = self.evaluations[0]["eval/success"], self.evaluations[-1]["eval/success"]
            sys.stdout.write(f"held-out success {first:.3f} -> {last:.3f}; model in {out / 'model'}, report {report}\n")
