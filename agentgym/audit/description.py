"""Does the environment say what it is? Specs, tools, limits, spaces, card and scores against what happens."""

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import gymnasium as gym

from agentgym import schema
from agentgym.audit.players import advance, begin, oracle
from agentgym.audit.report import Finding, run_checks
from agentgym.env import ToolEnv
from agentgym.rewards.channels import TURN_ENDING_TOOLS
from agentgym.spaces import UnicodeText
from agentgym.task import Limits, Task
from agentgym.types import ToolSpec, Trajectory

SECTION = "self-describing"
SHARED = 12
"""Tasks, spread over the split, whose common tools a card must name."""
INFO_KEYS = ("action", "docs_new", "budget_left", "rewards", "deferred", "state_hash", "end_reason")
CODE = re.compile(r"\bE_[A-Z_]+\b")


def check_description(env: ToolEnv, tasks: Sequence[Task], records: Sequence[Trajectory]) -> list[Finding]:
    """Compare what is declared with what is there."""
    begin(env, tasks[0])  # tasks may have tools of their own
    specs = env.specs
    return run_checks(
        (
            (SECTION, "it is registered and has a card", lambda: _card(env, records)),
            (SECTION, "tools are described and run as declared", lambda: (p for s in specs for p in _tool(env, tasks[0], s))),
            (SECTION, "the opening shows every tool and the question", lambda: _opening(env, tasks[0])),
            (SECTION, "infos hold what they promise", lambda: _infos(env, tasks[0])),
            (SECTION, "observations and actions are in their spaces", lambda: _spaces(env, tasks[0])),
            (SECTION, "every score says where it comes from", lambda: (_attributed(env, r) for r in records)),
            (SECTION, "the reward describes itself", lambda: _reward(env)),
        )
    )


def card_of(env: ToolEnv) -> Path | None:
    """Return the card of an environment: CARD.md beside its module, or None."""
    path = Path(inspect.getfile(type(env))).with_name("CARD.md")
    return path if path.is_file() else None


def _card(env: ToolEnv, records: Sequence[Trajectory]) -> Iterator[str]:
    if env.env_id not in gym.registry:
        yield f"{env.env_id} is not registered with gymnasium"
    path = card_of(env)
    if path is None:
        yield f"there is no CARD.md beside {type(env).__module__}: tools, rewards, limits and versions are nowhere described"
        return
    text = path.read_text(encoding="utf-8")
    if env.env_id not in text:
        yield f"CARD.md does not name {env.env_id}"
    for name in _lasting(env):
        if name not in text:
            yield f"CARD.md does not name the tool {name}"
    codes = {t.error_code for r in records for t in r.turns} | {x.code for r in records for t in r.turns for x in t.results}
    for code in sorted(codes - {""}):
        if code not in CODE.findall(text):
            yield f"CARD.md does not name the error code {code}"
    for reason in sorted({r.end_reason for r in records} - {""}):
        if reason not in text:
            yield f"CARD.md does not name the end reason {reason}"


