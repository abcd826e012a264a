"""A root host: the same sandboxes as an ordinary user, in a process of the user nobody."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentgym.sandbox import interpreter

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534

PROGRAM = """
import json, os, sys
from agentgym.sandbox import Limits, open_sandbox
from agentgym.sandbox.attacks import ATTACKS, KNOWN
from agentgym.sandbox.stage import Stage
assert os.getuid() == 65534
name = sys.argv[1]
sandbox = open_sandbox(name, Limits(wall_s=10.0, cpu_s=5.0, processes=16, disk_mb=16, file_mb=8), workers=1)
with sandbox.open() as session:
    session.run("x = 1")
    with session.fork() as twin:
        state = [session.run("x += 1\\nx").value, twin.run("x").value, session.shell("echo ok").stdout]
got = {}
with Stage(sandbox.host_uid) as stage:
    for attack in ATTACKS:
        if not attack.tags:
            got[attack.name] = stage.run(sandbox, attack)
counts = sandbox.metrics()
sandbox.close()
wrong = {a: g for a, g in got.items() if bool(g) != ((name, a) in KNOWN)}
print(json.dumps({"state": state, "wrong": wrong, "attacks": len(got), "counts": counts}))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become nobody; every other test ran as an ordinary user")
@pytest.mark.parametrize("name", ["bubblewrap", "process"])
def test_as_an_ordinary_user(name: str) -> None:
    python = interpreter.find(everybody=True).path
    version = subprocess.run([python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=True)
    if version.stdout.strip() != str(sys.version_info[:2]):
        pytest.skip("no Python of this version that nobody can run")
    numpy = importlib.util.find_spec("numpy")
    assert numpy is not None
    assert numpy.origin
    packages = Path(numpy.origin).parents[1]
    environment = {
        "PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [python, "-c", PROGRAM, name], cwd="/", env=environment, capture_output=True, text=True, timeout=300, check=False,
        user=NOBODY, group=NOBODY, extra_groups=[],
    )  # fmt: skip
    if "PermissionError" in done.stderr and str(ROOT) in done.stderr:
        pytest.skip("the checkout is not readable for nobody")
    if "SandboxUnavailableError" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["state"] == ["2", "1", "ok\n"]
    assert found["wrong"] == {}
    assert found["attacks"] >= 40
    assert [found["counts"][f"leaked_{what}"] for what in ("processes", "files", "descriptors")] == [0, 0, 0]
