"""The natural setting: names, facts, pages, questions and splits."""

import re
from collections import Counter, defaultdict

import pytest

from agentgym import worlds
from agentgym.errors import ConfigError
from agentgym.retrieval import BM25Retriever
from agentgym.worlds.natural.facts import Facts
from agentgym.worlds.natural.page_words import PAGE_WORDINGS, STATEMENTS
from agentgym.worlds.natural.plans import find_plans
from agentgym.worlds.natural.question_words import ASKS, PHRASES
from agentgym.worlds.natural.schema import BY_NAME, KEY_YEAR, RELATIONS, YEAR
from agentgym.worlds.natural.templates import INTERSECTION
from agentgym.worlds.natural.world import NaturalWorld
from agentgym.worlds.world import SPLITS, World

SIZE = 400


@pytest.fixture(scope="module")
def world() -> NaturalWorld:
    return NaturalWorld(worlds.WorldSpec("natural", entities=SIZE, seed=1))


@pytest.fixture(scope="module")
def tasks(world):
    return [t for split in SPLITS for t in world.tasks(split)]


@pytest.fixture(scope="module")
def triples(world):
    return list(world.triples())


def names_of(world: World) -> dict[str, set[str]]:
    found = defaultdict(set)
    for entity in world.entities():
        for name in (entity.name, *entity.aliases):
            found[name].add(entity.id)
    return found


def mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def test_all_names_differ_but_those_of_namesakes():
    world = NaturalWorld(worlds.WorldSpec("natural", entities=5_000, seed=2))
    shared = {name: ids for name, ids in names_of(world).items() if len(ids) > 1}
    assert len(shared) > 100
    for name, ids in shared.items():
        people = [world.entity(i) for i in ids]
        assert {e.name for e in people} == {name}
        titles = [e.aliases[0] for e in people]
        assert len(set(titles)) == len(people) == 2
        assert all(t.startswith(f"{name} (") for t in titles)


def test_each_relation_has_at_least_eight_wordings_and_pages_use_them(world):
    for relation in RELATIONS:
        wordings = PAGE_WORDINGS[relation.name]
        assert len(set(wordings)) >= 8
        assert all(w.count("{t}") == 1 and "{h}" in w for w in wordings)
        asks = len(set(ASKS[relation.name])) + len(set(PHRASES.get(relation.name, ())))
        assert asks >= (4 if relation.tail == YEAR else 8)
    texts = [p.text for p in world.passages() if p.id[0] == "p"]
    for wording in PAGE_WORDINGS["birthplace"]:
        pattern = re.escape(wording).replace(r"\{h\}", ".+").replace(r"\{t\}", r"\w+")
        assert any(re.search(pattern, t) for t in texts), wording


def test_a_fact_stands_in_its_own_article_and_not_in_the_other(world, triples):
    pages = {p.id: p.text for p in world.passages()}
    named = defaultdict(set)
    for head, _, tail in triples:
        named[head].add(world.entity(tail).name)
    for head, relation, tail in triples:
        assert mentions(pages[head], world.entity(tail).name), (head, relation, tail)
        name = world.entity(head).name
        if tail[0] != YEAR and name not in named[tail] | {world.entity(tail).name}:
            assert not mentions(pages[tail], name)


def test_distractor_pages_deny_what_they_tell(world, triples):
    facts = {(relation, world.entity(h).name, world.entity(t).name) for h, relation, t in triples}
    rumours = [p.text for p in world.passages() if p.title.startswith("Rumour")]
    assert rumours
    claimed = 0
    for relation, statement in STATEMENTS.items():
        pattern = re.escape(statement).replace(r"\{h\}", "(?P<h>.+)").replace(r"\{t\}", "(?P<t>.+)")
        for match in (re.search(rf"that {pattern}\.", text.split(". ")[0] + ".") for text in rumours):
            if match:
                claimed += 1
                assert (relation, match["h"], match["t"]) not in facts
    assert claimed >= len(rumours)
    assert all(re.search("false|wrong|reject|mistake", text) for text in rumours)


def test_pages_have_50_to_100_words(world):
    lengths = [len(p.text.split()) for p in world.passages()]
    assert len(lengths) == world.n_passages == SIZE + SIZE // 10
    assert min(lengths) >= 50
    assert max(lengths) <= 100


