"""docs/training_elsewhere.md: its blocks run, where the package they are about is installed."""

import re
import warnings
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "training_elsewhere.md"


def block(heading: str) -> str:
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert section
    code = re.search(r"```python\n(.*?)```", section[1], re.DOTALL)
    assert code
    return code[1]


def test_plain_arrays():
    names: dict = {}
    exec(compile(block("From plain arrays"), str(PAGE), "exec"), names)
    assert names["per_token"].shape == (2, 7)
    assert (names["per_token"] != 0).tolist() == [[bool(x) for x in row] for row in names["mask"]]


@pytest.mark.trl
@pytest.mark.torch
def test_trl(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs the extra `train`")
    pytest.importorskip("trl", reason="needs the extra `trl`: make extra-trl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TRL, datasets and accelerate warn about is theirs
        exec(compile(block("TRL"), str(PAGE), "exec"), names)
    trainer = names["trainer"]
    assert trainer.state.global_step == 2
    assert trainer.credit_result.arrays.in_loss.all()
    logged = [name for entry in trainer.state.log_history for name in entry]
    assert "credit/s_T" in logged


def test_verl():
    pytest.importorskip("verl", reason="verl is not installed")
    names: dict = {}
    exec(compile(block("verl"), str(PAGE), "exec"), names)
    assert names["TurnAgentLoop"].__mro__[1] is names["ToolAgentLoop"]
