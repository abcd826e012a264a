"""SearchQA-v0: answer a question by searching a corpus of passages."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from agentgym import worlds
from agentgym.env import ToolEnv
from agentgym.envs.search_qa.tasks import corpus_of, open_source
from agentgym.envs.search_qa.tools import MAX_K, search_tools
from agentgym.episode import Episode
from agentgym.errors import ConfigError
from agentgym.retrieval import Retriever
from agentgym.retrieval.backends import check_name, open_corpus
from agentgym.retrieval.client import is_address, remote_retriever
from agentgym.sanitize import escape_reserved, shorten
from agentgym.task import Limits, Task
from agentgym.tools.toolbox import only_tools
from agentgym.types import JSON, DocRef, Message, ToolCall, ToolResult

LIMITS = Limits(max_turns=6, tool_budgets={"search": 4}, max_result_chars=2_400)
INSTRUCTIONS = """Answer the question. Look facts up with the tools before you answer; the answer is a name, \
a number or a few words, nothing else.

{calls}

You have at most {turns} turns and {searches} searches."""
TITLE_CHARS = 200
"""Longer titles are cut as texts are."""
EARLY_GUESS = 0.35
"""Share of an oracle's bad actions that are early guesses; the rest are useless searches."""
OWN_TOOLS = frozenset({"search", "open", "find", "answer"})
NAME = re.compile(r"\b[A-Z][\w'-]*")