def _lasting(env: ToolEnv) -> list[str]:
    """Return the names of the tools that all kinds of tasks share and that are the environment's.

    Tools that some tasks alone have, or that a user brings, also with a world, are in no card.
    """
    home = type(env).__module__.rpartition(".")[0]
    if not getattr(env.source, "home", home).startswith(home):
        return []
    tasks = env.tasks()
    n = min(SHARED, len(tasks))
    some = [tasks[i * len(tasks) // n] for i in range(n)]
    seen = [set(begin(env, task).infos[0]["tools"]) for task in some]
    own = {name for name, item in env.toolbox.tools.items() if item.fn.__module__.startswith(home)}
    return sorted(set.intersection(*seen) & own)


def _tool(env: ToolEnv, task: Task, spec: ToolSpec) -> Iterator[str]:
    if len(spec.description) < 10:
        yield f"{spec.name} has no description"
    if spec.parameters.get("additionalProperties") is not False:
        yield f"{spec.name} takes arguments that it does not declare"
    for name, parameter in spec.parameters.get("properties", {}).items():
        if not parameter.get("description"):
            yield f"{spec.name}: the parameter {name} has no description"
    player = begin(env, task)
    advance(player, env.dialect.example(spec))
    turn = env.trajectory.turns[0]
    if turn.error_code or [c.name for c in turn.calls] != [spec.name] or len(turn.results) != 1:
        yield f"the example of {spec.name} is no call of it: {turn.error_code} {turn.error}"
    if spec.final and turn.results and turn.results[0].ok and env.trajectory.end_reason != "answered":
        yield f"{spec.name} is declared final and does not end the episode"
    if not spec.final and env.ended and spec.name not in TURN_ENDING_TOOLS:
        yield f"{spec.name} is not declared final and ends the episode"
    if player.infos[-1]["action"]["kind"] != spec.name:
        yield f"info calls {spec.name} {player.infos[-1]['action']['kind']!r}"
    player = begin(env, task)
    advance(player, player.call(spec.name, {"undeclared": 1}))
    result = env.trajectory.turns[0].results
    if not result or result[0].code != "E_ARGS" or spec.name not in result[0].error:
        yield f"{spec.name} with an undeclared argument: {result[0].code if result else 'no result'}"


def _opening(env: ToolEnv, task: Task) -> Iterator[str]:
    player = begin(env, task)
    opening = player.observations[0]
    if task.question not in opening:
        yield "the opening does not show the question"
    if env.observation == "full":
        for spec in env.specs:
            if env.dialect.example(spec) not in opening and f"{spec.name}(" not in opening:
                yield f"the opening does not show the tool {spec.name}"
        if str((task.limits or env.limits).max_turns) not in opening:
            yield "the opening does not say how many turns there are"
    if opening != "\n\n".join(m.text for m in env.messages):
        yield "the first observation is not what the messages say"


def _infos(env: ToolEnv, task: Task) -> Iterator[str]:
    player = begin(env, task)
    info = player.infos[0]
    if (info.get("task_id"), info.get("tools")) != (task.id, tuple(s.name for s in env.specs)):
        yield f"reset info: task_id {info.get('task_id')!r}, tools {info.get('tools')!r}"
    if schema.from_json(Limits, info.get("limits", {})) != (task.limits or env.limits):
        yield f"reset info: limits {info.get('limits')!r} are not those of the episode"
    if env.task.id != task.id or env.n_turns:
        yield "the running task is another one"
    while not env.ended:
        advance(player, oracle(0.4, 2)(player))
        step, turn = player.infos[-1], env.trajectory.turns[-1]
        if missing := [k for k in INFO_KEYS if k not in step]:
            yield f"step info lacks {missing[0]}"
        if step["end_reason"] != env.trajectory.end_reason or step["state_hash"] != env.state_hash:
            yield "step info: end_reason or state_hash is not that of the record"
        if player.observations[-1] != "\n".join(m.text for m in env.last_messages):
            yield "the observation is not what the messages say"
        if turn.index != env.n_turns - 1:
            yield f"turn {turn.index} is the {env.n_turns}. turn"
    talk = env.messages
    roles = [m.role for m in talk if m.role == "assistant"]
    said = [m.text for t in env.trajectory.turns for m in t.messages]
    answered = [m.text for m in talk[len(env.trajectory.prompt) :] if m.role != "assistant"]
    if said != answered or [m.text for m in talk if m.role == "assistant"] != [t.action for t in env.trajectory.turns]:
        yield "the conversation is not what was said and answered"
    if len(roles) != env.n_turns or (env.trajectory.end_reason == "answered" and talk[-1].role != "assistant"):
        yield f"the conversation has {len(roles)} actions for {env.n_turns} turns"


def _spaces(env: ToolEnv, task: Task) -> Iterator[str]:
    if not isinstance(env.action_space, UnicodeText) or not isinstance(env.observation_space, UnicodeText):
        yield "action and observation space must be UnicodeText"
        return
    player = begin(env, task)
    env.action_space.seed(0)
    samples = [env.action_space.sample() for _ in range(8)]
    for action in (*env.example_actions, *samples):
        if action not in env.action_space:
            yield f"the action {action!r:.80} is not in the action space"
    if player.observations[0] not in env.observation_space:
        yield "the first observation is not in the observation space"
    advance(player, env.dialect.example(env.specs[0]))
    if player.observations[-1] not in env.observation_space:
        yield "an observation is not in the observation space"
    if env.dialect.stop(env.specs) != env.dialect.stop(env.specs, 1) or env.dialect.stop(env.specs, 2):
        yield "the dialect stops where several calls may follow, or not after one"
    if env.dialect.instructions(env.specs) != env.dialect.instructions(env.specs, 1):
        yield "the dialect's instructions are not those for one call"
    for text in env.stop_strings:
        if env.limits.max_calls_per_turn == 1 and not any(env.dialect.example(s).endswith(text) for s in env.specs):
            yield f"the stop string {text!r} ends no call"


def _attributed(env: ToolEnv, record: Trajectory) -> str:
    suite = env.suite
    known = set(suite.components) | set(suite.program.pseudo)
    for n, turn in enumerate(record.turns):
        if set(turn.scores) != {c.name for c in suite.program.turn.components}:
            return f"turn {n} has scores of {sorted(turn.scores)}"
        if abs(sum(s.value for s in turn.scores.values()) - turn.reward) > 1e-9:
            return f"turn {n}: the scores do not sum to its reward"
        if any(s.scope != "turn" for s in turn.scores.values()):
            return f"turn {n}: a score of another scope"
    if not set(record.scores) <= known or not {c.name for c in suite.program.trajectory.components} <= set(record.scores):
        return f"trajectory scores of {sorted(record.scores)}"
    if abs(sum(s.value for s in record.scores.values()) - record.reward) > 1e-9:
        return "the trajectory scores do not sum to its reward"
    if record.reward_spec != suite.name or record.env_id != env.env_id or record.gold is None:
        return f"the record names {record.reward_spec!r}, {record.env_id!r}, gold {record.gold is not None}"
    return ""


def _reward(env: ToolEnv) -> Iterator[str]:
    text = env.suite.describe()
    for name in env.suite.components:
        if name not in text:
            yield f"describe() does not name {name}"
    for component in env.suite.components.values():
        if not (component.__doc__ or "").strip():
            yield f"{component.name} does not say what it measures"
