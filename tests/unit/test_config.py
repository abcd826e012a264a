"""Settings: file, overrides, messages, and the text that a run folder keeps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym import config
from agentgym.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Clip:
    low: float = 0.2
    high: float = 0.3


@dataclass(frozen=True, slots=True)
class Optim:
    lr: float = 1e-3
    """Learning rate,
    per optimizer step."""


@dataclass(frozen=True, slots=True)
class Train(Optim):
    steps: int = 10
    scale: Literal["none", "batch", "loo"] = "batch"
    clip: Clip | None = None
    """Off
    by default."""


@dataclass(frozen=True, slots=True)
class Settings:
    env: str
    train: Train = Train()
    seed: int | None = None
    name: str | None = "run"
    out: Path = Path("runs")
    turns: tuple[int, ...] = (1, 2)
    clips: tuple[Clip, ...] = ()
    budgets: dict[str, int] = field(default_factory=dict)
    env_args: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text('env = "GraphWalk-v0"\nseed = 3\n[train]\nlr = 1\nsteps = 5\n[budgets]\nsearch = 4\n')
    return path


def test_file_then_overrides_last_wins(recipe: Path) -> None:
    cfg = config.load(Settings, recipe, ["train.steps=6", "train.steps=7", "budgets.read=2", "train.clip.low=0.1"])
    assert cfg == Settings("GraphWalk-v0", Train(1.0, 7, clip=Clip(0.1)), seed=3, budgets={"search": 4, "read": 2})


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("env=SearchQA-v0", "SearchQA-v0"),
        ('env="SearchQA-v0"', "SearchQA-v0"),
        ("env=7", "7"),
        ("env=true", "true"),
        ("env=a=b", "a=b"),
        ("env = x y ", "x y"),
        ("env=", ""),
    ],
)
def test_strings_need_no_quotes(override: str, value: str) -> None:
    assert config.load(Settings, overrides=[override]).env == value


@dataclass(frozen=True)
class WithFreeTable:
    args: dict[str, Any] = field(default_factory=lambda: {"world": "small", "k": 2})
    """Arguments of
    something."""


def test_one_key_of_a_free_table_leaves_the_others_alone(tmp_path: Path) -> None:
    assert config.load(WithFreeTable, overrides=["args.k=3"]).args == {"world": "small", "k": 3}
    assert config.load(WithFreeTable, overrides=["args={k = 3}"]).args == {"k": 3}
    path = tmp_path / "a.toml"
    path.write_text('[args]\nworld = "other"\n')
    assert config.load(WithFreeTable, path, ["args.x=1"]).args == {"world": "other", "x": 1}, "a file replaces all"
    assert WithFreeTable().args == {"world": "small", "k": 2}


def test_dump_can_say_what_settings_mean(tmp_path: Path) -> None:
    text = config.dump(Settings("e", train=Train(scale="loo")), docs=True)
    bare = [line for line in text.splitlines() if not line.startswith("# ")]
    assert bare == config.dump(Settings("e", train=Train(scale="loo"))).splitlines()
    assert len(bare) < len(text.splitlines())
    (tmp_path / "a.toml").write_text(text)
    assert config.load(Settings, tmp_path / "a.toml") == Settings("e", train=Train(scale="loo"))


def test_override_values_are_toml() -> None:
    cfg = config.load(
        Settings,
        overrides=[
            "env=x", "seed=none", "turns=[3]", "train.scale=none", "train.clip={low = 1}", "env_args.world=big",
            "env_args.deep.k=[1, 'a']", "name=none", "out=a/b",
        ],
    )  # fmt: skip
    assert cfg == Settings(
        "x", Train(scale="none", clip=Clip(1.0)), None, None, Path("a/b"), (3,),
        env_args={"world": "big", "deep": {"k": [1, "a"]}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=1", r"override 'train.stepz=1': unknown key 'stepz' at train; did you mean 'steps'\?"),
        ("trian.steps=1", r"unknown key 'trian' at the top level; did you mean 'train'\?"),
        ("train.steps=1.5", r"train.steps: expected int, got float 1.5"),
        ("train.steps=true", r"train.steps: expected int, got bool True"),
        ("train.scale=lo", r"expected one of 'none', 'batch', 'loo', got str 'lo'; did you mean 'loo'"),
        ("train.lr.x=1", r"train.lr is no table but float"),
        ("train.steps", r"expected key=value"),
        (".steps=1", r"expected key=value"),
        ("turns=3", r"turns: expected tuple\[int, ...\], got int 3"),
    ],
)
def test_bad_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(Settings, overrides=["env=x", override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nlearning_rate = 1\n", r"a.toml: train.learning_rate: unknown key"),
        ("[trian]\nlr = 1\n", r"a.toml: trian: unknown key; did you mean 'train'"),
        ("env = 3\n", r"a.toml: env: expected str, got int 3"),
        ("train = 3\nenv = 'x'", r"a.toml: train: expected a table \(Train\), got int 3"),
        ("", r"a.toml: missing key 'env'"),
        ("env = \n", r"a.toml: not TOML: .*line 1"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        config.load(Settings, path)


@dataclass(frozen=True, slots=True)
class Checked:
    low: int = 1
    high: int = 5
    name: str = "x"

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError(f"low = {self.low} is above high = {self.high}")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("", ["low=9"], "override 'low=9': low = 9 is above high = 5"),
        ("", ["name=y", "low=9", "name=z"], "override 'low=9': low = 9 is above high = 5"),
        ("", ["low=3", "high=2"], "override 'high=2': low = 3 is above high = 2"),
        ("low = 4", ["high=3"], "override 'high=3': low = 4 is above high = 3"),
        ("low = 9", ["name=y"], "{path}: low = 9 is above high = 5"),
        ("low = 9", ["high=7"], "override 'high=7': low = 9 is above high = 7"),
        ("lwo = 9", ["low=9", "high=10"], "{path}: lwo: unknown key; did you mean 'low'"),
    ],
)
def test_what_is_wrong_is_laid_at_the_override_or_the_file_that_brings_it(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        config.load(Checked, path, overrides)
    assert str(error.value).startswith(message.format(path=path))


def test_overrides_that_mend_each_other_are_taken(tmp_path: Path) -> None:
    assert config.load(Checked, None, ["low=9", "high=12"]) == Checked(9, 12)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"b.toml: no such file"):
        config.load(Settings, tmp_path / "b.toml")


floats = st.floats(allow_nan=False)
free = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | floats | st.text(),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3),
    max_leaves=6,
)
clips = st.builds(Clip, floats, floats)
settings_objects = st.builds(
    Settings,
    st.text(),
    st.builds(Train, floats, st.integers(0, 9), st.sampled_from(["none", "batch", "loo"]), st.none() | clips),
    st.none() | st.integers(0, 9),
    st.none() | st.text().filter(lambda t: t != "none"),
    st.sampled_from([Path("a"), Path("b/c d")]),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.lists(clips, max_size=2).map(tuple),
    st.dictionaries(st.text(), st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(), free, max_size=3),
)


@given(cfg=settings_objects)
def test_dump_reads_back_equal(cfg: Settings, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("dump") / "config.toml"
    path.write_text(config.dump(cfg), encoding="utf-8", newline="")
    assert config.load(Settings, path) == cfg


def test_dump_refuses_what_toml_cannot_hold() -> None:
    with pytest.raises(ConfigError, match=r"env_args.x: TOML cannot hold NoneType"):
        config.dump(Settings("e", env_args={"x": None}))


def test_keys_lists_every_setting_with_type_default_and_doc() -> None:
    rows = {key.path: key for key in config.keys(Settings)}
    assert list(rows)[:6] == ["env", "train.lr", "train.steps", "train.scale", "train.clip", "train.clip.low"]
    assert rows["env"].default == "(required)"
    assert rows["train.lr"] == config.Key("train.lr", "float", "0.001", "Learning rate, per optimizer step.")
    assert rows["train.clip"].doc == "Off by default."
    assert rows["seed"].default == '"none"'
    assert rows["turns"].default == "[1, 2]"