class SearchQAEnv(ToolEnv):
    """Search, open and read passages, then answer. See CARD.md for rewards, limits and versions."""

    example_actions: ClassVar[tuple[str, ...]] = (
        "<search>capital of Chad</search>",
        "<open>doc-1</open>",
        "<find>capital</find>",
        "<answer>N'Djamena</answer>",
    )
    default_limits: ClassVar[Limits] = LIMITS
    events: ClassVar[frozenset[str]] = frozenset({"documents", "citations"})

    def __init__(
        self,
        *,
        world: Any = None,
        tasks: Any = None,
        index: str | Path | None = None,
        retriever: str | Retriever = "bm25",
        reward: Any = "search",
        dialect: Any = "tags",
        observation: str = "full",
        limits: Limits | Mapping[str, Any] | None = None,
        split: str | None = None,
        k: int = 3,
        tools: Any = (),
        render_mode: str | None = None,
    ) -> None:
        """Choose questions (`world` or `tasks`) and corpus (`index`, `retriever`, else the task's world).

        Args:
            world: A spec such as "synthetic:natural?entities=1000&seed=0", a World, or a source of worlds.
            tasks: A question file, a list of Task, or a TaskSource.
            index: Folder made by `agentgym index build`, or a file of passages to index in memory.
            retriever: "bm25", "dense", "hybrid" or another registered name (`agentgym.retrieval.backends`), the address
                of a server ("http://…"), or a Retriever to search instead of index and world.
            reward: A preset, component name, expression or Suite, or the name of one's own ("my_rewards.py:brief").
            dialect: "tags" or "json".
            observation: "full" or "compact" (the same facts in few tokens).
            limits: Limits of an episode that a task does not set itself; a table changes some of the default ones.
            split: Where `reset` draws tasks from; the source's own default without it ("train", "all" for files).
            k: Passages per search unless the call says otherwise.
            tools: Further tools beside search, open, find and answer; by name too, e.g. "my_tools.py:lookup".
            render_mode: "ansi" or None.

        Raises:
            ConfigError: For an unknown option or one of the wrong kind.
            DataError: For a broken question file or index.
        """
        self._instructions: dict[int, str] = {}
        self._backend = retriever if isinstance(retriever, str) else ""
        self._corpus = None if isinstance(retriever, str) else retriever
        if index is not None:
            if self._corpus is not None:
                raise ConfigError("SearchQA-v0: give index= or a retriever object, not both")
            self._corpus = open_corpus(index, self._backend)
        elif self._backend:
            check_name(self._backend)
            if is_address(self._backend):
                self._corpus = remote_retriever(self._backend)
        if not (self._backend or isinstance(retriever, Retriever)):
            raise ConfigError(f"SearchQA-v0: retriever={retriever!r:.80} is neither a name nor a Retriever")
        if not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise ConfigError(f"SearchQA-v0: k={k!r:.80}; allowed: a whole number from 1 to {MAX_K}")
        super().__init__(
            env_id="SearchQA-v0",
            source=open_source(world, tasks),
            tools=(*search_tools(k), *only_tools(tools, "SearchQA-v0")),
            reward=reward,
            dialect=dialect,
            observation=observation,
            limits=limits,
            split=split,
            render_mode=render_mode,
        )
        if tasks is not None and self._corpus is None and not (first := self.tasks()[0]).world:
            raise ConfigError(f"SearchQA-v0: task {first.id!r} names no world to search; give index= or a retriever object")

    def prompt(self, task: Task) -> tuple[Message, ...]:
        """Return instructions and question; compact: the question alone."""
        question = Message.of("user", escape_reserved(task.question))
        if self.observation == "compact":
            return (question,)
        limits = task.limits or self.limits
        searches = limits.tool_budgets.get("search", limits.max_turns)
        n = limits.max_calls_per_turn
        if n not in self._instructions:
            self._instructions[n] = self.dialect.instructions(self.specs, n)
        calls = self._instructions[n]
        system = INSTRUCTIONS.format(calls=calls, turns=limits.max_turns, searches=searches)
        return (Message.of("system", system), question)

    def services(self, task: Task) -> Mapping[str, Any]:
        """Return the corpus to search."""
        return {"corpus": self.corpus(task)}

    def corpus(self, task: Task) -> Retriever:
        """Return the retriever that this task's searches use."""
        return self._corpus if self._corpus is not None else corpus_of(task, self._backend)

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return the state: which passage is open."""
        return {"opened": None}

    def absorb(self, state: dict[str, JSON], call: ToolCall, result: ToolResult) -> None:
        """Remember the opened passage."""
        if call.name == "open":
            state["opened"] = result.data["id"]

    def show(self, documents: tuple[DocRef, ...], max_chars: int) -> tuple[DocRef, ...]:
        """Return the documents as the policy reads them: escaped, each cut to its share."""
        share = max(80, max_chars // max(1, len(documents)))
        shown = []
        for d in documents:
            title, text = self._escaped(d.title, TITLE_CHARS), self._escaped(d.text, share)
            same = title is d.title and text is d.text and not d.seen_before
            shown.append(d if same else DocRef(d.id, title, text, d.rank, d.score))
        return tuple(shown)

    def _escaped(self, text: str, max_chars: int) -> str:
        return shorten(escape_reserved(text, self.toolbox.tools), max_chars)[0]

    def render_result(self, call: ToolCall, result: ToolResult) -> str:
        """Return passages as a numbered list (compact: on one line); what other tools give as text or JSON."""
        if call.name not in OWN_TOOLS:
            text = result.data if isinstance(result.data, str) else json.dumps(result.data, ensure_ascii=False)
            return self._escaped(text, self.limits.max_result_chars)
        if self.observation == "compact":
            return " | ".join(_line(d.title, d.text) for d in result.documents) or "nothing"
        if not result.documents:
            return "nothing found"
        return "\n".join(f"[{n}] {d.title} (doc:{d.id})\n{d.text}" for n, d in enumerate(result.documents, 1))

    def status(self, episode: Episode) -> str:
        """Return the searches left; nothing in compact mode."""
        if self.observation == "compact" or "search" not in episode.limits.tool_budgets:
            return ""
        return f"[budget] searches left: {max(0, episode.limits.tool_budgets['search'] - episode.used.get('search', 0))}"

    def oracle_call(self, episode: Episode, rng: np.random.Generator, noise: float) -> ToolCall:
        """Search for the next missing gold passage, then answer; `noise` is the chance of a bad action."""
        gold, corpus = episode.task.gold, self.corpus(episode.task)
        budget = episode.limits.tool_budgets.get("search", episode.limits.max_turns) - episode.used.get("search", 0)
        missing = [(d, q) for d, q in _gold_queries(episode.task, corpus) if d not in episode.seen]
        if not missing:
            noise *= 0.3
        if noise and rng.random() < noise:
            if budget <= 0 or rng.random() < EARLY_GUESS:
                return ToolCall("answer", {"text": _guess(episode, rng)})
            return ToolCall("search", {"query": _useless_query(episode, rng)})
        if not missing:
            return ToolCall("answer", {"text": gold.answers[0].text})
        doc_id, query = missing[0]
        k = next(s for s in self.specs if s.name == "search").parameters["properties"]["k"]["default"]
        if budget > 0 and any(h.passage.id == doc_id for h in corpus.search(query, k)):
            return ToolCall("search", {"query": query})
        if noise:
            return ToolCall("answer", {"text": _guess(episode, rng)})
        return ToolCall("open", {"doc_id": doc_id})


def _gold_queries(task: Task, corpus: Retriever) -> list[tuple[str, str]]:
    """Return (gold passage, query that should find it) in the order in which they are needed."""
    if task.world:
        return list(zip(task.gold.doc_ids, worlds.oracle_queries(task), strict=True))
    passages = [(d, corpus.passage(d)) for d in task.gold.doc_ids]
    return [(d, p.title) for d, p in passages if p is not None]


def _line(title: str, text: str) -> str:
    return text if text.startswith(title) else f"{title} : {text}"


def _guess(episode: Episode, rng: np.random.Generator) -> str:
    names = _names(episode)
    return names[int(rng.integers(len(names)))]


def _useless_query(episode: Episode, rng: np.random.Generator) -> str:
    earlier = [c.arguments["query"] for t in episode.turns for c in t.calls if c.name == "search"]
    if earlier and rng.random() < 0.4:
        return str(earlier[int(rng.integers(len(earlier)))])
    return _guess(episode, rng)


def _names(episode: Episode) -> list[str]:
    """Return the capitalised words of the question and of what was shown, in order."""
    shown = [f"{d.title} {d.text}" for t in episode.turns for r in t.results for d in r.documents]
    names = NAME.findall(" ".join([episode.task.question, *shown]))
    return list(dict.fromkeys(names)) or ["nothing"]
