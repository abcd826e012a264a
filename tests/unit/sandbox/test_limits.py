import pytest

from agentgym.errors import ConfigError, NotRegisteredError, ServiceError, ToolError
from agentgym.sandbox import (
    Availability,
    ExecResult,
    FileError,
    Limits,
    SandboxLostError,
    SandboxUnavailableError,
    open_sandbox,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [("wall_s", 0), ("wall_s", float("nan")), ("memory_mb", -1), ("processes", True), ("files", 2.5), ("cpu_s", "1")],
)
def test_limit_that_means_nothing_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: value})  # pyright: ignore


def test_network_is_never_given() -> None:
    with pytest.raises(ConfigError, match="network=True is not offered"):
        Limits(network=True)


def test_unknown_limit_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'memory_mb'"):
        Limits().with_(memory=1)
    assert Limits().with_(wall_s=1.5).wall_s == 1.5


def test_faults_of_the_service_and_of_the_policy_are_apart() -> None:
    assert issubclass(SandboxUnavailableError, ServiceError)
    assert issubclass(SandboxLostError, ServiceError)
    assert issubclass(FileError, ToolError)
    assert not issubclass(FileError, ServiceError)


def test_a_call_is_fine_only_if_it_ended_by_itself_with_zero() -> None:
    assert ExecResult("", "", 0).ok
    assert not ExecResult("", "", 1).ok
    assert not ExecResult("", "", None, killed_by="wall").ok


def test_unavailable_backend_says_why() -> None:
    with pytest.raises(SandboxUnavailableError, match="'x' is not available: no kernel"):
        Availability("x", False, "no kernel").require()


def test_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(NotRegisteredError, match="did you mean 'bubblewrap'"):
        open_sandbox("bubblewarp")