def test_answers_are_unique_by_execution_over_all_facts(world, tasks, triples):
    tails, heads = defaultdict(set), defaultdict(set)
    for head, relation, tail in triples:
        tails[head, relation].add(tail)
        heads[relation, tail].add(head)
    seen = Counter(t.kind for t in tasks)
    assert min(seen[k] for k in ("chain", "intersection", "comparison")) > 20
    for task in tasks:
        gold = task.gold
        answer = next(e for e in gold.entities if e.role == "answer")
        assert all(tails[head, relation] == {tail} for head, relation, tail in gold.path)
        if task.kind == "intersection":
            (item, first, a), (_, second, b) = gold.path[2:4]
            assert heads[first, a] & heads[second, b] == {item}
        if task.kind == "comparison":
            years = {head: int(tail[1:]) for head, relation, tail in gold.path[2:4] if relation in KEY_YEAR.values()}
            winner = gold.path[-1][0]
            loser = next(h for h in years if h != winner)
            order = "before" if " before <E2>" in gold.rubrics[-1].text else "after"
            assert (years[winner] < years[loser]) == (order == "before")
            assert years[winner] != years[loser]
            assert tails[loser, gold.path[-1][1]] != {answer.id}
        last = gold.path[-1]
        assert answer.id in (last[2], last[0])
        assert gold.answers[0].text == world.entity(answer.id).name


def test_questions_name_their_starts_alone_and_without_doubt(world, tasks):
    known = names_of(world)
    for task in tasks:
        named = {n for n in known if n in task.question and mentions(task.question, n)}
        starts = [e for e in task.gold.entities if e.role == "start"]
        for start in starts:
            said = max((n for n in (start.name, *start.aliases) if n in task.question), key=len)
            owners = known.get(said) or {start.id}  # "the botanist Mira Halvorsen" is in no other entity's names
            assert owners == {start.id}
        start_names = {n for s in starts for n in (s.name, *s.aliases)}
        assert named <= start_names, (task.question, named - start_names)
        for answer in task.gold.answers:
            assert not any(mentions(task.question, name) for name in (answer.text, *answer.aliases))


def test_gold_has_what_rewards_need(tasks):
    for task in tasks:
        gold = task.gold
        assert len(gold.doc_ids) <= 4
        assert len(gold.path) == len(gold.path_doc_ids)
        assert set(gold.doc_ids) == set(gold.path_doc_ids)
        assert len(gold.nuggets) == len(gold.path) <= len(gold.rubrics)
        slots = worlds.rubric_slots(gold)
        used = set(re.findall(r"<(E\d+)>", " ".join(r.text for r in gold.rubrics)))
        assert used == set(slots)
        assert [e.role for e in gold.entities].count("answer") == 1
        assert all((e.hop == 0) == (e.role == "start") for e in gold.entities)
        assert task.hops == (len(gold.path) if task.kind == "chain" else task.hops)
        assert 1 <= task.hops <= 4
        assert not task.meta


def test_start_entities_and_entity_answers_share_the_split(world):
    starts: dict[str, set[str]] = {}
    for split in SPLITS:
        tasks = world.tasks(split)
        starts[split] = {e.id for t in tasks for e in t.gold.entities if e.role == "start"}
        answers = {e.id for t in tasks for e in t.gold.entities if e.role == "answer" and e.id[0] != YEAR}
        assert {world.split_of(e) for e in starts[split] | answers} == {split}
        assert {t.split for t in tasks} == {split}
    assert not starts["train"] & starts["dev"]
    assert not starts["train"] & starts["test"]


def test_the_oracle_finds_every_gold_passage(world, tasks):
    retriever = BM25Retriever.from_passages(world.passages())
    for task in tasks[:1500]:
        queries = worlds.oracle_queries(task)
        for doc, query in zip(task.gold.doc_ids, queries, strict=True):
            assert doc in [h.passage.id for h in retriever.search(query, 3)], (task.question, query)


def test_incoming_is_the_reverse_of_facts(world, triples):
    expected = defaultdict(set)
    for head, relation, tail in triples:
        expected[tail].add((head, relation))
    for entity in world.entities():
        assert {(f.head, f.relation) for f in world.incoming(entity.id)} == expected[entity.id]
    year = next(t for _, r, t in triples if BY_NAME[r].tail == YEAR)
    assert {(f.head, f.relation) for f in world.incoming(year)} == expected[year]
    assert world.entity(year).name == year[1:]


@pytest.mark.parametrize("bad", ["", "p", "x3", "p-1", "p01", "p99999", "c\u0661", "y12345678901234567890"])
def test_unknown_entities_are_named(world, bad):
    with pytest.raises(ConfigError, match="no entity"):
        world.entity(bad)


def test_an_empty_split_names_the_smallest_size_that_works():
    source = worlds.SyntheticTasks.parse("synthetic:natural?entities=100&seed=2&kinds=intersection")
    with pytest.raises(
        ConfigError, match=r"'test' of synthetic:natural\?entities=100&seed=2 .*entities=(\d+)"
    ) as error:
        source.split("test")
    size = int(re.findall(r"entities=(\d+)$", str(error.value))[0])
    assert worlds.SyntheticTasks.parse(f"synthetic:natural?entities={size}&seed=2&kinds=intersection").split("test")
    smaller = [find_plans(Facts(2, n))[SPLITS.index("test")] for n in range(101, size)]
    assert not any((plans[:, 0] == INTERSECTION).any() for plans in smaller)
