"""Encoders: conventions of families, static tables, bad files; the real MiniLM where it is installed."""

from pathlib import Path

import numpy as np
import pytest
from retrieval_servers import TOPICS, passages, static_encoder, write_passages, write_safetensors

from agentgym.errors import ConfigError, DataError
from agentgym.retrieval.backends import open_corpus
from agentgym.retrieval.encoder_specs import convention_of, minilm_folder, open_encoder
from agentgym.retrieval.encoders import Convention, Encoder, StaticEncoder, joined, read_safetensors
from agentgym.types import Passage

pytest.importorskip("tokenizers")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("intfloat/e5-base-v2", Convention("query: ", "passage: ", "mean", 512)),
        ("models/multilingual-E5-small/", Convention("query: ", "passage: ", "mean", 512)),
        ("BAAI/bge-small-en-v1.5", Convention("Represent this sentence for searching relevant passages: ", "", "cls", 512)),
        ("sentence-transformers/all-MiniLM-L6-v2", Convention("", "", "mean", 256)),
    ],
)
def test_a_family_is_told_by_its_name(place: str, expected: Convention) -> None:
    assert convention_of(place, {}, place) == expected


def test_settings_win_over_files_and_files_over_the_family(tmp_path: Path) -> None:
    folder = tmp_path / "bge-own"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": false}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    own = convention_of(str(folder), {"query_prefix": "ask: "}, "x")
    assert own == Convention("ask: ", "", "mean", 128)
    assert convention_of(str(folder), {"max_tokens": "64", "pooling": "cls"}, "x").max_tokens == 64
    assert convention_of("a-model", {"convention": "e5"}, "x").query_prefix == "query: "


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("hf:some/model", "neither its name nor its files tell"),
        ("hf:./no_such_folder", r"there is no folder \./no_such_folder \(working folder: "),
        ("hf:e5?poling=cls", "unknown setting 'poling'; did you mean 'pooling'"),
        ("hf:e5?pooling=max", "pooling is 'max'"),
        ("hf:e5?max_tokens=many", "max_tokens is 'many'"),
        ("hf:x?convention=e6", "convention 'e6'.* did you mean 'e5'"),
        ("minilmm", "encoder 'minilmm' is not known.*did you mean 'minilm'"),
        ("static:x?pooling=cls", "takes no settings"),
        ("hf:", "is not known"),
    ],
)
def test_a_wrong_spec_is_named(spec: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        open_encoder(spec)


def test_a_static_table_averages_the_vectors_of_known_tokens(tmp_path: Path) -> None:
    encoder = open_encoder(f"static:{static_encoder(tmp_path / 'table', TOPICS)}")
    assert isinstance(encoder, Encoder)
    table = read_safetensors(tmp_path / "table" / "model.safetensors")["embeddings"]
    rows = encoder.encode_queries(["Violin glacier", "unknown words", "", "violin  unknown GLACIER"])
    expected = (table[7] + table[9]) / 2  # [UNK], then six topics, each with its other name
    np.testing.assert_allclose(rows[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert not rows[1:3].any()
    np.testing.assert_array_equal(rows[0], rows[3])
    np.testing.assert_array_equal(encoder.encode_passages([Passage("p", "Violin", "glacier")])[0], rows[0])
    assert open_encoder(encoder.name) is encoder


def test_a_table_with_weights_and_a_mapping_is_read(tmp_path: Path) -> None:
    folder = static_encoder(tmp_path / "table", ["violin"], dim=4)
    small = np.eye(2, 4, dtype=np.float16)
    mapping, weights = np.array([0, 1, 0], np.int64), np.array([1, 3, 2], np.float32)
    write_safetensors(folder / "model.safetensors", {"embeddings": small, "mapping": mapping, "weights": weights})
    row = StaticEncoder(folder).encode_queries(["violin neoviolin"])[0]
    np.testing.assert_allclose(row, np.array([2, 3, 0, 0]) / np.sqrt(13), atol=1e-6)


def test_broken_tables_are_named(tmp_path: Path) -> None:
    folder = static_encoder(tmp_path / "table", TOPICS)
    whole = (folder / "model.safetensors").read_bytes()
    for size in (0, 4, 20, 300, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"model\.safetensors: not a whole safetensors file"):
            StaticEncoder(folder)
    write_safetensors(folder / "model.safetensors", {"other": np.zeros((2, 2), np.float32)})
    with pytest.raises(DataError, match="holds no table 'embeddings'; found other"):
        StaticEncoder(folder)
    write_safetensors(folder / "model.safetensors", {"embeddings": np.zeros((20, 2), np.float32)})
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be read"):
        StaticEncoder(folder)
    with pytest.raises(DataError, match="cannot be read"):
        StaticEncoder(tmp_path / "none")


@pytest.mark.minilm
@pytest.mark.torch
def test_minilm_puts_near_what_means_the_same() -> None:
    encoder = open_encoder("minilm")
    texts = ["The cat sleeps on the sofa.", "A kitten is napping on the couch.", "Interest rates rose by one percent."]
    rows = encoder.encode_queries(texts)
    assert rows.shape == (3, encoder.dim) == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > 0.5 > 0.3 > rows[0] @ rows[2]
    alone = np.concatenate([encoder.encode_queries([text]) for text in texts])
    np.testing.assert_allclose(rows, alone, atol=2e-6, err_msg="a vector must not depend on what it was batched with")


@pytest.mark.minilm
@pytest.mark.torch
def test_minilm_equals_pooling_by_hand() -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = minilm_folder()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = model(**tokenizer("Harbour\nA harbour near a glacier.", return_tensors="pt")).last_hidden_state[0]
    mean = states.mean(0).numpy()
    row = open_encoder("minilm").encode_passages([Passage("p", "Harbour", "A harbour near a glacier.")])[0]
    np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)
    first = states[0].numpy()
    row = open_encoder("minilm?pooling=cls&query_prefix=Harbour%0A").encode_queries(["A harbour near a glacier."])[0]
    np.testing.assert_allclose(row, first / np.linalg.norm(first), atol=1e-5)


@pytest.mark.minilm
@pytest.mark.torch
def test_a_wrong_dtype_and_a_folder_without_a_model_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dtype='float8'; allowed: float32"):
        open_encoder("minilm?dtype=float8")
    with pytest.raises(DataError, match="transformers cannot load it"):
        open_encoder(f"hf:{tmp_path}?convention=plain")


def test_a_published_table_gives_the_vectors_of_its_own_package() -> None:
    static_model = pytest.importorskip("static_model")
    folder = Path(static_model.__file__).parent / "model"
    texts = ["The cat sleeps on the sofa.", "Where was the director of Blue Harbour born?", "Tromsø, 77,000 people"]
    theirs = np.array(static_model.get_embeddings(texts))
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(open_encoder(f"static:{folder}").encode_queries(texts), theirs, atol=1e-5)


@pytest.mark.minilm
@pytest.mark.torch
def test_a_cross_encoder_reranks_by_its_own_logits(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    torch.manual_seed(0)
    for labels, name in ((1, "cross"), (2, "classes")):
        config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=labels)
        BertForSequenceClassification(config).eval().save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    corpus = write_passages(tmp_path / "corpus.jsonl", passages(24))
    hits = open_corpus(corpus, f"bm25+rerank:{tmp_path / 'cross'}").search("violin near the glacier", 24)
    found = open_corpus(corpus).search("violin near the glacier", 24)
    model = BertForSequenceClassification.from_pretrained(tmp_path / "cross").eval()
    with torch.inference_mode():
        logits = {
            h.passage.id: float(model(**tokenizer("violin near the glacier", joined(h.passage), return_tensors="pt")).logits)
            for h in found
        }
    assert [h.passage.id for h in hits] != [h.passage.id for h in found]
    assert {h.passage.id for h in hits} == set(logits)
    assert [logits[h.passage.id] for h in hits] == pytest.approx(sorted(logits.values(), reverse=True), abs=1e-4)
    with pytest.raises(DataError, match="gives 2 outputs a pair; a reranker gives 1"):
        open_corpus(corpus, f"bm25+rerank:{tmp_path / 'classes'}")
