"""The extractive policy: it searches for the question as it stands, answers by form, and knows nothing of gold."""

import asyncio
from dataclasses import replace

import pytest

from agentgym.errors import ConfigError
from agentgym.policies.extractive import ExtractivePolicy, extract
from agentgym.retrieval import BM25Retriever
from agentgym.rollout import EnvPool, Request, run_groups
from agentgym.task import Answer, Gold, Task
from agentgym.types import Message, Passage, Trajectory

PASSAGES = (
    Passage("kell", "Mira Kell", "Mira Kell (born 4 May 1921) was a painter. In 1950 she moved to Port Anselm."),
    Passage("anselm", "Port Anselm", "Port Anselm is a harbour. Its mayor is Jon of the Vale. It has 3,120 inhabitants."),
    Passage("tags", "Tags", "The reply </answer> & <search> are tags."),
)
QUESTIONS = (
    "Where did the painter Mira Kell move in 1950?",
    "What do <search>, </answer> & tags mean?",
    "Quel est ce mot étranger?",
)


def episodes(gold: Gold, **options: str) -> list[Trajectory]:
    tasks = [Task(str(i), question, gold) for i, question in enumerate(QUESTIONS)]
    pool = EnvPool("SearchQA-v0", tasks=tasks, retriever=BM25Retriever.from_passages(PASSAGES), **options)
    groups = run_groups(pool, ExtractivePolicy(), tasks, group_size=1, key=(0, 0))
    return [g.trajectories[0] for g in groups]


@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("observation", ["full", "compact"])
def test_the_question_is_the_query_and_gold_changes_nothing(dialect: str, observation: str) -> None:
    played = episodes(Gold((Answer("Port Anselm"),)), dialect=dialect, observation=observation)
    direct = BM25Retriever.from_passages(PASSAGES)
    for question, trajectory in zip(QUESTIONS, played, strict=True):
        assert [c.name for t in trajectory.turns for c in t.calls] == ["search", "answer"]
        found = [d.id for d in trajectory.turns[0].results[0].documents]
        assert found == [hit.passage.id for hit in direct.search(question, 3)]
    assert played[0].answer == "Port Anselm"
    assert played[0].success
    assert played[2].answer == "unknown", "nothing found"
    blind = episodes(Gold((Answer("something else"),), doc_ids=("tags",)), dialect=dialect, observation=observation)
    assert [[t.action for t in e.turns] for e in blind] == [[t.action for t in e.turns] for e in played]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Where did the painter Mira Kell move?", "Port Anselm"),
        ("Who is the mayor of Port Anselm?", "Jon of the Vale"),
        ("When was the painter Mira Kell born?", "4 May 1921"),
        ("In which year did Mira Kell move to Port Anselm?", "1950"),
        ("How many inhabitants does Port Anselm have?", "3,120"),
        ("Is Port Anselm a harbour?", "yes"),
        ("Who was born first, Ada Nowhere or Mira Kell?", "Mira Kell"),
        ("Which one is a harbour, Port Anselm or Lake Boon?", "Port Anselm"),
        ("Whom did the mayor Jon of the Vale meet in Port Anselm?", "unknown"),
    ],
)  # fmt: skip
def test_the_answer_has_the_form_that_is_asked_for(question: str, answer: str) -> None:
    """No answer shares a word with the question: in the last row no name is left."""
    shown = "\n".join(f"[{n}] {p.title} (doc:{p.id})\n{p.text}" for n, p in enumerate(PASSAGES[:2], 1))
    found = Message.of("user", f"<information>\n{shown}\n[budget] searches left: 3\n</information>")
    assert extract(question, found) == answer


def test_names_may_begin_with_any_capital() -> None:
    found = Message.of("user", "<information>\n[1] Mühle (doc:m)\nDie Mühle wurde von Änne Größler aus Žďár gebaut.\n</information>")
    assert extract("Who built the Mühle?", found) == "Änne Größler"


def test_frame_and_status_are_no_candidates() -> None:
    found = Message.of("user", "<information>\n[1] It (doc:Some Name)\nIt is.\n[budget] searches left: 3\n</information>")
    assert extract("Who is it?", found) == "unknown"
    assert extract("How many searches are left?", found) == "unknown"


def test_a_driver_without_dialect_is_told_and_the_oracle_is_not_read() -> None:
    request = Request("e", (Message.of("user", QUESTIONS[0]),), (), (), (0,))
    with pytest.raises(ConfigError, match=r"Request\.dialect"):
        asyncio.run(ExtractivePolicy().act([request]))
    assert not ExtractivePolicy.privileged
    pool = EnvPool("SearchQA-v0", world="synthetic:closed?worlds=4")
    ready = replace(request, dialect=pool.first.dialect, tools=pool.first.specs)
    told = replace(ready, oracle="<answer>gold</answer>")
    first, second = asyncio.run(ExtractivePolicy().act([ready, told]))
    assert first.text == second.text
