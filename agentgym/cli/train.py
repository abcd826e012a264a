"""`agentgym train`: one run from a recipe, printed as it goes, with a report at the end."""

import argparse
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentgym.cli.options import check_env_id, existing_path, make_policy

LINES = 20
"""Lines that the warm start and learning each get on a terminal or in a log, about."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("items", nargs="*", metavar="RECIPE | KEY=VALUE", help="TOML file, settings like train.lr=5e-4")
    parser.add_argument("--out", type=Path, help="run folder; a stopped run resumes there (default runs/NAME)")
    parser.add_argument("--seed", type=int, help="shorthand for seed=N")
    parser.add_argument("--print-config", action="store_true", help="print the resolved recipe and exit")


def run(args: argparse.Namespace) -> int:
    """Train, print a line now and then, write the report."""
    from agentgym.errors import MissingExtraError, TrainingStopped

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from agentgym import config as configs
    from agentgym import hooks, schema

    try:
        from agentgym.learn.run import Run, RunConfig, use_threads
    except ModuleNotFoundError as error:
        raise MissingExtraError("agentgym train", str(error.name), "pip install 'agentic-gym[train]'") from error

    recipe, overrides = _recipe_and_overrides(args.items)
    if args.seed is not None:
        overrides.append(f"seed={args.seed}")
    config = configs.load(RunConfig, recipe, overrides)
    if args.print_config:
        sys.stdout.write(json.dumps(schema.to_json(config, keep_defaults=True)) + "\n" if args.json else configs.dump(config, docs=True))
        return 0
    check_env_id(config.env)
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    for name in ("agentgym.learn", "huggingface_hub"):  # the first's warnings are in the events, the second's are retries
        logging.getLogger(name).setLevel(logging.ERROR)
    use_threads(int(os.environ["OMP_NUM_THREADS"]))
    out = args.out or Path("runs") / f"{recipe.stem if recipe else 'search-tiny'}-seed{config.seed}"
    for name in config.log_to:  # said before there is a run folder
        hooks.SINKS.resolve(name)
    policy = make_policy(config.policy, config.policy_args, config.seed)
    printer = _Printer(args.quiet, config)
    run_ = Run(config, policy, make_policy(config.demonstrations.policy, []), out)
    sinks = _sinks(config, out, printer)
    printer.line(f"{config.env}, policy {config.policy}, seed {config.seed}, in {out}")
    gc.freeze()  # what the imports left is not searched again at every collection
    try:
        for event in run_.events():
            printer.show(event)
            sinks.event(event.phase, event.step, event.metrics)
    except TrainingStopped as error:
        _close(args, out, printer, stopped=str(error))
        raise
    except KeyboardInterrupt:
        printer.line("interrupted; the same command goes on from the last checkpoint")
        printer.report(out)
        raise
    finally:
        gc.unfreeze()
        sinks.close()
        run_.close()
    _close(args, out, printer)
    return 0


def _sinks(config: Any, out: Path, printer: "_Printer") -> Any:
    from agentgym import schema
    from agentgym.view.sinks import Sinks

    return Sinks(config.log_to, out, schema.to_json(config, keep_defaults=True), lambda text: printer.line(f"warning: {text}"))


def _recipe_and_overrides(items: Sequence[str]) -> tuple[Path | None, list[str]]:
    from agentgym.errors import ConfigError

    overrides = [item for item in items if "=" in item and not Path(item).is_file()]
    recipes = [item for item in items if item not in overrides]
    if len(recipes) > 1:
        raise ConfigError(f"train takes one recipe, got {len(recipes)}: {', '.join(recipes)}")
    return existing_path(recipes[0]) if recipes else None, overrides


def _close(args: argparse.Namespace, out: Path, printer: "_Printer", stopped: str = "") -> None:
    """Write the report and print what came out, for people or as one document; `stopped` is a guard's verdict."""
    from agentgym.learn.folder import evaluations

    report, model = printer.report(out), None if stopped else str(out / "model")
    curve = evaluations(out)
    if args.json:
        body = {"out": str(out), "report": str(report) if report else None, "model": model, "evaluations": curve}
        sys.stdout.write(json.dumps(body | ({"stopped": stopped} if stopped else {})) + "\n")
    elif not stopped:
        first, last = (_shown_success(curve[place].get("eval/success")) for place in (0, -1))
        shown = f", report {report}" if report else ""
        sys.stdout.write(f"held-out success {first} -> {last}; model in {model}{shown}\n")


class _Printer:
    """Prints the curve while the run goes on."""

    def __init__(self, quiet: bool, config: Any) -> None:
        self.quiet, self.config = quiet, config
        self.started = time.monotonic()

    def show(self, event: Any) -> None:
        m, done = event.metrics, event.step + 1
        if event.phase == "resumed":
            self.line(f"resumed after {event.step} steps{'' if m['in_training'] else ' of the warm start'}")
        elif event.phase == "demonstrations":
            self.line(f"{m['episodes']:.0f} demonstrations by {self.config.demonstrations.policy}")
        elif event.phase == "warmstart" and _shown(done, self.config.sft.steps):
            self.line(f"warm start {_of(done, self.config.sft.steps)}  loss {m['sft/loss']:.3f}")
        elif event.phase == "train" and _shown(done, self.config.train.steps):
            self.line(
                f"step {_of(done, self.config.train.steps)}  success {m['success']:.3f}  reward {m['reward']:+.3f}  "
                f"turns {m['turns']:.2f}  entropy {m['entropy']:.3f}{_judged(m)}"
            )
        elif event.phase == "forecast":
            self.line(event.note)
        elif event.phase == "evaluation" and "eval/success" not in m:
            self.line(f"held-out after {event.step} steps: no episode could be scored{_judged(m)}")
        elif event.phase == "evaluation":
            success, low, high = (m[f"eval/success{end}"] for end in ("", "_low", "_high"))
            bar = f"{'█' * round(40 * success):·<40}"
            self.line(f"held-out after {event.step} steps: success {success:.3f} [{low:.3f}, {high:.3f}] {bar}{_judged(m)}")
        for warning in event.warnings:
            self.line(f"warning: {warning}")

    def report(self, out: Path) -> Path | None:
        """Write the report, which may fail without harm to the run."""
        from agentgym.errors import AgentGymError
        from agentgym.view import write_report

        if not (out / "metrics.jsonl").exists():
            return None
        try:
            report = write_report(out)
        except (AgentGymError, OSError) as error:
            sys.stderr.write(f"warning: the report could not be written: {error}\n")
            return None
        self.line(f"report: {report}")
        return report

    def line(self, text: str) -> None:
        if not self.quiet:
            sys.stderr.write(f"[{time.monotonic() - self.started:6.1f} s] {text}\n")
            sys.stderr.flush()


def _judged(metrics: Mapping[str, float]) -> str:
    """Return how often the judge gave no answer; empty where it always did."""
    n = metrics.get("judge/abstained", 0.0)
    return f"  judge abstained {n:.0f}/{metrics['judge/requests']:.0f}" if n else ""


def _shown_success(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _shown(done: int, total: int) -> bool:
    """Whether a step gets a line: the first, the last, and about LINES at round numbers in between."""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, total) if n * LINES >= total or n >= total)
    return done in (1, total) or done % every == 0


def _of(done: int, total: int) -> str:
    return f"{done:{len(str(total))}d}/{total}"
