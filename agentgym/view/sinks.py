"""Sinks: other people's dashboards, fed with the events of a run beside its own files.

    [recipe] log_to = ["tensorboard", "wandb", "trackio"]

A sink gets numbers only: metrics per phase (train, eval, warmstart) and step, and the recipe. metrics.jsonl stays the
record; a sink that fails is dropped with a warning and never ends a run. Nothing needs a network: tensorboard and
trackio write files, wandb writes offline unless WANDB_MODE says otherwise (`wandb sync` uploads later).
"""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from agentgym import hooks
from agentgym.errors import AgentGymError, MissingExtraError
from agentgym.types import JSON

PROJECT = "agentgym"
"""Project of wandb and trackio; WANDB_PROJECT and TRACKIO_PROJECT name another."""
PHASES = {"train": "train", "evaluation": "eval", "warmstart": "warmstart"}
"""Phases that have metrics, and what a sink calls them."""
INSTALL = "pip install 'agentic-gym[sinks]'"


class Sink(Protocol):
    """Takes the numbers of one run."""

    def write(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Take one event's metrics; `phase` is train, eval or warmstart, `step` counts within it."""
        ...

    def resumed(self, phase: str, step: int) -> None:
        """Expect that `phase` goes on from `step`: what was written from there on comes again."""
        ...

    def close(self) -> None:
        """Finish the files."""
        ...


class Sinks:
    """The sinks of one run: each event goes to all of them."""

    def __init__(self, names: Sequence[str], out: Path, recipe: Mapping[str, JSON], warn: Callable[[str], None]) -> None:
        """Open them.

        Args:
            names: Registered sinks.
            out: The run folder; its name is the run's.
            recipe: The resolved recipe as JSON.
            warn: Told once about a sink that failed later on.

        Raises:
            NotRegisteredError: For an unknown name.
            MissingExtraError: A sink's package is not installed.
        """
        factories = {name: hooks.SINKS.resolve(name) for name in dict.fromkeys(names)}
        self._warn = warn
        self._open: dict[str, Sink] = {}
        for name, factory in factories.items():
            try:
                self._open[name] = factory(out, recipe)
            except AgentGymError:
                raise
            except Exception as error:  # noqa: BLE001 (as in _each)
                warn(f"sink {name} could not be opened and gets nothing: {type(error).__name__}: {error}")

    def event(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Hand on one event of a run; events without metrics of their own are passed over."""
        if phase == "resumed":
            name = "train" if metrics.get("in_training") else "warmstart"
            self._each(lambda sink: sink.resumed(name, step))
        elif phase in PHASES:
            name = PHASES[phase]
            plain = {_bare(key, name): value for key, value in metrics.items()}
            self._each(lambda sink: sink.write(name, step, plain))

    def close(self) -> None:
        """Close all of them."""
        self._each(lambda sink: sink.close())
        self._open = {}

    def _each(self, act: Callable[[Sink], None]) -> None:
        for name, sink in list(self._open.items()):
            try:
                act(sink)
            except Exception as error:  # noqa: BLE001 (a dashboard's fault must not end a run)
                del self._open[name]
                self._warn(f"sink {name} failed and gets nothing more: {type(error).__name__}: {error}")


def _bare(name: str, phase: str) -> str:
    """Return a metric's name without the prefix that its phase says already."""
    return name.removeprefix({"eval": "eval/", "warmstart": "sft/"}.get(phase, "train/"))


class TensorboardSink:
    """Event files in `tensorboard/<phase>` of the run folder; one run of the dashboard per phase, so that they overlay."""

    def __init__(self, out: Path, recipe: Mapping[str, JSON]) -> None:
        """Import the package; files are made when there is something to write. Raises MissingExtraError."""
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise MissingExtraError('log_to = ["tensorboard"]', "tensorboard", INSTALL) from error
        self._protocol: tuple[Any, Any] = (event_pb2, summary_pb2)
        self._make = EventFileWriter
        self._folder = out / "tensorboard"
        self._writers: dict[str, Any] = {}

    def write(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Add one scalar per metric."""
        event_pb2, summary_pb2 = self._protocol
        values = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        summary = summary_pb2.Summary(value=values)
        self._writer(phase).add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def resumed(self, phase: str, step: int) -> None:
        """Tell the dashboard to forget what lies after the checkpoint."""
        event_pb2, _ = self._protocol
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        for name, first in ((phase, step), *((("eval", step + 1),) if phase == "train" else ())):
            self._writer(name).add_event(event_pb2.Event(wall_time=time.time(), step=first, session_log=log))

    def close(self) -> None:
        """Write what is left."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, phase: str) -> Any:
        if phase not in self._writers:
            self._writers[phase] = self._make(str(self._folder / phase), flush_secs=10)
        return self._writers[phase]


class WandbSink:
    """A run of Weights & Biases with the folder's name, offline unless WANDB_MODE is set."""

    def __init__(self, out: Path, recipe: Mapping[str, JSON]) -> None:
        """Begin the run, or go on with it under the same id. Raises MissingExtraError."""
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError('log_to = ["wandb"]', "wandb", INSTALL) from error
        again: dict[str, Any] = {"resume": "allow"} if _wandb_mode() == "online" else {}  # offline runs cannot be resumed
        settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True)
        with _off_stdout():
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=out.resolve().name,
                id=_id_of(out / "wandb" / "id.txt"),
                dir=str(out),
                config=dict(recipe),
                mode=_wandb_mode(),
                settings=settings,
                **again,
            )
        for phase in PHASES.values():
            self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")

    def write(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics as phase/name, against phase/step."""
        self._run.log({f"{phase}/{name}": value for name, value in metrics.items()} | {f"{phase}/step": step})

    def resumed(self, phase: str, step: int) -> None:
        """Nothing: repeated steps have the same phase/step and come out on the same place."""

    def close(self) -> None:
        """End the run."""
        with _off_stdout():
            self._run.finish()


class TrackioSink:
    """A run of trackio with the folder's name, in trackio's own local database (`trackio show`)."""

    def __init__(self, out: Path, recipe: Mapping[str, JSON]) -> None:
        """Begin the run, or go on with it. Raises MissingExtraError."""
        try:
            import trackio
        except ImportError as error:
            raise MissingExtraError('log_to = ["trackio"]', "trackio", INSTALL) from error
        self._finish = trackio.finish  # ends the package's own idea of a current run too
        with _off_stdout():
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=out.resolve().name,
                config=dict(recipe),
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def write(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics as phase/name, against phase/step."""
        self._run.log({f"{phase}/{name}": value for name, value in metrics.items()} | {f"{phase}/step": step})

    def resumed(self, phase: str, step: int) -> None:
        """Nothing: repeated steps have the same phase/step."""

    def close(self) -> None:
        """End the run, when the database has everything."""
        with _off_stdout():
            self._finish()


def _wandb_mode() -> Any:
    return os.environ.get("WANDB_MODE", "offline")


def _id_of(path: Path) -> str:
    """Return the id kept in a file, drawing one if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex[:12] + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


@contextlib.contextmanager
def _off_stdout() -> Iterator[None]:
    """Send what a package prints to stderr: stdout belongs to the command's own result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
