"""Low-rank adapters through peft: a large model learns by a few small matrices, and checkpoints hold only those.

`policy_args.lora = 16` puts adapters of rank 16 beside every linear layer but the output head. `save` writes peft's own
format, which `AutoModelForCausalLM.from_pretrained` reads where peft is installed.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from agentgym.errors import ConfigError, DataError, MissingExtraError
from agentgym.policies.hf.model import ADAPTERS
from agentgym.seeding import stream

try:
    import peft as _peft
except ImportError as _error:
    raise MissingExtraError("LoRA (policy_args.lora)", "peft", "pip install 'agentic-gym[lora]'") from _error

peft: Any = _peft
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
"""What peft's files put before the names of a model's weights."""


def attach(model: Any, rank: int, *, alpha: float = 0.0, base: str = "", seed: int = 0) -> None:
    """Put adapters into a model, in place: its own weights are frozen, the adapters are what learns.

    The model computes the same as before until it learns: the second matrix of each pair starts at 0.

    Args:
        model: A transformers causal language model.
        rank: Of each adapter.
        alpha: Their factor is alpha / rank; 0 takes 2 * rank, so the factor 2.
        base: Folder or hub id of the model, for who loads the adapters later.
        seed: Key of the first matrices.

    Raises:
        ConfigError: The rank is not above 0, or the model has no linear layer that peft knows.
    """
    if not isinstance(rank, int) or rank < 1:
        raise ConfigError(f"policy_args.lora = {rank!r}: the rank of the adapters, a whole number above 0; leave it out for none")
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha or 2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )  # fmt: skip
    try:
        with torch.random.fork_rng(devices=[]):  # peft draws matrices of its own, which are replaced
            peft.inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ConfigError(f"policy_args.lora: {type(model).__name__} takes no adapters: {error}") from error
    setattr(model, ADAPTERS, config)
    with torch.no_grad():
        for name, weight in adapters(model).items():
            if ".lora_A." in name:
                draw = stream("lora", seed, name).standard_normal(tuple(weight.shape)) / weight.shape[1] ** 0.5
                weight.copy_(torch.from_numpy(draw))


def adapters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the adapters' weights by name."""
    return {name: p for name, p in model.named_parameters() if ".lora_" in name}


def save(model: Any, directory: Path) -> None:
    """Write the adapters as peft does: weights and configuration."""
    weights = {f"{PREFIX}{name.replace('.default.', '.')}": p.detach().cpu().contiguous() for name, p in adapters(model).items()}
    save_file(weights, str(directory / WEIGHTS), metadata={"format": "pt"})
    config = copy.copy(getattr(model, ADAPTERS))
    config.inference_mode = True
    body = {name: sorted(v) if isinstance(v, set) else v for name, v in config.to_dict().items()}
    (directory / CONFIG).write_text(json.dumps(body, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")


def load(model: Any, directory: Path) -> None:
    """Read what `save` wrote into a model with the same adapters. Raises DataError for anything else."""
    try:
        saved = load_file(str(directory / WEIGHTS))
    except (OSError, ValueError) as error:
        raise DataError(f"{directory}: holds no adapters ({WEIGHTS}): {error}") from error
    own = {f"{PREFIX}{name.replace('.default.', '.')}": p for name, p in adapters(model).items()}
    wrong = [name for name in own.keys() | saved.keys() if name not in own or name not in saved or own[name].shape != saved[name].shape]
    if wrong:
        raise DataError(f"{directory}: adapters of another shape or place than this model's, e.g. {sorted(wrong)[0]}")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(saved[name])
