"""What can be known about containers without an engine: the options, the refusals, the files in docker/."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentgym.errors import MissingExtraError
from agentgym.sandbox import Limits, SandboxUnavailableError
from agentgym.sandbox.docker import BUILD, IMAGE, UID, DockerSandbox, _remove, container_options

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"


def test_options_of_a_container_are_these(golden: Callable[[str, str], None]) -> None:
    options = container_options("sha256:0", "/FOLDER", Limits(), "/usr/local/bin/python3", "runsc", 1.5)
    options["labels"] = dict.fromkeys(options["labels"], "OWNER")
    options["command"][-1] = "SOURCE"
    golden("sandbox/container_options.json", json.dumps(options, indent=1, sort_keys=True) + "\n")


def test_no_option_opens_the_container() -> None:
    options = container_options("sha256:0", "/FOLDER", Limits(), "/usr/local/bin/python3")
    assert options["network_mode"] == "none"
    assert options["read_only"] is True
    assert options["privileged"] is False
    assert options["cap_drop"] == ["ALL"]
    assert "cap_add" not in options
    assert "devices" not in options
    assert options["user"] == f"{UID}:{UID}"
    assert options["mem_limit"] == options["memswap_limit"]
    assert all(volume["mode"] == "ro" for volume in options["volumes"].values())
    assert not any("sock" in str(path) for path in options["volumes"])
    assert {"pid_mode", "userns_mode", "cgroup_parent"}.isdisjoint(options)


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker.errors", None)
    with pytest.raises(MissingExtraError, match=r"agentic-gym\[docker\]"):
        DockerSandbox()


def test_without_an_engine_it_says_so(tmp_path: Path) -> None:
    pytest.importorskip("docker.errors")  # "docker" alone may be the folder of this repository
    sandbox = DockerSandbox(base_url=f"unix://{tmp_path}/none.sock")
    found = sandbox.available()
    assert not found.available
    assert "no Docker engine answers" in found.reason
    with pytest.raises(SandboxUnavailableError, match="no Docker engine answers"):
        sandbox.run("1")


def test_a_container_of_an_engine_that_is_gone_ends_quietly() -> None:
    pytest.importorskip("docker.errors")

    def remove(**_: Any) -> None:
        raise ConnectionRefusedError("no engine")  # requests' own errors are OSErrors too

    _remove(SimpleNamespace(remove=remove))


def test_a_missing_image_is_not_pulled() -> None:
    errors = pytest.importorskip("docker.errors")
    asked: list[str] = []

    class Images:
        def get(self, name: str) -> Any:
            asked.append(name)
            raise errors.ImageNotFound("no such image")

    sandbox = DockerSandbox()
    sandbox._engine = SimpleNamespace(images=Images())  # any other use of the engine fails
    with pytest.raises(SandboxUnavailableError, match=re.escape(BUILD)):
        sandbox.run("1")
    assert asked == [IMAGE]


def test_an_engine_that_fails_leaves_nothing(tmp_path: Path) -> None:
    errors = pytest.importorskip("docker.errors")
    removed: list[bool] = []
    container = SimpleNamespace(
        start=lambda: (_ for _ in ()).throw(errors.APIError("no space left")),
        logs=lambda **_: b"",
        remove=lambda **given: removed.append(given["force"]),
    )
    sandbox = DockerSandbox(checked=False)
    sandbox._engine = SimpleNamespace(
        images=SimpleNamespace(get=lambda name: SimpleNamespace(id="sha256:0")),
        containers=SimpleNamespace(create=lambda **_: container),
    )
    with pytest.raises(SandboxUnavailableError, match="no space left"):
        sandbox.run("1")
    assert removed == [True]


# ---- the files in docker/


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())]


@pytest.mark.parametrize("name", ["sandbox.Dockerfile", "trainer.Dockerfile"])
def test_dockerfile_is_pinned_and_gives_up_root(name: str) -> None:
    found = instructions(DOCKER / name)
    assert {word for word, _ in found} <= {"ARG", "FROM", "RUN", "COPY", "USER", "WORKDIR", "ENV", "ENTRYPOINT", "CMD"}
    assert next(rest for word, rest in found if word == "FROM") == "${BASE_IMAGE}"
    base = next(rest for word, rest in found if word == "ARG" and rest.startswith("BASE_IMAGE="))
    assert re.fullmatch(r"BASE_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+", base), "full version and distribution, never 'latest'"
    users = [rest for word, rest in found if word == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]), "numbers, so that `docker run` can see that it is not root"
    after = [word for word, _ in found[found.index(("USER", users[-1])) :]]
    assert "RUN" not in after
    assert "COPY" not in after
    for word, rest in found:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
        assert not re.search(r"curl|wget|sudo|chmod 777|ADD ", rest)


def test_sandbox_image_installs_nothing() -> None:
    runs = " ".join(rest for word, rest in instructions(DOCKER / "sandbox.Dockerfile") if word in ("RUN", "COPY"))
    assert not re.search(r"pip|apt|COPY", runs)


def test_build_context_holds_no_more_than_is_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").split()
    copied = {
        source for word, rest in instructions(DOCKER / "trainer.Dockerfile") if word == "COPY" for source in rest.split()[:-1]
    }
    assert lines[0] == "**"
    assert {line[1:] for line in lines if line.startswith("!")} == copied


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))


def test_compose_has_the_three_services(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"retrieval", "endpoint", "trainer"}
    declared = set(compose["volumes"])
    for name, service in compose["services"].items():
        assert "privileged" not in service
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges" in service["security_opt"]
        assert service.get("network_mode") != "host"
        assert service["pids_limit"] > 0
        image = service["image"]
        assert image == "agentgym-trainer" or re.search(r":-[\w./-]+:v?\d+\.\d+\.\d+}$", image), f"{name}: {image} is not pinned"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        for volume in service.get("volumes", ()):
            source = volume.rpartition("}:")[0] or volume.partition(":")[0]
            assert source.startswith("${") or source in declared
            assert "docker.sock" not in volume
        if "build" in service:
            assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
            assert service["read_only"] is True
    assert compose["networks"]["inside"] == {"internal": True}


def test_commands_of_the_services_are_commands_of_ours(compose: dict[str, Any], tmp_path: Path) -> None:
    from agentgym.cli.main import build_parser

    parser = build_parser()
    for name in ("retrieval", "trainer"):
        command = [str(tmp_path) if word == "/index" else word for word in compose["services"][name]["command"]]
        parser.parse_args(command)


def test_trainer_can_build_namespaces(compose: dict[str, Any]) -> None:
    options = compose["services"]["trainer"]["security_opt"]
    assert {"seccomp=unconfined", "systempaths=unconfined"} <= set(options), "bubblewrap inside needs both"
