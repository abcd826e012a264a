"""Registry and plugins."""

import sys
import types

import pytest

from agentgym import hooks, registry
from agentgym.errors import NotRegisteredError, RegistrationError
from agentgym.registry import Registry


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_plugins_loaded", True)


def test_a_string_target_is_imported_at_the_first_look_up_only(no_plugins: None, monkeypatch: pytest.MonkeyPatch):
    names = Registry("thing")
    names.add("late", "agentgym_test_late:outer.inner")
    assert "agentgym_test_late" not in sys.modules
    with pytest.raises(RegistrationError, match=r"thing 'late': cannot load 'agentgym_test_late:outer.inner'"):
        names.resolve("late")
    module = types.ModuleType("agentgym_test_late")
    module.outer = types.SimpleNamespace(inner=[1])  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "agentgym_test_late", module)
    assert names.resolve("late") is names.resolve("late") == [1]


def test_unknown_name_says_what_to_do(no_plugins: None):
    names = Registry("thing")
    names.add("tags", object())
    with pytest.raises(NotRegisteredError) as error:
        names.resolve("tegs")
    assert str(error.value) == (
        "unknown thing 'tegs'; did you mean 'tags'?; 1 registered; list with `agentgym list thing`, or name code of your own: MODULE:NAME"
    )
    assert "tegs" not in names
    assert "tags" in names


def test_registering_twice_needs_replace(no_plugins: None):
    names = Registry("thing")
    names.add("a", [1])
    assert names.resolve("a") == [1]
    with pytest.raises(RegistrationError, match="already registered"):
        names.add("a", [2])
    assert names.resolve("a") == [1]
    names.add("a", [2], replace=True)
    assert names.resolve("a") == [2]
    assert names.names() == ("a",)


@pytest.mark.parametrize("target", ["module", "module:", ":attribute", ".relative:attribute"])
def test_bad_targets_are_refused_when_registered(target: str):
    with pytest.raises(RegistrationError, match="module:attribute"):
        Registry("thing").add("a", target)


@pytest.mark.parametrize("name", ["", " a", 3])
def test_bad_names_are_refused(name: object):
    with pytest.raises(RegistrationError, match="non-empty name"):
        Registry("thing").add(name, object())  # pyright: ignore[reportArgumentType]


class Point:
    """An entry point."""

    def __init__(self, name: str, load: object):
        self.name, self.value, self.load = name, f"{name}_package", load


@pytest.mark.parametrize(("variable", "expected"), [(None, ["one", "two"]), ("", []), ("two, nothing", ["two"])])
def test_plugins_load_on_the_first_miss_as_the_variable_allows(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, expected: list[str]
):
    names: Registry[str] = Registry("thing")
    if variable is None:
        monkeypatch.delenv(registry.PLUGIN_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(registry.PLUGIN_VARIABLE, variable)
    points = [Point(n, lambda n=n: lambda: names.add(n, [n])) for n in ("one", "two")]  # pyright: ignore
    asked = []
    monkeypatch.setattr(registry, "entry_points", lambda group: asked.append(group) or points)
    monkeypatch.setattr(registry, "_plugins_loaded", False)
    names.add("own", ["own"])  # pyright: ignore[reportArgumentType]
    names.resolve("own")
    assert asked == []
    assert [n for n in ("one", "two") if n in names] == expected
    assert asked == (["agentgym.plugins"] if variable != "" else [])


def test_a_broken_plugin_warns_and_the_others_load(monkeypatch: pytest.MonkeyPatch):
    names: Registry[list[int]] = Registry("thing")

    def broken() -> None:
        raise RuntimeError("no")

    points = [Point("bad", broken), Point("good", lambda: lambda: names.add("good", [1]))]
    monkeypatch.delenv(registry.PLUGIN_VARIABLE, raising=False)
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.setattr(registry, "_plugins_loaded", False)
    with pytest.warns(RuntimeWarning, match="plugin 'bad'.*RuntimeError: no"):
        assert names.resolve("good") == [1]


def test_built_in_dialects_resolve():
    assert {hooks.DIALECTS.resolve(name)().name for name in ("tags", "json")} == {"tags", "json"}
