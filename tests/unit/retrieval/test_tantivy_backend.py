import copy
import pickle

import pytest

pytest.importorskip("tantivy")

from agentgym import hooks
from agentgym.retrieval import Retriever
from agentgym.types import Passage

PASSAGES = [Passage("a", "Chad", "A country of Africa."), Passage("b", "Mali", "Countries of Africa: Mali."), Passage("c", "", "")]


def test_tantivy_is_a_retriever_by_name() -> None:
    retriever = hooks.RETRIEVERS.resolve("tantivy")(PASSAGES)
    assert isinstance(retriever, Retriever)
    assert [h.passage.id for h in retriever.search('mali AND ("', 2)] == ["b"]
    assert {h.passage.id for h in retriever.search("country", 5)} == {"a", "b"}
    assert retriever.search_many(["mali", "", "?!"], 2) == [retriever.search("mali", 2), [], []]
    assert retriever.passage("a") == PASSAGES[0]
    assert copy.deepcopy(retriever) is retriever
    assert pickle.loads(pickle.dumps(retriever)).search("chad", 1) == retriever.search("chad", 1)
