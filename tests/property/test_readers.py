"""Whatever a question file holds, reading gives tasks or an error that names the line."""

import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import DataError
from agentgym.worlds.readers import read_context, read_tasks

FIELDS = [
    *("id", "question", "answer", "answers", "golden_answers", "aliases", "gold_passages", "hops", "type", "metadata"),
    *("supporting_facts", "context", "evidences", "evidences_id", "decomposition", "paragraphs", "source"),
]
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["#1", "a >> b", "\ud800"])
KEYS = st.sampled_from(
    ["title", "sentences", "question", "answer", "paragraph_text", "is_supporting", "idx", "paragraph_support_idx"]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6), st.booleans())
def test_rows_are_read_or_refused_with_their_line(changes: dict, as_list: bool) -> None:
    row = {"question": "q", "answer": "a"} | changes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q.json"
        path.write_text(json.dumps([row]) if as_list else json.dumps(row), encoding="utf-8")
        for reader in (read_tasks, read_context):
            try:
                n_read, refusal = len(reader(path)), ""
            except DataError as error:
                n_read, refusal = 0, str(error)
            assert n_read >= 1 or refusal.startswith((f"{path}:1: ", f"{path}: no contexts found"))
