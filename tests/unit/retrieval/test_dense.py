"""Vector indexes and the dense part of an index: kinds, recall, resuming, damage, other encoders, SearchQA over it."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrieval_servers import TOPICS, passages, static_encoder, write_passages

from agentgym import Answer, Gold, Task
from agentgym.cli.main import main
from agentgym.errors import AgentGymError, ConfigError, DataError
from agentgym.retrieval import Retriever, build_index, dense
from agentgym.retrieval.backends import open_corpus
from agentgym.retrieval.dense import DenseRetriever, build_dense, open_dense
from agentgym.retrieval.vectors import ExactVectors, FaissVectors, build_vectors, plan_vectors
from agentgym.seeding import stream

QUERIES = ["violin", "neoharbour near neoglacier", "number7 lantern", "nothing known", " "]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build_index(write_passages(tmp_path / "corpus.jsonl", passages()), tmp_path / "ix")
    return tmp_path / "ix"


@pytest.fixture
def table(tmp_path: Path) -> str:
    return f"static:{static_encoder(tmp_path / 'table', TOPICS)}"


def unit(n: int, d: int, seed: int) -> np.ndarray:
    rng = stream("vectors-test", seed)
    centres = rng.normal(size=(20, d))
    rows = centres[rng.integers(20, size=n)] + 0.5 * rng.normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 1000))
def test_exact_search_is_a_stable_sort_of_all_products(n: int, k: int, seed: int) -> None:
    rng = stream("exact", seed)
    rows, queries = rng.integers(-2, 3, (n, 4)).astype(np.float32), rng.integers(-2, 3, (3, 4)).astype(np.float32)
    scores, places = ExactVectors(rows).search(queries, k)
    products = queries @ rows.T
    for row, found, at in zip(products, scores, places, strict=True):
        expected = sorted(range(n), key=lambda i: (-row[i], i))[:k]
        assert at[: len(expected)].tolist() == expected
        assert found[: len(expected)].tolist() == [row[i] for i in expected]
        assert (at[len(expected) :] == -1).all()


@pytest.mark.parametrize(
    ("n", "kind", "factory"),
    [
        (100, "flat", "Flat"),
        (200_000, "flat", "Flat"),
        (200_001, "hnsw", "HNSW32,SQ8"),
        (21_015_324, "ivfpq", "IVF16384,PQ96x4fs,Refine(SQ8)"),
    ],
)
def test_the_size_chooses_the_kind(n: int, kind: str, factory: str) -> None:
    plan = plan_vectors(n, 384)
    assert (plan.kind, plan.factory) == (kind, factory)


def test_a_kind_that_does_not_suit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"kind='ivf'.*did you mean 'ivfpq'"):
        plan_vectors(10, 8, "ivf")
    with pytest.raises(ConfigError, match="1,024 vectors or more"):
        plan_vectors(1_000, 8, "ivfpq")


@pytest.mark.dense
@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq"])
def test_every_kind_reaches_its_recall_and_is_the_same_when_opened(kind: str, tmp_path: Path) -> None:
    both = unit(3_050, 32, 0)
    rows, queries = both[:3_000], both[3_000:]
    described = build_vectors(rows.astype(np.float16), queries, tmp_path / "v.faiss", plan_vectors(3_000, 32, kind))
    assert described["recall_at_10"] >= 0.95
    assert described["tried"][-1] == {**described["settings"], "recall": described["recall_at_10"]}
    opened = FaissVectors(tmp_path / "v.faiss", described)
    _, truth = ExactVectors(rows.astype(np.float16)).search(queries, 10)
    scores, found = opened.search(queries, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(truth.tolist(), found.tolist(), strict=True)]
    assert np.mean(shared) / 10 == pytest.approx(described["recall_at_10"], abs=0.005)
    assert (np.diff(scores, axis=1) <= 0).all()
    if kind == "flat":
        assert described["recall_at_10"] == 1.0
    alone = np.concatenate([opened.search(queries[i : i + 1], 10)[1] for i in range(len(queries))])
    np.testing.assert_array_equal(found, alone)


@pytest.mark.dense
def test_damaged_vector_files_are_named_at_any_length(tmp_path: Path) -> None:
    rows = unit(200, 8, 0)
    path = tmp_path / "v.faiss"
    described = build_vectors(rows, rows[:5], path, plan_vectors(200, 8))
    whole = path.read_bytes()
    for size in [0, 3, 10, 30, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"v\.faiss: missing or damaged"):
            FaissVectors(path, described)
    path.write_bytes(whole)
    with pytest.raises(DataError, match="holds 200 vectors of 8, the manifest says 300 of 8"):
        FaissVectors(path, {**described, "n": 300})


@pytest.mark.dense
def test_a_dense_part_on_disk_finds_what_search_in_memory_finds(index: Path, table: str) -> None:
    manifest = build_dense(index, table, queries=["violin", "glacier"])
    assert manifest["vectors"]["kind"] == "flat"
    assert manifest["vectors"]["recall_at_10"] == 1.0
    opened, memory = open_dense(index, verify=True), DenseRetriever.from_passages(passages(), table)
    for query in QUERIES:
        found, expected = opened.search(query, 5), memory.search(query, 5)
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=2e-3)
        assert {h.passage.title.split()[0] for h in found} == {h.passage.title.split()[0] for h in expected}
    assert opened.search_many(QUERIES, 5) == [opened.search(q, 5) for q in QUERIES]
    assert opened.search("neoharbour", 3)[0].passage.title.startswith("Harbour"), "a word that no passage has"
    assert opened.search("violin", 0) == []
    assert len(opened.search("violin", 10**9)) <= 60
    assert isinstance(opened, Retriever)
    assert pickle.loads(pickle.dumps(opened)).search("violin", 2) == opened.search("violin", 2)
    assert opened.passage("p5") == passages()[5]
    assert opened.passage("none") is None


@pytest.mark.dense
def test_a_killed_build_goes_on_after_its_last_whole_shard(index: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "SHARD", 16)
    encoded: list[int] = []
    encode = dense.open_encoder(table).__class__.encode_passages

    def dying(self: Any, given: Any) -> np.ndarray:
        encoded.append(len(given))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return encode(self, given)

    monkeypatch.setattr(type(dense.open_encoder(table)), "encode_passages", dying)
    with pytest.raises(KeyboardInterrupt):
        build_dense(index, table)
    assert not (index / "dense").exists()
    with pytest.raises(DataError, match="this index has no dense part; make it with `agentgym index dense"):
        open_dense(index)
    build_dense(index, table)
    assert encoded == [16, 16, 16, 16, 12], "the third shard again, the first two not"
    build_dense(index, table, kind="hnsw", overwrite=True)
    assert len(encoded) == 5, "another kind takes the vectors that are there"
    assert open_dense(index).search("violin", 1)
    assert [p.name for p in index.iterdir() if p.name.startswith(".dense")] == []


@pytest.mark.dense
def test_a_dense_part_is_tied_to_its_index_and_its_encoder(index: Path, table: str, tmp_path: Path) -> None:
    build_dense(index, table)
    with pytest.raises(ConfigError, match="is there already; replace it with --overwrite"):
        build_dense(index, table)
    other = f"static:{static_encoder(tmp_path / 'other', TOPICS, seed=1)}"
    with pytest.raises(ConfigError, match="search with the encoder that the passages were encoded with"):
        open_dense(index, other)
    kept = index / "dense"
    shutil.copytree(kept, tmp_path / "kept")
    build_index(write_passages(tmp_path / "corpus.jsonl", passages(30)), index, overwrite=True)
    shutil.copytree(tmp_path / "kept", kept)
    with pytest.raises(DataError, match="made for another state of the index"):
        open_dense(index)


@pytest.mark.dense
@pytest.mark.parametrize("name", ["manifest.json", "vectors.faiss", "vectors.npy"])
def test_damage_to_any_file_is_named(index: Path, table: str, name: str) -> None:
    build_dense(index, table)
    path = index / "dense" / name
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], None):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged|no dense part") as caught:
            open_dense(index)
        assert "agentgym index dense" in str(caught.value)
    flipped = bytearray(whole)
    flipped[-40] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(AgentGymError):
        open_dense(index, verify=True)
    assert main(["index", "verify", str(index)]) == 2, "the command looks at the dense part too"


@pytest.mark.dense
@pytest.mark.parametrize("name", ["dense", "hybrid"])
def test_searchqa_searches_the_backend_that_it_is_told(index: Path, table: str, name: str) -> None:
    build_dense(index, table)
    task = Task("t", "Which violin?", Gold(answers=(Answer("x"),), doc_ids=("p3",)))
    env = gym.make("SearchQA-v0", tasks=[task], index=index, retriever=name)
    env.reset(seed=0)
    shown = env.step("<search>neoviolin</search>")[0]
    assert "[1] Violin" in shown, "only vectors know that word"
    assert open_corpus(index, name).search("neoviolin", 3)
    lexical = gym.make("SearchQA-v0", tasks=[task], index=index)
    lexical.reset(seed=0)
    assert "nothing found" in lexical.step("<search>neoviolin</search>")[0]


def test_files_and_worlds_are_searched_by_vectors_in_memory(tmp_path: Path, table: str) -> None:
    path = write_passages(tmp_path / "corpus.jsonl", passages())
    assert open_corpus(path, f"hybrid:{table}") is open_corpus(path, f"hybrid:{table}")
    assert open_corpus(path, f"dense:{table}").search("neoviolin", 1)
    env = gym.make("SearchQA-v0", world="synthetic:natural?entities=100&seed=0", retriever=f"hybrid:{table}")
    env.reset(seed=0)
    world: Any = env.unwrapped
    assert type(world.corpus(world.task)).__name__ == "HybridRetriever"
    assert "[1]" in env.step(f"<search>{world.task.question}</search>")[0]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("hybird", "unknown retriever 'hybird'; did you mean 'hybrid'"),
        ("bm25:minilm", "bm25 takes no encoder"),
        ("hybrid+rerank", r"name the cross-encoder"),
        ("http://127.0.0.1:9", "give it or index=, not both"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_opened(name: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(AgentGymError, match=problem):
        gym.make("SearchQA-v0", index=tmp_path / "none", tasks=[Task("t", "?", Gold())], retriever=name)


@pytest.mark.dense
def test_the_manifest_says_what_decides_the_vectors(index: Path, table: str) -> None:
    build_dense(index, table)
    manifest = json.loads((index / "dense" / "manifest.json").read_text())
    assert manifest["encoder"] == {"kind": "static", "dim": 16, "fingerprint": manifest["encoder"]["fingerprint"]}
    assert manifest["spec"] == table
    assert set(manifest["files"]) == {"made.json", "vectors.faiss", "vectors.npy"}


@pytest.mark.dense
def test_two_builders_of_one_dense_part_are_told_apart(index: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    join = dense._joined

    def meanwhile(*args: Any) -> np.ndarray:
        with pytest.raises(ConfigError, match=r"process \d+ .*builds this index") as caught:
            build_dense(index, table)
        told.append(str(caught.value))
        return join(*args)

    monkeypatch.setattr(dense, "_joined", meanwhile)
    build_dense(index, table)
    assert len(told) == 1
    assert open_dense(index).search("violin", 1)
