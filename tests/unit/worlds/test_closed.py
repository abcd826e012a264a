"""The closed setting: its vocabulary, its facts, and how its pages are found."""

import pytest

from agentgym import worlds
from agentgym.errors import ConfigError
from agentgym.retrieval import BM25Retriever
from agentgym.worlds.closed import KINDS, TASKS_PER_KIND, ClosedWorld
from agentgym.worlds.closed_words import PAGE_WORDS, QUESTION_WORDS

SEEDS = range(8)


@pytest.fixture(scope="module")
def made() -> list[ClosedWorld]:
    return [ClosedWorld(worlds.WorldSpec("closed", seed=seed)) for seed in SEEDS]


def test_every_token_is_in_the_vocabulary_and_texts_are_short(made):
    vocabulary = worlds.closed_vocabulary()
    assert len({w.lower() for w in vocabulary}) == len(vocabulary)
    for world in made:
        for passage in world.passages():
            tokens = passage.text.split()
            assert set(tokens) | {passage.title} <= set(vocabulary)
            assert tokens[0] == passage.title
            assert 2 <= len(tokens) <= 7
        for task in world.tasks("train"):
            assert set(task.question.split()) <= set(vocabulary)
            assert 4 <= len(task.question.split()) <= 8


def test_pages_and_questions_share_no_word_but_names():
    assert not set(PAGE_WORDS) & set(QUESTION_WORDS)


def test_the_path_leads_through_the_facts_to_the_answer(made):
    for world in made:
        by_relation = {(f.head, f.relation): f for e in world.entities() for f in world.facts(e.id)}
        for task in world.tasks("train"):
            at = task.gold.entities[0].id
            for (head, relation, tail), doc in zip(task.gold.path, task.gold.path_doc_ids, strict=True):
                fact = by_relation[head, relation]
                assert (at, fact.tail, fact.doc_id) == (head, tail, doc)
                at = tail
            assert tuple(r for _, r, _ in task.gold.path) == KINDS[task.kind]
            assert len(task.gold.path) == task.hops == len(set(task.gold.doc_ids))
            assert [a.text for a in task.gold.answers] == [world.entity(at).name]
            assert world.entity(at).name not in task.question


def test_a_marriage_stands_on_one_page_only(made):
    for world in made:
        pages = {p.id: p.text.split() for p in world.passages()}
        spouses = [f for e in world.entities() for f in world.facts(e.id) if f.relation == "spouse"]
        assert len(spouses) == 20
        for fact in spouses:
            assert world.entity(fact.tail).name in pages[fact.head]
            assert world.entity(fact.head).name not in pages[fact.tail]


def test_a_bare_name_finds_its_own_page_first_and_the_oracle_finds_all_gold(made):
    for world in made:
        retriever = BM25Retriever.from_passages(world.passages())
        for entity in world.entities():
            assert retriever.search(entity.name, 2)[0].passage.id == entity.id
        for task in world.tasks("train"):
            queries = worlds.oracle_queries(task)
            found = [[h.passage.id for h in retriever.search(q, 2)] for q in queries]
            assert len(queries) == len(task.gold.doc_ids)
            assert all(doc in ids for doc, ids in zip(task.gold.doc_ids, found, strict=True))


def test_worlds_are_redrawn_and_kinds_are_balanced(made):
    births = {tuple((f.head, f.tail) for e in w.entities() for f in w.facts(e.id)) for w in made}
    assert len(births) == len(made)
    for world in made:
        kinds = [t.kind for t in world.tasks("train")]
        assert all(kinds.count(kind) == TASKS_PER_KIND for kind in KINDS)
        assert kinds[: len(KINDS)] == list(KINDS)


def test_a_world_belongs_to_one_split_by_its_seed(made):
    with pytest.raises(ConfigError, match=r"belongs to the split 'train'.*no dev tasks"):
        made[0].tasks("dev")
    with pytest.raises(ConfigError, match=r"split 'tset'.*did you mean 'test'"):
        made[0].tasks("tset")


def test_rubrics_and_nuggets_say_the_path_in_words(made):
    task = next(t for t in made[0].tasks("train") if t.kind == "4")
    names = [e.name for e in task.gold.entities]
    assert [r.text for r in task.gold.rubrics] == [
        f"<E1> wrote {names[0]}",
        "<E1> is married to <E2>",
        "<E2> was born in <E3>",
        "<E3> lies in <E0>",
    ]
    assert task.gold.nuggets[2].text == f"{names[2]} was born in {names[3]}."
    assert task.gold.nuggets[2].doc_ids == (task.gold.doc_ids[2],)
    slots = worlds.rubric_slots(task.gold)
    assert {slot: e.name for slot, e in slots.items()} == {
        "E0": names[4],
        "E1": names[1],
        "E2": names[2],
        "E3": names[3],
    }
