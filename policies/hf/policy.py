"""HFPolicy: any transformers causal language model as a learnable policy."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from agentgym.errors import AgentGymError, ConfigError, DataError, LedgerError, suggestion
from agentgym.policies.hf import scorer, training
from agentgym.policies.hf.codec import TokenCodec
from agentgym.policies.hf.model import ADAPTERS, CausalModel
from agentgym.policies.hf.renderer import TemplateRenderer
from agentgym.policies.hf.sampler import Row, Sampler
from agentgym.policies.hf.sampling import StopStrings
from agentgym.rollout.policy import Request
from agentgym.seeding import stream
from agentgym.types import Completion, Message, TokenRows

DTYPES = ("float32", "bfloat16", "float16")
PROBE_TOKENS = (12, 4)
"""Tokens that the probe after a sync reads at once, and that it feeds one by one."""
PROBE_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
PROBE_TOLERANCE_HALF = 0.5


class HFPolicy:
    """A model and its tokenizer behind `act`, `logprobs`, `score`, `save` and `load`."""

    privileged = False
    served = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        device: str | torch.device | None = None,
        native_tools: bool = False,
        template_options: dict[str, Any] | None = None,
        max_context: int | None = None,
        **sampler_options: int,
    ) -> None:
        """Wrap a transformers model, which is changed in place (device, attention, evaluation mode).

        Args:
            model: An `AutoModelForCausalLM`.
            tokenizer: Its tokenizer; without a chat template a plain "User: … Assistant:" form is used.
            device: Where to put the model; None leaves it.
            native_tools: Hand tool specifications to the chat template (the dialects describe them already).
            template_options: Handed to the chat template, e.g. {"enable_thinking": False}.
            max_context: Longest context in tokens, completion included; None takes the model's own.
            sampler_options: min_rows, key_multiple, max_rows, prefill_tokens, cache_bytes: see `Sampler`.

        Raises:
            ConfigError: If the model or its chat template is of a kind that is not supported.
        """
        self.model, self.tokenizer = model, tokenizer
        self.version = 0
        self._causal = CausalModel(model, device)
        self._codec = TokenCodec(tokenizer)
        self.renderer = TemplateRenderer(self._codec, native_tools=native_tools, template_options=template_options)
        self.max_context = min(max_context or self._causal.max_context, self._causal.max_context)
        self._sampler = Sampler(self._causal, self._ends(), **sampler_options)
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self._stamp = self._causal.weights_stamp()

    def _ends(self) -> frozenset[int]:
        """Return the tokens that end a completion: what model and tokenizer call end of sequence, and of turn."""
        ends: set[int] = set()
        for ids in (getattr(self.model.generation_config, "eos_token_id", None), self.tokenizer.eos_token_id):
            ends.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
        return frozenset(ends if self.renderer.end_of_turn is None else ends | {self.renderer.end_of_turn})

    # ---- acting -----------------------------------------------------------------------------------

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Sample one completion per request, in order.

        A completion depends on its own request alone, bit for bit (on CPUs, in float32; see `load` on mixtures of
        experts).
        """
        if (stamp := self._causal.weights_stamp()) != self._stamp:
            # The weights changed without a sync: what is cached belongs to the old ones.
            self._sampler.store.clear()
            self._stamp = stamp
        done: dict[int, Completion] = {}
        rows: dict[int, Row] = {}
        for i, request in enumerate(requests):
            try:
                rows[i] = self._row(request)
            except AgentGymError as error:
                done[i] = Completion("", finish_reason="error", error=str(error), policy_version=self.version)
        try:
            self._sampler.run(list(rows.values()))
        except BaseException:
            self._sampler.store.clear()
            raise
        done.update((i, self._completion(row)) for i, row in rows.items())
        return [done[i] for i in range(len(requests))]

    def release(self, episodes: Iterable[str]) -> None:
        """Forget the caches of these episodes."""
        self._sampler.store.release(episodes)

    def _row(self, request: Request) -> Row:
        context = list(request.token_ids) or self.renderer.start(request.messages, request.tools)
        room = min(request.max_tokens, self.max_context - len(context))
        if room < 1:
            raise ConfigError(
                f"episode {request.episode}: a context of {len(context)} tokens leaves no room for a completion "
                f"(max_tokens {request.max_tokens}, max_context {self.max_context})"
            )
        if not 0 <= min(context) <= max(context) < self._causal.n_vocabulary:
            raise ConfigError(f"episode {request.episode}: token ids must lie in 0..{self._causal.n_vocabulary - 1}")
        if not request.temperature >= 0:
            raise ConfigError(f"temperature is {request.temperature}; allowed: 0 or more")
        noise = stream(*request.key).random(room)
        stop = self._stops.get(request.stop)
        if stop is None:
            stop = self._stops[request.stop] = StopStrings(self._codec, request.stop)
        return Row(request.episode, context, room, request.temperature, noise, stop)

    def _completion(self, row: Row) -> Completion:
        text = row.text
        if text is None:
            ended = row.tokens[-1] in self._sampler.ends
            text = self._codec.decode(row.tokens[:-1] if ended else row.tokens)
        return Completion(
            text=text,
            token_ids=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            finish_reason="stop" if row.finish_reason == "stop" else "length",
            policy_version=self.version,
            entropies=tuple(row.entropies),
            context_ids=tuple(row.context),
        )

    # ---- learning ---------------------------------------------------------------------------------

    def logprobs(self, rows: TokenRows) -> torch.Tensor:
        """Return [B, T] float32 natural log-probabilities of masked tokens, 0 elsewhere, with gradient."""
        return training.logprobs(self._causal, rows)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Return the weights that may be changed (tied ones once)."""
        return (p for p in self.model.parameters() if p.requires_grad)

    def sync(self, version: int) -> None:
        """Drop what was cached with older weights, raise the version, and compare sampler and learner on a probe.

        Raises:
            LedgerError: If the sampler's log-probabilities of the probe are not the learner's.
        """
        self._sampler.store.clear()
        self._stamp = self._causal.weights_stamp()
        self.version = version
        n_read, n_fed = PROBE_TOKENS
        n = min(n_read + n_fed, self.max_context)
        ids = tuple(stream("sync probe").integers(0, min(len(self.tokenizer), self._causal.n_vocabulary), n).tolist())
        sampled = self._sampler.forced(ids, n_fed)
        with torch.no_grad():
            mask = (0,) * (n - n_fed) + (1,) * n_fed
            learned = self.logprobs(TokenRows((ids,), (mask,)))[0, -n_fed:].tolist()
        worst = max(abs(a - b) for a, b in zip(sampled, learned, strict=True))
        allowed = PROBE_TOLERANCE.get(self._causal.dtype, PROBE_TOLERANCE_HALF)
        if not worst <= allowed:
            raise LedgerError(
                f"version {version}: sampler and learner differ by {worst:.3g} nats on the probe, allowed {allowed:g}; "
                "the sampler does not use the learner's weights, or they are not finite"
            )

    def score(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> list[list[float]]:
        """Return the log-probabilities of each target's tokens after its context (see `Scorer`)."""
        return scorer.score(self._causal, self._codec, self.renderer, contexts, prefix, targets, suffix)

    def score_with_entropies(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Return the same, and the entropies of the distributions in nats (see `EntropyScorer`)."""
        return scorer.score_with_entropies(self._causal, self._codec, self.renderer, contexts, prefix, targets, suffix)

    def encode_action(self, text: str) -> list[int]:
        """Return the ids of an action that somebody else wrote, for demonstrations."""
        return self._codec.encode(text)

    def token_texts(self, ids: Iterable[int]) -> dict[int, str]:
        """Return the text of single tokens, for reports."""
        pieces = self._codec.pieces
        # A padded output head has more rows than the tokenizer has tokens.
        return {i: pieces[i] if i < len(pieces) else "" for i in ids}

    def frozen_copy(self) -> "HFPolicy":
        """Return a copy that does not learn: the reference of a KL term."""
        model = copy.deepcopy(self.model).requires_grad_(False)
        return HFPolicy(model, self.tokenizer, max_context=self.max_context)

    # ---- keeping ----------------------------------------------------------------------------------

    def save(self, directory: Path | str) -> None:
        """Write weights, configuration and tokenizer; `AutoModelForCausalLM.from_pretrained` reads them.

        Of a model that learns by adapters only those are written.
        """
        if hasattr(self.model, ADAPTERS):
            from agentgym.policies.hf import lora

            lora.save(self.model, Path(directory))
        else:
            with no_bars():
                self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def load(self, directory: Path | str) -> None:
        """Read the weights that `save` wrote back into the tensors that `parameters()` returns.

        Raises:
            DataError: If the folder holds no such model.
        """
        if hasattr(self.model, ADAPTERS):
            from agentgym.policies.hf import lora

            lora.load(self.model, Path(directory))
            self._sampler.store.clear()
            return
        try:
            with no_bars():
                saved = type(self.model).from_pretrained(directory, dtype=self._causal.dtype).state_dict()
            self.model.load_state_dict(saved)
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"{directory}: holds no weights of this {type(self.model).__name__}: {error}") from error
        self._sampler.store.clear()


def load(
    name_or_path: str | Path = "", *, dtype: str = "float32", experts: str = "", lora: int = 0, **options: Any
) -> HFPolicy:
    """Return a policy of any transformers causal language model: a folder, or an id of the Hugging Face hub.

    Args:
        name_or_path: Folder or hub id; on the command line `hf:PATH_OR_ID`.
        dtype: Type of the weights: "float32", "bfloat16", "float16".
        experts: How a mixture of experts is computed. The model's own way ("") sorts tokens by expert, so that a
            completion depends on its batch in the last bits; "batched_mm" does not, and takes more memory.
        lora: Rank of adapters that learn in the place of the weights (`agentgym.policies.hf.lora`); 0: none.
        options: Handed to `HFPolicy`.

    Raises:
        ConfigError: If there is no such model or type.
    """
    if not str(name_or_path):
        raise ConfigError('the policy "hf" needs a model: write hf:FOLDER or hf:HUB_ID')
    model, tokenizer = read(name_or_path, dtype)
    if experts:
        try:
            model.set_experts_implementation(experts)
        except (AttributeError, ValueError) as error:
            raise ConfigError(f"experts {experts!r}: {type(model).__name__} does not take it: {error}") from error
    return HFPolicy(with_adapters(model, lora, name_or_path), tokenizer, **options)


def _folder(text: str) -> Path | None:
    """Return the folder that a text names; None for what can be a name on the hub, NAME or OWNER/NAME.

    Raises:
        ConfigError: It can only be a folder, and there is none, or none with a model.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            inner = "; a run keeps its model in the folder model" if (folder / "model" / "config.json").is_file() else ""
            raise ConfigError(f"hf:{text}: the folder holds no model of transformers (neither config.json nor adapter_config.json){inner}")
        return folder
    if text.startswith(("/", ".", "~")) or text.count("/") > 1 or ("/" in text and folder.parent.is_dir()):
        beside = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        where = "" if folder.is_absolute() else f" (working folder: {Path.cwd()})"
        raise ConfigError(f"hf:{text}: there is no folder {folder}{where}{suggestion(folder.name, beside)}")
    return None


def read(name_or_path: str | Path, dtype: str) -> tuple[Any, Any]:
    """Return model and tokenizer of a folder or hub id. Raises ConfigError where there are none."""
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r}{suggestion(dtype, DTYPES)}; allowed are {', '.join(DTYPES)}")
    folder = _folder(str(name_or_path))
    name_or_path = folder or name_or_path
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(str(name_or_path))
            model = AutoModelForCausalLM.from_pretrained(str(name_or_path), dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())  # transformers likes several lines
        here = "" if folder else f" There is no folder {str(name_or_path)!r} in {Path.cwd()} either."
        raise ConfigError(f"hf:{name_or_path}: cannot load a causal language model: {why}{here}") from error
    return model, tokenizer


def with_adapters(model: Any, rank: int, base: str | Path) -> Any:
    """Return the model, with adapters of this rank attached unless it is 0. Raises MissingExtraError, ConfigError."""
    if rank:
        from agentgym.policies.hf.lora import attach

        attach(model, rank, base=str(base))
    return model


@contextmanager
def no_bars() -> Iterator[None]:
    """Keep transformers' progress bars off the terminal for a while."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
