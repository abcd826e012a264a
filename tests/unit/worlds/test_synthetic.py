"""Specs, the cache, and synthetic worlds as a task source."""

import copy
import hashlib
import json

import pytest

from agentgym import schema, worlds
from agentgym.errors import ConfigError
from agentgym.seeding import stream
from agentgym.task import TaskSource
from agentgym.worlds.closed import KINDS, ClosedWorld
from agentgym.worlds.synthetic import build_world
from agentgym.worlds.world import SPLITS, WorldCache


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("synthetic", "synthetic:natural?entities=1000&seed=0"),
        ("synthetic:natural", "synthetic:natural?entities=1000&seed=0"),
        ("synthetic:natural?seed=3&entities=500", "synthetic:natural?entities=500&seed=3"),
        ("synthetic:closed", "synthetic:closed?seed=0"),
        ("synthetic:closed?seed=7", "synthetic:closed?seed=7"),
    ],
)
def test_specs_are_read_back_from_their_keys(text, key):
    spec = worlds.WorldSpec.parse(text)
    assert spec.key == key
    assert worlds.WorldSpec.parse(key) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sinthetic", "did you mean 'synthetic'"),
        ("synthetic:natrual", "did you mean 'natural'"),
        ("synthetic:natural?entitys=5", "'entitys' is not known.*did you mean 'entities'"),
        ("synthetic:natural?entities", "'entities' has no value"),
        ("synthetic:natural?seed=1&seed=2", "'seed' is given twice"),
        ("synthetic:natural?entities=99", "100 to 1000000"),
        ("synthetic:natural?entities=0", "100 to 1000000"),
        ("synthetic:natural?entities=1e3", "not a whole number"),
        ("synthetic:natural?seed=-1", "not a whole number"),
        ("synthetic:natural?seed=9999999999", "0 to 2147483647"),
        ("synthetic:closed?entities=100", "always has 86"),
    ],
)
def test_bad_specs_say_what_is_allowed(text, message):
    with pytest.raises(ConfigError, match=message):
        worlds.WorldSpec.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("synthetic:closed?kinds=2d", "'2d' is no question kind of closed worlds; allowed: 1, 2a"),
        ("synthetic:natural?kinds=chian", "did you mean 'chain'"),
        ("synthetic:natural?worlds=4", "one world: leave it out"),
        ("synthetic:closed?worlds=0", "worlds=0 is out of bounds"),
        ("synthetic:closed?worlds=4&seed=1", "one of the two"),
        ("synthetic:closed?pool=4", "'pool' is not known"),
    ],
)
def test_bad_sources_say_what_is_allowed(text, message):
    with pytest.raises(ConfigError, match=message):
        worlds.SyntheticTasks.parse(text)


def test_golden_worlds_have_not_changed(golden_worlds_path):
    """A changed digest changes every published number: raise the ids of the environments that use these worlds."""
    for key, digest in json.loads(golden_worlds_path.read_text()).items():
        assert digest_of(key) == digest, key


def digest_of(key: str) -> str:
    world = build_world(worlds.WorldSpec.parse(key))
    # as records write them: a new optional field of a task is no change of the data
    lines = [json.dumps(schema.to_json(p), sort_keys=True) for p in world.passages()]
    for split in SPLITS if world.spec.setting == "natural" else ("train",):
        lines += [json.dumps(schema.to_json(t), sort_keys=True) for t in world.tasks(split)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.fixture
def golden_worlds_path(request):
    path = request.config.rootpath / "tests" / "golden" / "worlds.json"
    if request.config.getoption("--update-golden"):
        keys = ("synthetic:closed?seed=7", "synthetic:natural?entities=200&seed=0")
        path.write_text(json.dumps({key: digest_of(key) for key in keys}, indent=2) + "\n")
    return path


def test_worlds_are_shared_and_copies_are_the_same_object():
    world = worlds.world("synthetic:closed?seed=5")
    assert worlds.world(worlds.WorldSpec("closed", seed=5)) is world
    assert copy.deepcopy({"world": world})["world"] is world


def test_the_cache_drops_what_was_used_longest_ago_and_keeps_the_newest():
    cache = WorldCache(max_worlds=2, max_entities=200)
    a, b, c = (worlds.WorldSpec("closed", seed=s) for s in range(3))
    first = cache.world(a, ClosedWorld)
    cache.world(b, ClosedWorld)
    assert cache.world(a, ClosedWorld) is first
    cache.world(c, ClosedWorld)
    assert len(cache) == 2
    assert cache.world(a, ClosedWorld) is first
    tiny = WorldCache(max_entities=1)
    assert tiny.world(a, ClosedWorld) is tiny.world(a, ClosedWorld)


def test_pools_keep_the_splits_apart_and_balance_kinds():
    source = worlds.SyntheticTasks.parse("synthetic:closed?worlds=6")
    assert isinstance(source, TaskSource)
    used = {}
    for split, n_worlds in (("train", 6), ("dev", 8), ("test", 8)):
        tasks = source.split(split)
        assert len(tasks) == n_worlds * 112
        assert {t.split for t in tasks} == {split}
        assert len({t.id for t in tasks}) == len(tasks)
        used[split] = {t.world for t in tasks}
        assert len(used[split]) == n_worlds
        first = [t.kind for t in tasks[: len(KINDS) * n_worlds]]
        assert {first.count(kind) for kind in KINDS} == {n_worlds}
    assert not used["train"] & used["dev"]
    assert not used["dev"] & used["test"]


def test_default_pool_has_256_worlds_and_one_seed_makes_one_world():
    assert len(worlds.SyntheticTasks.parse("synthetic:closed").split("train")) == 256 * 112
    single = worlds.SyntheticTasks.parse("synthetic:closed?seed=3&kinds=1,4")
    assert {(t.world, t.kind) for t in single.split("train")} == {("synthetic:closed?seed=3", k) for k in "14"}
    with pytest.raises(ConfigError, match="belongs to the split 'train'"):
        single.split("test")


@pytest.mark.parametrize(
    "text", ["synthetic:closed?worlds=4&kinds=2a,3b", "synthetic:natural?entities=150&seed=0&kinds=chain,comparison"]
)
def test_sources_are_deterministic_filtered_and_found_by_id(text):
    source = worlds.SyntheticTasks.parse(text)
    assert source.key == text
    assert worlds.SyntheticTasks.parse(source.key).kinds == source.kinds
    assert {t.kind for t in source.split("train")} == set(source.kinds)
    drawn = [source.sample("train", stream("draw", i)) for i in range(20)]
    assert [source.sample("train", stream("draw", i)) for i in range(20)] == drawn
    assert len({t.id for t in drawn}) > 10
    for task in drawn[:3] + source.split("dev")[:2] + [source.split("test")[-1]]:
        assert source.by_id(task.id) == task


@pytest.mark.parametrize(
    "bad",
    ["", "synthetic:closed?seed=1#112", "synthetic:closed?seed=1#-1", "synthetic:closed?seed=1#train.3", "other#1",
     "synthetic:natural?entities=150&seed=0#test", "synthetic:natural?entities=150&seed=0#test.99999", "synthetic#train.0"],
)  # fmt: skip
def test_unknown_ids_are_refused(bad):
    with pytest.raises(ConfigError, match="no synthetic task has the id"):
        worlds.SyntheticTasks.parse("synthetic").by_id(bad)
