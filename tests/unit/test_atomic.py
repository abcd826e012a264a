"""Files that are whole or not there."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentgym.atomic import clear_abandoned, replacing, write_text
from agentgym.rollout.lock import locked


def test_a_failed_or_refused_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.json"
    write_text(path, "old ë\n")
    with contextlib.suppress(RuntimeError), replacing(path) as file:
        file.write("half")
        raise RuntimeError
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"a\.txt"):
        write_text(tmp_path / "file" / "a.txt", "x")
    assert path.read_text(encoding="utf-8") == "old ë\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_what_a_killed_writer_left_is_taken_away_and_a_live_writers_file_is_not(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from agentgym.atomic import replacing\n"
        "with replacing(Path(sys.argv[1]) / 'r.html') as f: f.write('half'); f.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list(tmp_path.glob(".r.html.*.tmp"))) == 1
    live = tmp_path / f".r.html.{os.getpid()}.tmp"
    live.touch()
    (tmp_path / ".mine.tmp").touch()
    with locked(tmp_path, "evaluating"):
        pass
    assert sorted(p.name for p in tmp_path.glob(".*.tmp")) == sorted([".mine.tmp", live.name])
    clear_abandoned(tmp_path / "nowhere")
