"""Checklists: named lists of yes-no statements about an episode, written in a few lines, and found by name.

::

    refunds = agentgym.Checklist("refund")
    refunds.rule("found", call="get_order", args={"order_id": "#W23"}, critical=True)
    refunds.program("refunded", "shop_checks:refunded", after=["found"], weight=2)
    refunds.judge("told", "The reply states the refunded amount.", focus="reply", after=["refunded"])
    agentgym.register_checklist(refunds)
    env = gymnasium.make("ToolCalls-v0", reward="checklist:refund")

What a statement may say is documented at `agentgym.criterion.Criterion`; what meeting it is worth, at
`agentgym.rewards.checklist_reward`.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

from agentgym import criterion as criteria_module
from agentgym import hooks, schema
from agentgym.criterion import Criterion
from agentgym.errors import ConfigError, suggestion
from agentgym.judges.rules import import_function
from agentgym.rewards.component import EpisodeView

Assignment = Literal["turn_end", "step", "trajectory"]
ASSIGNMENTS: tuple[str, ...] = get_args(Assignment)
Program = Callable[[EpisodeView], bool]
_CONDITIONAL = re.compile(r"(?:^|[,;] )\s*(?:if|when|whenever|unless|in case)\b", re.IGNORECASE)


class Checklist:
    """A named list of criteria. Built by `rule`, `program` and `judge`, or given whole."""

    def __init__(
        self,
        name: str,
        criteria: Iterable[Criterion] = (),
        *,
        assignment: Assignment = "turn_end",
        where: str = "",
        of_data: bool = False,
    ) -> None:
        """Begin a checklist.

        Args:
            name: what `reward="checklist:<name>"` calls it.
            criteria: ready-made criteria; more can be added.
            assignment: when what was met is paid: at the end of each user turn, at the step itself, or at the end of
                the episode.
            where: file that it came from, for messages.
            of_data: it came with a task or a record: its programs are those of installed modules only.

        Raises:
            ConfigError: The name is empty or the assignment not known.
        """
        if not isinstance(name, str) or not name.strip() or any(c in name for c in " +*():"):
            raise ConfigError(f"checklist name {name!r}: needs a word without blanks and without + * ( ) :")
        if assignment not in ASSIGNMENTS:
            allowed = ", ".join(ASSIGNMENTS)
            hint = suggestion(str(assignment), ASSIGNMENTS)
            raise ConfigError(f"checklist {name!r}: assignment={assignment!r}; allowed: {allowed}{hint}")
        self.name = name
        self.assignment: Assignment = assignment
        self.where = where or f"checklist {name!r}"
        self._of_data = of_data
        self._criteria: list[Criterion] = []
        self._functions: dict[str, Program] = {}
        for criterion in criteria:
            self._add(criterion)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria in the order in which they were added."""
        return tuple(self._criteria)

    @property
    def judged(self) -> bool:
        """Whether a criterion needs a judge."""
        return any(c.kind == "judge" for c in self._criteria)

    def rule(self, id: str, **keys: Any) -> "Checklist":
        """Add a statement that needs no code and no model: call=, result=, reply=, state=, order=, no_call=, ….

        Args:
            id: names it in `after`, in scores and in messages.
            **keys: one matcher with what belongs to it, and weight, critical, never, after, turn, deadline (see
                `agentgym.criterion.Criterion`).

        Returns:
            The checklist, so that calls can be chained.

        Raises:
            ConfigError: An unknown key (the message suggests the nearest), a value of the wrong type, no matcher or
                two, an id that is taken.
        """
        return self._made({"id": id, "kind": "rule", **keys})

    def program(self, id: str, function: Program | str, **keys: Any) -> "Checklist":
        """Add a statement that a function decides.

        Args:
            id: as in `rule`.
            function: "module:function", "file.py:function", or a function (kept in memory only: records scored with it can be scored
                again only where it is registered again). It is given the `EpisodeView` after each turn, with
                `view.state`, and returns whether the statement holds. A LookupError means that it does not.
            **keys: weight, critical, never, after, turn, deadline.

        Raises:
            ConfigError: As `rule`; or the function cannot be imported.
        """
        if isinstance(function, str):
            return self._made({"id": id, "kind": "program", "program": function, **keys})
        if not callable(function):
            raise ConfigError(f"{self.where}: program {id!r} is {function!r:.60}; give 'module:function' or a function")
        self._functions[id] = function
        name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', repr(function))}"
        return self._made({"id": id, "kind": "program", "program": name, **keys})

    def judge(self, id: str, question: str, **keys: Any) -> "Checklist":
        """Add a statement that a judge decides from one channel; a pass must quote the channel.

        Args:
            id: as in `rule`.
            question: the statement, e.g. "The reply states the refunded amount.".
            **keys: focus (calls, results, reply, thought, state, answer), condition, polarity, evidence,
                fail_examples, channel_max_chars; weight, critical, never, after, turn, deadline.

        Raises:
            ConfigError: As `rule`.
        """
        return self._made({"id": id, "kind": "judge", "question": question, **keys})

    def function(self, criterion: Criterion) -> Program:
        """Return the function of a program criterion. Raises ConfigError if it cannot be imported."""
        if criterion.id not in self._functions:
            where = f"{self.where}: criterion {criterion.id!r}"
            self._functions[criterion.id] = import_function(criterion.program, where, of_data=self._of_data)  # pyright: ignore[reportArgumentType]
        return self._functions[criterion.id]

    def check(self) -> "Checklist":
        """Refuse a checklist that cannot score, and return it.

        Raises:
            ConfigError: No criteria, ids used twice, unknown or cyclic `after`, weights of zero or less, a program
                that cannot be imported; naming the file and the ids.

        Warns about a judged statement that holds only under a condition: who never meets the condition passes free.
        """
        criteria_module.check(self._criteria, self.where, ConfigError)
        for criterion in self._criteria:
            if criterion.kind == "program":
                self.function(criterion)
            elif criterion.kind == "judge" and _CONDITIONAL.search(f"{criterion.question}; {criterion.condition}"):
                warnings.warn(
                    f"{self.where}: criterion {criterion.id!r} begins with a condition ({criterion.question:.60}): an episode"
                    " that never meets the condition passes it; say what must happen, with after=[...] for what comes first",
                    stacklevel=3,
                )
        return self

    def __repr__(self) -> str:
        return f"Checklist({self.name!r}, {len(self._criteria)} criteria)"

    def _made(self, keys: dict[str, Any]) -> "Checklist":
        where = f"{self.where}: {keys['id']!r}"
        self._add(schema.from_json(Criterion, keys, where, error=ConfigError))
        return self

    def _add(self, criterion: Criterion) -> None:
        if any(c.id == criterion.id for c in self._criteria):
            raise ConfigError(f"{self.where}: the id {criterion.id!r} is used twice; ids are unique")
        self._criteria.append(criterion)


def register_checklist(checklist: Checklist, *, replace: bool = False) -> Checklist:
    """Check a checklist and make it known as reward "checklist:<name>".

    Args:
        checklist: the whole list; criteria added later are not checked.
        replace: replace one of the same name instead of refusing (useful in notebooks).

    Raises:
        ConfigError: It cannot score (see `Checklist.check`).
        RegistrationError: The name is taken.
    """
    if not isinstance(checklist, Checklist):
        raise ConfigError(f"register_checklist: expected an agentgym.Checklist, got {checklist!r:.80}")
    hooks.CHECKLISTS.add(checklist.name, checklist.check(), replace=replace)
    return checklist


def checklist_named(name: str) -> Checklist:
    """Return a registered checklist.

    Raises:
        NotRegisteredError: Nobody registered it (the message suggests the nearest name).
        ConfigError: What is registered is no checklist, or cannot score.
    """
    found = hooks.CHECKLISTS.resolve(name)
    if not isinstance(found, Checklist) and callable(found):
        found = found()
    if not isinstance(found, Checklist):
        raise ConfigError(f"checklist {name!r}: expected an agentgym.Checklist, got {found!r:.80}")
    return found.check()
