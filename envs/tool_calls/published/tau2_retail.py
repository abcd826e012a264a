"""tau2-bench's retail tasks: its database, policy and tasks, read from a folder as it publishes them.

    gym.make("ToolCalls-v0", world="tau2_retail?folder=DIR")        # DIR has db.json, policy.md and tasks.json

The outcome is tau2's DB basis (the database equals what the task's actions make of it) and, stricter than its retail
domain, that the facts of `communicate_info` are told. Its statements in words need a judge: with `assertions=judged`
they join the task's checklist. The user is scripted here: who it is and what it wants comes out when asked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from agentgym.criterion import Criterion
from agentgym.envs.tool_calls.domain import Domain, TableDomain
from agentgym.envs.tool_calls.draft import Draft, Step, ask, build, told
from agentgym.envs.tool_calls.published.folder import Published, json_file, text_file
from agentgym.envs.tool_calls.published.tau2_retail_tools import TOOLS
from agentgym.envs.tool_calls.talk import Wish
from agentgym.errors import ConfigError, DataError, ToolError
from agentgym.task import Answer, Limits, Task
from agentgym.tools import Tool, ToolContext
from agentgym.worlds.tables import Tables

LIMITS = Limits(max_turns=60, max_calls_per_turn=1, max_result_chars=8_000)
SPLITS = ("all", "train", "test")
CLOSING = """

Talk to the user with ask_user, which brings the answer back. When all is done, or nothing more can be done, close with finish; its message goes to the user."""
_IDENTITY = ("name", "zip", "zipcode", "email", "e mail", "mail", "who", "identity", "identify", "verify", "authenticate", "user id")
_UNKNOWN = ("email", "e mail", "mail", "user id", "order id", "order number", "order numbers", "remember")
_WISHES = ("else", "prefer", "preference", "which", "detail", "details", "want", "would", "like", "reason", "why", "payment", "pay", "refund", "method")


class Tau2Retail(TableDomain):
    """The retail database, its tools and its policy."""

    name = "tau2_retail"
    talk = ("ask_user", "finish")

    def __init__(self, rows: Mapping[str, Mapping[str, Any]], policy: str) -> None:
        """Take the database and the policy."""
        self.rows, self._rules = Tables(rows), policy.strip() + CLOSING

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the tools over the database."""
        return TOOLS

    def rules(self, task: Task) -> str:
        """Return the retail policy."""
        return self._rules


