"""Checkpoints that are whole or not there: written beside their place, synced, then renamed.

A checkpoint is a folder `checkpoints/<phase>-<step>` of a run: `model/` as the policy saves it (for transformers
models a folder that `AutoModelForCausalLM.from_pretrained` loads), `optimizer.pt`, `state.json`, and last
`manifest.json` with the size and digest of every file. Random streams are keyed, so there is no generator state to keep.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError

from agentgym.errors import ConfigError, DataError
from agentgym.types import JSON

PHASES = ("warmstart", "train")
"""In the order in which a run goes through them."""

_NAME = re.compile(rf"({'|'.join(PHASES)})-(\d{{6,}})")


@runtime_checkable
class SavablePolicy(Protocol):
    """A policy whose weights can be kept; `load` restores exactly what `save` wrote, in place."""

    def save(self, directory: Path) -> Any:
        """Write the weights (and what is needed to load them) into a folder that exists."""
        ...

    def load(self, directory: Path) -> Any:
        """Read the weights back into the tensors that `parameters()` returns."""
        ...


def savable(policy: object) -> SavablePolicy:
    """Return the policy as one that can be kept; raises ConfigError if it has no `save` and `load`."""
    if not isinstance(policy, SavablePolicy):
        raise ConfigError(f"{type(policy).__name__} has no save(directory) and load(directory): it cannot be kept")
    return policy


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One whole checkpoint on disk."""

    path: Path
    phase: str
    step: int
    """Steps of its phase that were done when it was written."""

    @property
    def model(self) -> Path:
        """The folder with the model's weights."""
        return self.path / "model"

    def state(self) -> dict[str, JSON]:
        """Return the plain-data state."""
        return json.loads((self.path / "state.json").read_text(encoding="utf-8"))

    def restore(self, policy: SavablePolicy, optimizer: torch.optim.Optimizer) -> dict[str, JSON]:
        """Load weights and optimiser state in place and return the plain-data state.

        Raises:
            DataError: If the optimiser state does not fit the policy's parameters.
        """
        policy.load(self.model)
        path = self.path / "optimizer.pt"
        try:
            optimizer.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except (ValueError, RuntimeError, KeyError) as problem:
            raise DataError(
                f"{path}: the optimiser state does not fit this policy ({problem}); "
                "resume with the policy the run was started with"
            ) from problem
        return self.state()


class CheckpointStore:
    """Writes and finds the checkpoints of one run folder."""

    def __init__(self, run_dir: Path | str, keep: int = 3) -> None:
        """Use `run_dir/checkpoints`, keeping the last `keep` of each phase (0 keeps all)."""
        if keep < 0:
            raise ConfigError(f"keep_checkpoints = {keep}: must be 0 (keep all) or more")
        self.folder = Path(run_dir) / "checkpoints"
        self.keep = keep

    def save(
        self,
        phase: str,
        step: int,
        policy: SavablePolicy,
        optimizer: torch.optim.Optimizer,
        state: dict[str, JSON],
    ) -> Checkpoint:
        """Write one checkpoint; a kill at any moment leaves either all of it or nothing that `latest` accepts."""
        if phase not in PHASES:
            raise ConfigError(f"phase {phase!r}: allowed are {', '.join(PHASES)}")

        def write(folder: Path) -> None:
            (folder / "model").mkdir()
            policy.save(folder / "model")
            with (folder / "optimizer.pt").open("wb") as file:
                torch.save(optimizer.state_dict(), file)
            (folder / "state.json").write_text(json.dumps(state, allow_nan=False), encoding="utf-8")

        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{phase}-{step:06d}"
        try:
            write_folder(target, write)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
            raise DataError(
                f"{target}: the checkpoint cannot be written ({error}); make room, then the same command goes on from "
                "the last whole one"
            ) from error
        self._prune(phase, step)
        return Checkpoint(target, phase, step)

    def latest(self, phase: str = "") -> Checkpoint | None:
        """Return the most advanced whole checkpoint (of a phase): `latest(run_dir)` without the path."""
        return next((c for c in reversed(self.all()) if phase in ("", c.phase) and is_whole(c.path)), None)

    def all(self) -> list[Checkpoint]:
        """Return what looks like a checkpoint, by phase and step; contents unchecked."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match and path.is_dir():
                found.append(Checkpoint(path, match[1], int(match[2])))
        return sorted(found, key=lambda c: (PHASES.index(c.phase), c.step))

    def _prune(self, phase: str, step: int) -> None:
        for path in self.folder.glob(".*-*.partial"):
            shutil.rmtree(path, ignore_errors=True)
        mine = [c for c in self.all() if c.phase == phase]
        # Later ones were damaged when the run went back to an earlier one: they must not count as kept.
        ahead = [c for c in mine if c.step > step and not is_whole(c.path)]
        old = [c for c in mine if c not in ahead][: -self.keep] if self.keep else []
        for checkpoint in (*ahead, *old):
            shutil.rmtree(checkpoint.path, ignore_errors=True)


def latest(run_dir: Path | str) -> Checkpoint | None:
    """Return the most advanced whole checkpoint of a run, or None; half-written and damaged ones are passed over."""
    return CheckpointStore(run_dir).latest()


def is_whole(folder: Path) -> bool:
    """Whether the folder holds every file of its manifest with the size and digest recorded there."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return all(
            (folder / name).stat().st_size == entry["bytes"] and _digest(folder / name) == entry["blake2b"]
            for name, entry in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder through `write` under a temporary name, add its manifest, sync all of it, rename it to `target`."""
    partial = target.with_name(f".{target.name}-{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
        paths = sorted(p for p in partial.rglob("*") if p.is_file())
        files = {p.relative_to(partial).as_posix(): {"bytes": p.stat().st_size, "blake2b": _digest(p)} for p in paths}
        manifest = partial / "manifest.json"
        manifest.write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")
        for path in [*paths, manifest, *(p for p in partial.rglob("*") if p.is_dir()), partial]:
            _sync(path)
        if target.exists():  # a run that went back repeats this step: the old folder may be a damaged one
            shutil.rmtree(target)
        partial.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that the rename cannot become visible before its contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
