"""Conformance of a reward: declaration, needs, range, supply, purity, random numbers, words, records, abstention.

Each component is run by itself over the same episodes; every finding names the component and the rule.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from agentgym import schema
from agentgym.check.episodes import StandIn, environment, play, repeated, scores, service_for, views, with_other_words
from agentgym.check.result import CheckFailed, CheckResult, global_generators
from agentgym.errors import AgentGymError, ConfigError
from agentgym.rewards import Component, EpisodeView, Suite, answer_em, build_suite
from agentgym.rewards.component import DeferredComponent
from agentgym.rewards.declared import check_declaration
from agentgym.rewards.expression import components
from agentgym.task import Gold
from agentgym.types import Score, Trajectory

TIMES = 3
"""How often a turn is repeated to see whether a loop earns."""
TURNS = 4
"""Turns of an episode that are repeated, each by itself."""
TOLERANCE = 1e-9
SERVICES = frozenset(("judge", "scorer", "reference"))


def check_reward(reward: Any, env_id: str = "", *, records: Sequence[Trajectory] = (), **kwargs: Any) -> None:
    """Check a component, an expression, a suite, or the name of one.

    Args:
        reward: what `gym.make(…, reward=…)` takes.
        env_id: environment whose oracle plays the episodes, from right to careless.
        records: episodes to check on in the place of played ones, gold included.
        **kwargs: of `gym.make`.

    Raises:
        CheckFailed: With the first rule that does not hold.
    """
    for result in iter_reward_checks(reward, env_id, records=records, **kwargs):
        if not result.passed:
            raise CheckFailed(f"{result.name}: {result.detail}")


def iter_reward_checks(
    reward: Any, env_id: str = "", *, records: Sequence[Trajectory] = (), **kwargs: Any
) -> Iterator[CheckResult]:
    """Yield the result of every rule for every component, one at a time; arguments as `check_reward`."""
    if not env_id and not records:
        raise ConfigError("check_reward needs episodes: give an environment id, or records")
    if isinstance(reward, Component) and (problem := _declaration(reward)):
        yield CheckResult(f"{_name(reward)}: declaration", False, problem)
        return
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always", UserWarning)
            suite = build_suite(reward)
    except ConfigError as error:
        yield CheckResult("declaration", False, str(error))
        return
    if not records:
        env = environment(env_id, **kwargs)
        try:
            env.reset(seed=0)
            suite.check(env.task, env.events | {"state"} if env.scored_state else env.events)
        except ConfigError as error:
            yield CheckResult(f"{suite.name}: needs", False, f"{env_id}: {error}")
            return
        records = play(env)
    kept = json.dumps([schema.to_json(record) for record in records if record.turns])
    named = list(components(suite.expression))
    for component in suite.components.values():
        if component is answer_em and component not in named:
            continue  # it decides about success where the reward names no outcome, and is not what was asked about
        rows = _fresh(kept)
        for rule, check in RULES.items():
            problem = _problem(check, component, rows)
            yield CheckResult(f"{component.name}: {rule}", not problem, problem)
    problem = _problem(lambda _, rows: _records(suite, rows), suite.outcome, _fresh(kept))
    yield CheckResult(f"{suite.name}: a stored record scores to the same", not problem, problem)


def _problem(check: Callable[[Component, Sequence[Trajectory]], str], component: Component, rows: Sequence[Trajectory]) -> str:
    try:
        return check(component, rows)
    except Exception as error:  # noqa: BLE001 (a component that raises fails the check)
        return f"raised {type(error).__name__}: {error}"


def _fresh(kept: str) -> list[Trajectory]:
    """Return the records as they were: what one component changes must not meet the next."""
    return [schema.from_json(Trajectory, body) for body in json.loads(kept)]


def _name(component: Component) -> str:
    return getattr(component, "name", "") or type(component).__name__


# ---- the rules: each returns what is wrong, or an empty string


def _declaration(component: Component, rows: Sequence[Trajectory] = ()) -> str:
    """Attributes add up; a service in `needs` belongs to a component that waits for it."""
    try:
        check_declaration(component)
    except ConfigError as error:
        return str(error)
    if SERVICES & component.needs and not isinstance(component, DeferredComponent):
        asked = ", ".join(sorted(SERVICES & component.needs))
        return f"needs {asked}, but is no DeferredComponent: nobody will ask for its scores after the rollouts"
    return ""


def _needs(component: Component, rows: Sequence[Trajectory]) -> str:
    """No gold that `needs` does not name may be what the component cannot do without."""
    named = {option.partition(".")[2] for need in component.needs for option in need.split("|")}
    before = [_numbers(component, row, _gold(row)) for row in rows]
    if len({json.dumps(row) for row in before}) < 2:
        return ""
    for field in fields(Gold):
        if field.name in named or not any(getattr(_gold(row), field.name) for row in rows):
            continue
        empty = getattr(Gold(), field.name)
        try:
            after = [_numbers(component, _without(row, field.name), replace(_gold(row), **{field.name: empty})) for row in rows]
        except Exception as error:  # noqa: BLE001 (that it raises is the finding)
            return f"raises {type(error).__name__} without gold.{field.name}, which `needs` does not name"
        if len({value for row in after for value in row.values()}) == 1 and after != before:
            return f"gives {next(iter(after[0].values()))} on every episode without gold.{field.name}; `needs` must name it"
    return ""


def _values(component: Component, rows: Sequence[Trajectory]) -> str:
    """Scores are Score objects of the declared scope, with finite numbers or none."""
    for row in rows:
        for index, score in scores(component, row, _gold(row)).items():
            if not isinstance(score, Score):
                return f"{_place(row, index)}: gave {score!r:.60}, which is no Score"
            if score.scope != component.scope:
                return f"{_place(row, index)}: a score of scope {score.scope!r}, declared is {component.scope!r}"
            if score.raw is None and score.valid and not score.deferred:
                return f"{_place(row, index)}: no number, and neither deferred nor invalid"
            if score.deferred and not isinstance(component, DeferredComponent):
                return f"{_place(row, index)}: deferred, but no DeferredComponent: nobody will fill it"
            if score.raw is not None and not math.isfinite(score.raw):
                return f"{_place(row, index)}: {score.raw!r} is no finite number"
    return ""


def _range(component: Component, rows: Sequence[Trajectory]) -> str:
    """Raw values (costs, outcomes) or their running sum (potential, once) stay in the declared range."""
    lo, hi = component.range
    adds = component.scope == "turn" and component.supply in ("potential", "once")
    for row in rows:
        total = 0.0
        for index, score in sorted(scores(component, row, _gold(row)).items()):
            total = total + (score.raw or 0.0) if adds else score.raw or 0.0
            if not lo - TOLERANCE <= total <= hi + TOLERANCE and score.raw is not None:
                what = "the sum so far" if adds else "the value"
                return f"{_place(row, index)}: {what} is {total:g}, declared is {lo:g} .. {hi:g}"
    return ""


def _supply(component: Component, rows: Sequence[Trajectory]) -> str:
    """Doing a turn again, which changes nothing, earns nothing."""
    if component.supply == "unbounded" or {"scorer", "reference"} & component.needs:
        return ""  # the expression must bound it; a model may think what it likes of a longer conversation
    for row in rows:
        plain = _sum(component, row)
        for turn in range(min(TURNS, len(row.turns) - 1)):
            longer = repeated(row, turn, TIMES)
            if longer is not None and (looped := _sum(component, longer)) > plain + TOLERANCE:
                return (
                    f"{_place(row, turn)}: doing this turn {TIMES} times more raises the score from {plain:g} to"
                    f" {looped:g}; supply {component.supply!r} promises that it does not"
                )
    return ""


def _same(component: Component, rows: Sequence[Trajectory]) -> str:
    """The same view gives the same score, also with another episode in between."""
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        first, second = (_json(scores(component, row, _gold(row))) for _ in range(2))
        if first != second:
            return f"{row.id}: the same episode scored twice gives two results ({_difference(first, second)})"
        between = _interleaved(component, row, other)
        if between is not None and between != first:
            return f"{row.id}: the score changes when another episode runs beside it: state belongs to start(), not to self"
    return ""


def _untouched(component: Component, rows: Sequence[Trajectory]) -> str:
    """The view stays as it is."""
    for row in rows:
        before = json.dumps(schema.to_json(row))
        gold, state = _gold(row), None
        held = json.dumps(schema.to_json(gold))
        for index, view in views(row, gold):
            seen = _seen(view)
            if index == -2:
                state = component.start(view)
            elif (index == -1) == (component.scope == "trajectory"):
                component.score(view, state)
            if _seen(view) != seen or json.dumps(schema.to_json(row)) != before or json.dumps(schema.to_json(gold)) != held:
                return f"{_place(row, index)}: it changed the view that it was given to read"
    return ""


def _generators(component: Component, rows: Sequence[Trajectory]) -> str:
    """No global random generator is drawn from or seeded."""
    before = global_generators()
    for row in rows:
        scores(component, row, _gold(row))
    touched = [name for name, state in global_generators().items() if before.get(name, state) != state]
    return f"it draws from {', '.join(touched)}; use agentgym.seeding.stream, keyed by the task" if touched else ""


def _words(component: Component, rows: Sequence[Trajectory]) -> str:
    """What a policy writes beside its calls matters only where `reads_thought` says so."""
    if component.reads_thought or {"scorer", "reference"} & component.needs:
        return ""
    for row in rows:
        plain, other = (_json(scores(component, r, _gold(row))) for r in (row, with_other_words(row)))
        if plain != other:
            return f"{row.id}: other words beside the same calls change the score ({_difference(plain, other)}); reads_thought is False"
    return ""


def _abstains(component: Component, rows: Sequence[Trajectory]) -> str:
    """Where a judge gives no answer the score is invalid, never a number that the answer would have decided."""
    if not isinstance(component, DeferredComponent) or not component.defers or "judge" not in component.needs:
        return ""
    up, down = (component.complete(list(rows), service_for(component, down=d)) for d in (False, True))
    low = component.complete(list(rows), _Strict())
    for row, well, without, failed in zip(rows, up, down, low, strict=True):
        for index, score in without.items():
            hangs_on_judge = _json({0: well[index]}) != _json({0: failed[index]})
            if score.valid and hangs_on_judge:
                return f"{_place(row, index)}: the judge is down and the score is {score.raw}, not invalid"
    return ""


RULES: dict[str, Callable[[Component, Sequence[Trajectory]], str]] = {
    "declaration": _declaration,
    "purity: the view stays as it is": _untouched,  # first of those that run it: later ones would meet what it changed
    "needs": _needs,
    "scores are finite and of its scope": _values,
    "range": _range,
    "supply: a loop earns nothing": _supply,
    "purity: same view, same score": _same,
    "purity: no global random numbers": _generators,
    "words beside the calls do not count": _words,
    "abstain is not zero": _abstains,
}


def _records(suite: Suite, rows: Sequence[Trajectory]) -> str:
    """Score, complete, write, read, score again: the same record."""
    for row in rows:
        first = suite.rescore(row)
        service = StandIn()
        (done,) = suite.complete([first], scorer=service, judge=service, reference=StandIn(2.0))
        stored = json.dumps(schema.to_json(done))
        again = suite.rescore(schema.from_json(Trajectory, json.loads(stored)))
        if json.dumps(schema.to_json(again)) != stored:
            return f"{row.id}: read back from JSON it scores to {again.total:g}, was {done.total:g}"
    return ""


class _Strict(StandIn):
    """A judge that passes nothing."""

    def judge(self, requests: Sequence[Any]) -> list[Any]:
        """Fail every request."""
        return [replace(v, passed=False, score=0.0, label=r.labels[0] if r.labels else "") for r, v in zip(requests, super().judge(requests), strict=True)]


# ---- inside


def _gold(row: Trajectory) -> Gold:
    if row.gold is None:
        raise AgentGymError(f"record {row.id} has no gold: check on records that were not exported")
    return schema.from_json(Gold, row.gold, f"record {row.id}: gold")


def _without(row: Trajectory, field: str) -> Trajectory:
    return row.with_(gold={name: value for name, value in (row.gold or {}).items() if name != field})


def _numbers(component: Component, row: Trajectory, gold: Gold) -> dict[int, float | None]:
    return {index: score.raw for index, score in scores(component, row, gold).items()}


def _sum(component: Component, row: Trajectory) -> float:
    return math.fsum(score.raw or 0.0 for score in scores(component, row, _gold(row)).values())


def _json(found: dict[int, Score]) -> str:
    return json.dumps({index: schema.to_json(score) for index, score in sorted(found.items())})


def _difference(one: str, other: str) -> str:
    first, second = json.loads(one), json.loads(other)
    index = next((i for i in first if first[i] != second.get(i)), "")
    where = "at the end" if index == "-1" else f"turn {index}"
    return f"{where}: {first.get(index, {}).get('raw')} and {second.get(index, {}).get('raw')}"


def _interleaved(component: Component, row: Trajectory, other: Trajectory) -> str | None:
    """Return the scores of `row` with `other` running beside it, or None for what is scored in batches."""
    if isinstance(component, DeferredComponent) and component.defers:
        return None
    found: dict[int, Score] = {}
    states: list[Any] = [None, None]
    beside = iter(views(other, _gold(other)))
    for index, view in views(row, _gold(row)):
        for place, (at, shown) in enumerate(((index, view), next(beside, (None, view)))):
            if at == -2:
                states[place] = component.start(shown)
            elif at is not None and (at == -1) == (component.scope == "trajectory"):
                score = component.score(shown, states[place])
                if not place:
                    found[at] = score
    return _json(found)


def _seen(view: EpisodeView) -> str:
    plain = [schema.to_json(turn) for turn in view.turns]
    return json.dumps([view.question, plain, view.answer, view.citations, view.end_reason, view.initial_state, view.state])


def _place(row: Trajectory, index: int) -> str:
    return f"episode {row.id}, {'at the end' if index < 0 else f'turn {index}'}"