class Tau2Tasks(Published):
    """The tasks of a folder; each is built, and its actions carried out, when it is first asked for."""

    def __init__(self, folder: str, assertions: str = "plain") -> None:
        """Read the folder.

        Args:
            folder: Has db.json, policy.md and tasks.json; split_tasks.json names the splits, where it is there.
            assertions: "plain", or "judged": the statements in words join the checklist.

        Raises:
            ConfigError: An unknown value.
            DataError: A file is missing or broken.
        """
        if assertions not in ("plain", "judged"):
            raise ConfigError(f"world 'tau2_retail': assertions={assertions!r}; allowed: plain, judged")
        root = Path(folder)
        self._domain, self._judged = _domain(root.resolve()), assertions == "judged"
        self._rows = {}
        for n, row in enumerate(json_file(root / "tasks.json", list)):
            try:
                self._rows[f"tau2_retail.{row['id']}"] = (row["user_scenario"]["instructions"], row["evaluation_criteria"])
            except (KeyError, TypeError):
                raise DataError(f"{root / 'tasks.json'}: task {n} has no id, user_scenario.instructions and evaluation_criteria") from None
        splits = json_file(root / "split_tasks.json", dict) if (root / "split_tasks.json").exists() else {}
        named = {name: [f"tau2_retail.{id_}" for id_ in ids] for name, ids in splits.items() if name in SPLITS}
        options = f"folder={folder}" + ("&assertions=judged" if self._judged else "")
        super().__init__(f"tau2_retail?{options}", tuple(self._rows), named)

    def domain(self, task: Task) -> Domain:
        """Return the retail domain."""
        return self._domain

    def build(self, task_id: str) -> Task:
        """Build a task: its actions become plan and gold."""
        said, wanted = self._rows[task_id]
        actions = [Step(a["name"], dict(a["arguments"])) for a in wanted.get("actions") or ()]
        facts = tuple(_fact(text) for text in wanted.get("communicate_info") or ())
        statements = list(wanted.get("nl_assertions") or ())
        last = "It is done." + "".join(f" {fact.text}." for fact in facts)
        plan = (ask("Who are you: name and zip code, or e-mail?"), *self._those_that_work(actions), told("finish", last, *facts))
        task = build(
            self._domain,
            Draft(_first_person(str(said["reason_for_call"]).strip()), plan, wishes=_wishes(said)),
            id=task_id, world=self.world, split=self.split_of(task_id), kind="retail", limits=LIMITS,
        )  # fmt: skip
        trace = task.gold.trace
        if all(call.optional for call in trace):  # nothing is to be done but to say so
            trace = (*trace[:-1], replace(trace[-1], optional=False))
        gold = replace(task.gold, answers=(), finish="", trace=trace)
        if self._judged:
            judged = [Criterion(f"n{n}", kind="judge", question=text, focus="reply") for n, text in enumerate(statements)]
            gold = replace(gold, checklist=(*gold.checklist, *judged))
        return replace(task, gold=gold, meta={**task.meta, "nl_assertions": statements, "reward_basis": list(wanted.get("reward_basis") or ())})

    def _those_that_work(self, actions: Sequence[Step]) -> list[Step]:
        """Leave out look-ups that are meant to fail: they change nothing."""
        known = {item.name: item for item in TOOLS}
        context = ToolContext(self._domain.initial_state(Task("", "")), services=self._domain.services(Task("", "")))
        kept = []
        for step in actions:
            if step.tool not in known:
                raise DataError(f"{self.world}: no tool {step.tool!r}")
            try:
                known[step.tool].fn(**known[step.tool].keywords(step.arguments, context))
            except ToolError:
                continue
            kept.append(step)
        return kept


@lru_cache(maxsize=4)
def _domain(root: Path) -> Tau2Retail:
    rows = json_file(root / "db.json", dict)
    for table in ("orders", "users", "products"):
        if not isinstance(rows.get(table), dict):
            raise DataError(f"{root / 'db.json'}: the table {table!r} is missing; a retail database of tau2-bench is needed")
    return Tau2Retail({table: rows[table] for table in ("orders", "users", "products")}, text_file(root / "policy.md"))


def _fact(text: str) -> Answer:
    """Return a fact that must be told: a number, or words."""
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        return Answer(text)
    amount = "." in text or abs(number) < 1_000  # zip codes and tracking ids are words
    return Answer(text, type="number", tol=0.005) if amount and math.isfinite(number) else Answer(text)


def _wishes(said: Mapping[str, Any]) -> tuple[Wish, ...]:
    parts = (
        ("identity", said.get("known_info"), _IDENTITY),
        ("unknown", said.get("unknown_info"), _UNKNOWN),
        ("wishes", said.get("task_instructions"), _WISHES),
    )
    return tuple(
        Wish(name, _first_person(text.strip()), words) for name, text, words in parts if text and len(text.strip()) > 1
    )


def _first_person(text: str) -> str:
    """Turn instructions ("You are …, your …") into the user's own words, word by word."""
    swaps = {"you": "I", "your": "my", "yours": "mine", "yourself": "myself", "you're": "I'm", "you'll": "I'll", "you've": "I've", "you'd": "I'd"}
    words = []
    for word in text.split(" "):
        bare = word.strip(".,;:!?()\"'").lower()
        new = swaps.get(bare)
        words.append(word if new is None else word.lower().replace(bare, new))
    joined = f" {' '.join(words)} "
    for old, new in ((" I are ", " I am "), (" I were ", " I was "), (" I has ", " I have ")):
        joined = joined.replace(old, new)
    joined = joined.strip()
    return joined[:1].upper() + joined[1:]


def load(folder: str = "", assertions: str = "plain") -> Tau2Tasks:
    """Return the tasks of "tau2_retail?folder=DIR"."""
    if not folder:
        raise ConfigError("world 'tau2_retail': name the folder: tau2_retail?folder=DIR, with db.json, policy.md and tasks.json of tau2-bench's retail domain")
    return Tau2Tasks(folder, assertions)

