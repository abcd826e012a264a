"""Attack x backend: everything that is not listed as known is held, everything known is really so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from unfenced import HARMLESS, Unfenced

from agentgym.sandbox import Limits, SandboxUnavailableError, open_sandbox
from agentgym.sandbox.attacks import ATTACKS, KNOWN, Attack
from agentgym.sandbox.bubblewrap import UID
from agentgym.sandbox.pool import WarmSandbox
from agentgym.sandbox.stage import Stage

LIMITS = Limits(wall_s=20.0, cpu_s=5.0, memory_mb=256, processes=32, disk_mb=32, file_mb=16)


@pytest.fixture(scope="module", params=["bubblewrap", "process"])
def staged(request: pytest.FixtureRequest) -> Iterator[tuple[Stage, WarmSandbox]]:
    try:
        sandbox = open_sandbox(request.param, LIMITS, workers=1, spares=0)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
    assert isinstance(sandbox, WarmSandbox)
    sandbox.uid = sandbox.host_uid
    with Stage(sandbox.host_uid) as stage:
        yield stage, sandbox
    sandbox.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(staged: tuple[Stage, WarmSandbox], attack: Attack) -> None:
    stage, sandbox = staged
    got = stage.run(sandbox, attack)
    if (sandbox.name, attack.name) in KNOWN:
        assert got, f"held now: take it out of KNOWN, and out of docs/threat_model.md ({KNOWN[sandbox.name, attack.name]})"
    else:
        assert not got, got


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.name in HARMLESS], ids=lambda attack: attack.name)
def test_attack_is_real(attack: Attack, tmp_path_factory: pytest.TempPathFactory) -> None:
    uid = UID if os.getuid() == 0 else None
    folder = Path("/var/tmp") if Path("/var/tmp").is_dir() else tmp_path_factory.mktemp("plain")
    own = folder / f"agentgym-plain-{os.getpid()}-{abs(hash(attack.name))}"
    own.mkdir()
    own.chmod(0o777)
    try:
        with Stage(uid) as stage:
            assert stage.run(Unfenced(uid, str(own)), attack), "a plain subprocess must let it through"
    finally:
        for left in own.iterdir():
            left.unlink()
        own.rmdir()


def test_memory_of_an_earlier_program_would_be_found(staged: tuple[Stage, WarmSandbox]) -> None:
    stage, sandbox = staged
    if sandbox.name == "process":
        pytest.skip("a program cannot read its own map of memory there")
    attack = next(attack for attack in ATTACKS if attack.name == "memory of others")
    with sandbox.open() as session:
        session.run(stage.fill(attack.before, LIMITS))
        assert "ESCAPED" in session.run(stage.fill(attack.program, LIMITS)).stdout


def test_table_in_the_docs_names_every_attack() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sandbox_table.md").read_text("utf-8")
    missing = [attack.name for attack in ATTACKS if f"| {attack.name} | {attack.about} |" not in page]
    assert not missing, "run `make sandbox-table`"
