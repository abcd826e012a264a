"""Code by name: modules and files, loaded once, with clear errors; what came with data names no file."""

import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

import agentgym
from agentgym import hooks
from agentgym.cli.options import make_policy
from agentgym.errors import ConfigError, MissingExtraError, RegistrationError
from agentgym.gold import Assertion
from agentgym.judges.rules import import_function
from agentgym.named import is_object_name, named_object, place_of, source_file
from agentgym.rewards import build_suite
from agentgym.rewards.states import already_hold
from agentgym.tools import ToolContext, isolated
from agentgym.tools.toolbox import only_tools

MINE = '''
import agentgym
from agentgym.rewards import answer_em

@agentgym.tool
def double(n: int) -> int:
    """Double a number."""
    return 2 * n

@agentgym.tool
def half(n: int) -> float:
    """Halve a number."""
    return n / 2

tools = [double, half]

@agentgym.reward(scope="trajectory", range=(0, 1), name="named_brief")
def brief(view):
    """1 for a short answer."""
    return float(len(view.answer or "") < 20)

reward = answer_em + 0.1 * brief
careful = agentgym.Checklist("named_careful").rule("looked", call="search")

def plain(view):
    return 1.0

class Policy:
    privileged = served = False
    def __init__(self, word="x"):
        self.word = word
    async def act(self, requests):
        return [agentgym.Completion(f"<answer>{self.word}</answer>") for _ in requests]
    def release(self, episodes):
        pass

class Half:
    privileged = served = False
    def act(self, requests):
        return []

class NotAsync(Half):
    def release(self, episodes):
        pass
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with code; what it imports and registers is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    kept = [(r, dict(r._targets), dict(r._loaded)) for r in (hooks.COMPONENTS, hooks.CHECKLISTS, hooks.TOOLS)]
    (tmp_path / "named_mine.py").write_text(MINE)
    yield tmp_path
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    for registry, targets, loaded in kept:
        registry._targets, registry._loaded = targets, loaded


def test_a_module_and_its_file_are_the_same_code(folder: Path) -> None:
    by_module = named_object("named_mine:double")
    absolute = f"{folder}/named_mine.py:double"
    assert by_module is named_object("named_mine.py:double") is named_object("./named_mine.py:double") is named_object(absolute)
    assert named_object("named_mine:Policy.act") is named_object("named_mine:Policy").act
    assert source_file("named_mine:double") == folder / "named_mine.py"
    assert source_file("search") is None


@pytest.mark.parametrize("stem", ["json", "agentgym", "my-tools", "pytest"])
def test_a_file_whose_name_is_taken_is_loaded_beside_it(folder: Path, stem: str) -> None:
    taken = sys.modules.get(stem)
    (folder / f"{stem}.py").write_text("from named_beside import value\ndef f():\n    import named_later\n    return value + named_later.value\n")
    for name in ("named_beside", "named_later"):
        (folder / f"{name}.py").write_text("value = 1")
    f = named_object(f"{stem}.py:f")
    assert f() == 2
    assert named_object(f"{folder / stem}.py:f") is f
    assert sys.modules.get(stem) is taken
    assert named_object(place_of(f)) is f


def test_folders_with_files_of_one_name_stay_apart(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "tools.py").write_text(f"here = {name!r}")
    assert [named_object(f"{name}/tools.py:here") for name in "abab"] == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("named_min:double", r"no_kind 'named_min:double': the module 'named_min' cannot be imported: none is installed, and there is none in .*; did you mean 'named_mine'"),
        ("named_min.py:double", r"there is no file named_min\.py \(working folder: .*\); did you mean 'named_mine\.py'"),
        ("named_mine:duoble", r"the module 'named_mine' has no 'duoble'; did you mean 'double'"),
        ("named_mine.py:duoble", r"the file 'named_mine\.py' has no 'duoble'; did you mean 'double'"),
        ("named_mine.py", r"write MODULE:NAME or FILE\.py:NAME"),
        ("named_mine:", r"write MODULE:NAME"),
        ("broken.py:x", r"the file 'broken\.py' cannot be imported: ZeroDivisionError: .* \(broken\.py:2\)"),
        ("broken:x", r"the module 'broken' cannot be imported: ZeroDivisionError: .* \(broken\.py:2\)"),
        ("syntax.py:x", r"the file 'syntax\.py' cannot be imported: SyntaxError: .*line 1"),
        ("leaves.py:x", r"the file 'leaves\.py' cannot be imported: SystemExit: 3"),
        ("needs.py:x", r"cannot be imported: ModuleNotFoundError: No module named 'no_such_package' \(needs\.py:1\)"),
    ],
)  # fmt: skip
def test_mistakes_are_named(folder: Path, text: str, message: str) -> None:
    for name, body in {"broken": "\n1 / 0", "syntax": "x = (", "leaves": "import sys; sys.exit(3)", "needs": "import no_such_package"}.items():
        (folder / f"{name}.py").write_text(body)
    for _ in range(2):  # a module that failed is not remembered half-made
        with pytest.raises(ConfigError, match=message):
            named_object(text, "no_kind")


def test_a_missing_extra_stays_one_and_prints_go_to_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "named_extra.py").write_text("from agentgym.errors import MissingExtraError\nraise MissingExtraError('it', 'pkg', 'pip install pkg')")
    with pytest.raises(MissingExtraError, match="pip install pkg"):
        named_object("named_extra:x")
    (folder / "named_talks.py").write_text("print('hello')\nx = 1")
    assert named_object("named_talks:x") == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "hello\n")


def test_what_is_a_name_of_code() -> None:
    for text in ("a:b", "a.b:c.d", "./x.py:y", "/a b/x.py:y", "x.py"):
        assert is_object_name(text), text
    for text in ("search", "http://x:80", "hf:a/b", "answer_em + 0.1*x", "a:", ":b", "synthetic:closed?worlds=4", "a:b c"):
        assert not is_object_name(text), text


# ---- where it is used


@pytest.mark.parametrize("form", ["named_mine:{}", "named_mine.py:{}", "{folder}/named_mine.py:{}"])
def test_rewards_and_tools_by_name(folder: Path, form: str) -> None:
    def name(of: str) -> str:
        return form.replace("{folder}", str(folder)).replace("{}", of)

    env = gym.make("SearchQA-v0", reward=name("reward"), tools=name("tools"))
    assert {"double", "half"} <= set(env.reset(seed=0)[1]["tools"])
    assert set(env.unwrapped.suite.components) == {"answer_em", "named_brief"}  # type: ignore[attr-defined]
    env = gym.make("ToolCalls-v0", reward=f"task_success + 0.1*{name('brief')}", tools=[name("double"), named_object(name("half"))])
    assert {"double", "half"} <= set(env.reset(seed=0)[1]["tools"])
    assert build_suite({"outcome": "answer_em", "terms": [{"use": name("brief"), "weight": 0.1}]}).bounds().margin == pytest.approx(0.9)
    assert "checklist:named_careful" in build_suite(f"answer_em + 0.1*{name('careful')}").components
    assert "checklist:named_careful" in build_suite(f"answer_em + 0.1*checklist:{name('careful')}").components
    assert build_suite(named_object(name("careful"))).components.keys() == build_suite(name("careful")).components.keys()


def test_a_path_with_blanks_is_no_expression(folder: Path) -> None:
    (folder / "my code").mkdir()
    (folder / "my code" / "r.py").write_text("from agentgym.rewards import answer_em\nreward = 2 * answer_em")
    assert build_suite(f"{folder}/my code/r.py:reward").bounds().margin == 2.0


def test_registered_names_come_first_and_registries_know_code(folder: Path) -> None:
    hooks.TOOLS.add("doubling", named_object("named_mine:double"))
    assert [t.name for t in only_tools(["doubling", "named_mine:half"], "x")] == ["double", "half"]
    with pytest.raises(ConfigError, match="did you mean 'doubling'"):
        only_tools("dubling", "x")
    assert make_policy("named_mine.py:Policy", ["word=yes"]).word == "yes"
    with pytest.raises(ConfigError, match="has no release; agentgym"):
        make_policy("named_mine:Half", [])
    with pytest.raises(ConfigError, match="no `async def`"):
        make_policy("named_mine:NotAsync", [])
    with pytest.raises(ConfigError, match=r"policy 'htf:smol'.*did you mean 'hf'"):
        make_policy("htf:smol", [])
    with pytest.raises(ConfigError, match="is list"):
        make_policy("named_mine.py:tools", [])


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("named_mine:plain", r"reward=plain: .*decorate it: @agentgym\.reward"),
        ("answer_em + 0.1*named_mine:plain", r"component 'named_mine:plain' is a plain function .*decorate it"),
        ("named_mine:tools", r"expected a suite"),
        ("0.1*named_mine:no", r"component 'named_mine:no': the module 'named_mine' has no 'no'"),
        ("named_mine.py", r"reward 'named_mine\.py': write MODULE:NAME or FILE\.py:NAME"),
        ("chekclist:x", r"reward 'chekclist:x': .*did you mean 'checklist'"),
    ],
)
def test_what_is_no_reward_is_refused(folder: Path, reward: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_suite(reward)


def test_what_is_no_tool_is_refused(folder: Path) -> None:
    for tools in ("named_mine:plain", ["named_mine:double", "named_mine:plain"], named_object("named_mine:plain")):
        with pytest.raises(ConfigError, match=r"tools= holds the function plain, which is no tool; decorate"):
            gym.make("SearchQA-v0", tools=tools)
    with pytest.raises(RegistrationError, match="two tools are called 'double'"):
        gym.make("SearchQA-v0", tools=["named_mine:double", "named_mine:tools"])


def test_a_tool_of_a_file_runs_in_a_process_of_its_own(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "named_mine.py").write_text(MINE.replace("named_", "named_sub_").replace("2 * n", "3 * n"))
    for text, result in (("named_mine.py:double", 42), ("sub/named_mine.py:double", 63)):  # the second's name is taken
        assert isolated(named_object(text)).fn(_context=ToolContext({}), n=21) == result


def test_names_that_come_with_data_choose_no_file(folder: Path) -> None:
    (folder / "named_holds.py").write_text("def always(state):\n    return True\n")
    for program in ("named_holds.py:always", "named_holds:always"):
        with pytest.raises(ConfigError, match=r"no file|none is installed"):
            already_hold(agentgym.Gold(assertions=(Assertion(program=program),)), {})
    assert import_function("named_holds:always", "checklist")({}) is True  # a checklist of the user's own
