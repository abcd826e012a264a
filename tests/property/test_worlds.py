"""Properties of the synthetic worlds' building blocks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.worlds.natural.draw import Draw
from agentgym.worlds.natural.facts import Facts
from agentgym.worlds.natural.names import ENDINGS, Names
from agentgym.worlds.natural.schema import counts
from agentgym.worlds.spec import MAX_ENTITIES, MAX_SEED, MIN_ENTITIES, WorldSpec

SEEDS = st.integers(0, MAX_SEED)


@given(SEEDS, st.integers(MIN_ENTITIES, MAX_ENTITIES))
def test_keys_and_specs_are_inverse(seed, entities):
    for spec in (WorldSpec("natural", entities, seed), WorldSpec("closed", seed=seed)):
        assert WorldSpec.parse(spec.key) == spec


@given(st.integers(MIN_ENTITIES, MAX_ENTITIES))
def test_types_add_up(entities):
    sizes = counts(entities)
    assert sum(sizes.values()) == entities
    assert min(sizes.values()) >= 10


@given(SEEDS, st.integers(1, 3000))
@settings(max_examples=30)
def test_shuffles_are_permutations(seed, size):
    names = Names(seed, MIN_ENTITIES)
    assert sorted(names._shuffled("any", i, size) for i in range(size)) == list(range(size))


@given(SEEDS, st.sampled_from([MIN_ENTITIES, MAX_ENTITIES]))
@settings(max_examples=20)
def test_coined_words_of_all_kinds_differ(seed, entities):
    names = Names(seed, entities)
    words = [names.coined(kind, i) for kind in ENDINGS for i in range(150)]
    assert len(set(words)) == len(words)


@given(SEEDS, st.integers(1, 40), st.integers(0, 45))
@settings(max_examples=50)
def test_draws_repeat_and_stay_in_range(seed, size, count):
    first, second = Draw("test", seed), Draw("test", seed)
    assert [first.below(size) for _ in range(100)] == [second.below(size) for _ in range(100)]
    some = first.some(range(size), count)
    assert len(set(some)) == len(some) == min(size, count)
    assert set(some) <= set(range(size))


@given(SEEDS, st.integers(MIN_ENTITIES, 600))
@settings(max_examples=15, deadline=None)
def test_lives_are_possible(seed, entities):
    facts = Facts(seed, entities)
    tails, birth = facts.tails, facts.tails["birth_year"]

    def pairs(relation):
        return [(h, int(t)) for h, t in enumerate(tails[relation]) if t >= 0]

    assert all(18 <= birth[h] - birth[t] <= 60 for h, t in pairs("mentor"))
    assert all(tails["founded"][t] <= tails["year"][h] for h, t in pairs("publisher"))
    assert all(tails["year"][t] < tails["year"][h] for h, t in pairs("based_on"))
    assert all(tails["spouse"][t] == -1 for _, t in pairs("spouse"))
    assert all(tails["country"][tails["region"][c]] == k for k, c in pairs("capital"))
