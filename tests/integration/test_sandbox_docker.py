"""With an engine: build the image, attack the containers, compare what runs with what was asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_engine import base_image, engine

from agentgym.sandbox import Limits, SandboxLostError
from agentgym.sandbox.attacks import ATTACKS, KNOWN, Attack
from agentgym.sandbox.bubblewrap import find_bwrap
from agentgym.sandbox.docker import LABEL, DockerSandbox
from agentgym.sandbox.stage import Stage

pytestmark = [pytest.mark.docker, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
IMAGE = "agentgym-sandbox:test"
LIMITS = Limits(wall_s=20.0, cpu_s=5.0, memory_mb=256, processes=32, disk_mb=32, file_mb=16)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("docker.errors")
    starting = engine()
    try:
        found = starting.__enter__()
    except LookupError as error:
        pytest.skip(str(error))
    yield found
    starting.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    import docker

    made = docker.DockerClient(base_url=address)
    text = (ROOT / "docker" / "sandbox.Dockerfile").read_text("utf-8")
    wanted = next(line.partition("=")[2] for line in text.splitlines() if line.startswith("ARG BASE_IMAGE="))
    base = base_image(made, wanted)
    made.images.build(
        path=str(ROOT / "docker"), dockerfile="sandbox.Dockerfile", buildargs={"BASE_IMAGE": base}, tag=IMAGE,
        network_mode="none", rm=True,
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture(scope="module")
def staged(client: Any, address: str) -> Iterator[tuple[Stage, DockerSandbox]]:
    sandbox = DockerSandbox(LIMITS, image=IMAGE, base_url=address, workers=1, spares=0)
    found = sandbox.available()
    assert found.available, found.reason
    with Stage(sandbox.host_uid) as stage:
        yield stage, sandbox
    sandbox.close()
    assert client.containers.list(all=True, filters={"label": LABEL}) == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(staged: tuple[Stage, DockerSandbox], attack: Attack) -> None:
    stage, sandbox = staged
    assert bool(stage.run(sandbox, attack)) == (("docker", attack.name) in KNOWN)


def test_session_keeps_state_and_forks(staged: tuple[Stage, DockerSandbox]) -> None:
    _, sandbox = staged
    with sandbox.open(files={"a/b": "1"}) as session:
        session.run("x = [open('a/b').read()]")
        with session.fork() as twin:
            twin.run("x.append(2)")
            assert (session.run("x").value, twin.run("x").value) == ("['1']", "['1', 2]")
        assert session.shell("cat a/b").stdout == "1"


def test_engine_was_asked_for_no_more(staged: tuple[Stage, DockerSandbox], client: Any) -> None:
    _, sandbox = staged
    with sandbox.open():
        for container in client.containers.list(filters={"label": LABEL}):
            host = container.attrs["HostConfig"]
            assert (host["NetworkMode"], host["Privileged"], host["ReadonlyRootfs"]) == ("none", False, True)
            assert host["CapDrop"] == ["ALL"]
            assert not host["CapAdd"]
            assert container.attrs["Config"]["User"].partition(":")[0] != "0"
            assert [mount["RW"] for mount in container.attrs["Mounts"] if mount["Type"] == "bind"] == [False]


def test_a_container_that_is_gone_is_the_services_fault(staged: tuple[Stage, DockerSandbox], client: Any) -> None:
    _, sandbox = staged
    before = {c.id for c in client.containers.list(filters={"label": LABEL})}
    session = sandbox.open()
    (ours,) = [c for c in client.containers.list(filters={"label": LABEL}) if c.id not in before]
    ours.remove(force=True)
    with pytest.raises(SandboxLostError):
        session.run("1")
    session.close()
    with sandbox.open() as fresh:
        assert fresh.run("1 + 1").value == "2"


def test_containers_of_a_dead_host_are_removed(client: Any, address: str) -> None:
    left = client.containers.create(IMAGE, ["/bin/sleep", "600"], labels={LABEL: "4194303-5-nothing"}, network_mode="none")
    later = DockerSandbox(LIMITS, image=IMAGE, base_url=address)
    later.engine()
    later.close()
    assert left.id not in {c.id for c in client.containers.list(all=True)}


def test_options_of_the_trainer_let_bubblewrap_work(client: Any) -> None:
    yaml = pytest.importorskip("yaml")
    options = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))["services"]["trainer"]["security_opt"]
    program = Path(find_bwrap(everybody=True))
    top = program.parents[2] if program.parent.name == "_bin" else program.parent
    inside = f"/bwrap/{program.relative_to(top)}"
    command = [inside, "--unshare-all", "--as-pid-1", "--ro-bind", "/usr", "/usr", "--ro-bind", "/lib", "/lib", "--ro-bind-try", "/lib64",
               "/lib64", "--proc", "/proc", "--dev", "/dev", "/usr/local/bin/python3", "-c", "import os; print(os.getpid())"]  # fmt: skip

    def run(security: list[str]) -> tuple[int, str]:
        host = client.api.create_host_config(
            network_mode="none", cap_drop=["ALL"], security_opt=[o for o in security if not o.startswith("systempaths")],
            binds={str(top): {"bind": "/bwrap", "mode": "ro"}},
        )  # fmt: skip
        if "systempaths=unconfined" in security:  # the engine's own names for it; compose translates
            host |= {"MaskedPaths": [], "ReadonlyPaths": []}
        made = client.api.create_container(IMAGE, command, user="61006:61006", host_config=host)
        try:
            client.api.start(made)
            code = client.api.wait(made)["StatusCode"]
            return code, client.api.logs(made).decode()
        finally:
            client.api.remove_container(made, force=True)

    assert run(options) == (0, "1\n")
    assert run(["no-new-privileges"])[0] != 0
