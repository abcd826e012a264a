"""More faults of released reward and environment code: the formula as released shows each, ours does not.

The others stand beside what they are about; docs/attacks.md names all nineteen.
"""

import ast
import json
import math
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from checklist_episodes import call as checklist_call
from checklist_episodes import record, reply, scored
from reward_episodes import alone
from tool_episodes import call, play, score, step, sums, trace

import agentgym
from agentgym.criterion import Criterion
from agentgym.dialects.json_calls import JsonDialect
from agentgym.dialects.tags import TagsDialect
from agentgym.gold import Constraint, GuiAction, Milestone
from agentgym.judges import JudgeRequest, StubJudge, Verdict, judge_service
from agentgym.rewards import build_suite
from agentgym.rewards.actions import ShopR1
from agentgym.rewards.checklist_reward import ChecklistReward
from agentgym.rewards.documents import ndcg
from agentgym.task import Gold, Limits
from agentgym.types import ToolSpec

PACKAGE = Path(agentgym.__file__).parent
WORD = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"], "additionalProperties": False}
SPECS = (ToolSpec("search", "", WORD), ToolSpec("answer", "", WORD, final=True))


def test_an_answer_is_the_call_whatever_the_prompt_holds() -> None:
    """Search-R1 takes the last of at least two <answer> blocks, since its prompt holds one as an example."""

    def released(transcript: str) -> str | None:
        found = re.findall(r"<answer>(.*?)</answer>", transcript, re.DOTALL)
        return found[-1] if len(found) > 1 else None

    action = "<answer>Mira</answer>"
    assert released(f"Write <answer> Beijing </answer>. {action}") == "Mira"
    assert released(f"Answer in tags. {action}") is None
    (parsed,) = TagsDialect().parse(action, SPECS, Limits()).calls
    assert parsed.arguments == {"q": "Mira"}
    env: Any = gym.make("SearchQA-v0", world="synthetic:closed?seed=0").unwrapped
    env.reset(seed=0)
    env.step("<answer>Nobody</answer>")
    assert env.trajectory.answer == "Nobody"


def test_dependencies_count_in_the_sum_of_a_turn() -> None:
    """CM2's turn-level score adds the weights of all passes; its `dependence` is read on another path only."""
    rows = [("C0", 0.25, (), "look"), ("C1", 0.2, (), "act"), ("C2", 0.2, ("C1",), ""), ("C3", 0.2, ("C1",), ""), ("C4", 0.15, (), "")]
    says = {"C2": "refunded", "C3": "card", "C4": "sorry"}
    items = [Criterion(i, call=c, weight=w, after=a) if c else Criterion(i, reply=says[i], weight=w, after=a) for i, w, a, c in rows]
    turns = [checklist_call("note", text="x"), reply("Sorry: refunded to your card."), checklist_call("look"), checklist_call("act")]
    passes = {"C0", "C1", "C2", "C3", "C4"}  # each statement holds somewhere in the turn
    released = sum(weight for id_, weight, *_ in rows if id_ in passes)
    assert released == pytest.approx(1.0)
    early = agentgym.Checklist("early", items, assignment="trajectory")
    done = scored(build_suite(ChecklistReward(early)), record([turns[0], turns[2], turns[3], turns[1]]))
    assert done.scores["checklist:early"].raw == pytest.approx(1.0), "in order, all of it"
    done = scored(build_suite(ChecklistReward(early)), record([turns[1], turns[2], turns[3]]))
    assert done.scores["checklist:early"].raw == pytest.approx(0.6), "the reply came before what it claims"


def test_a_ranking_that_repeats_a_hit_stays_at_one() -> None:
    """VRAG's NDCG counts every place at which a gold page stands, and normalises by the number of gold pages."""

    def released(ranked: list[str], gold: set[str]) -> float:
        gain = sum(1 / math.log2(i + 2) for i, page in enumerate(ranked) if page in gold)
        return gain / sum(1 / math.log2(i + 2) for i in range(len(gold)))

    assert released(["g1", "g1"], {"g1"}) == pytest.approx(1.63093, abs=1e-5)
    assert ndcg(["g1", "g1"], ["g1"]) == 1.0
    assert ndcg(["x", "g1", "y", "g2"], ["g1", "g2"]) == pytest.approx(released(["x", "g1", "y", "g2"], {"g1", "g2"}))


def test_every_block_of_calls_is_read() -> None:
    """ToolRL reads the first <tool_call> block; what follows is neither run nor scored."""

    def released(text: str) -> list[str]:
        block = text.split("<tool_call>")[1].split("</tool_call>")[0]
        return [json.loads(line)["name"] for line in block.strip().splitlines()]

    names = ("search", "answer")
    text = "\n".join(f'<tool_call>\n{{"name": "{n}", "arguments": {{"q": "a"}}}}\n</tool_call>' for n in names)
    assert released(text) == ["search"]
    parsed = JsonDialect().parse(text, SPECS, Limits(max_calls_per_turn=16))
    assert [c.name for c in parsed.calls] == list(names)
    gold = trace(call("search", q="a"), call("answer", q="a"))
    both = play(alone("trace_match"), [step(call("search", q="a"), call("answer", q="a"))], gold)
    assert sums(both, "trace_match") == 1.0


def test_no_term_outweighs_the_others() -> None:
    """Shop-R1 multiplies one similarity by 1000: everything else is a thousandth of the reward."""
    wanted = GuiAction("type_and_submit", name="search", text="blue shoes")
    exact, other = step(call("type_and_submit", name="search", text="blue shoes")), step(call("click", name="x"))

    def value(component: Any, name: str, turn: Any) -> float:
        return score(play(alone(component), [turn], Gold(actions=(wanted,))), name).raw or 0.0

    released = value(ShopR1(), "shop_r1", exact)
    assert released > 1000
    assert value(ShopR1(), "shop_r1", other) / released < 0.001
    assert value("hierarchical_action", "hierarchical_action", exact) == 1.0
    parts = score(play(alone("hierarchical_action"), [exact], Gold(actions=(wanted,))), "hierarchical_action").parts
    assert max(parts.values()) <= 1.0


def test_an_episode_ends_by_itself() -> None:
    """WebShop ends at "buy now" and nowhere else: a policy that never buys goes on for ever."""

    def released(action: str) -> bool:
        return action == "click[buy now]"

    assert not any(released(f"search[{n}]") for n in range(10_000))
    env: Any = gym.make("SearchQA-v0", world="synthetic:closed?seed=0").unwrapped
    env.reset(seed=0)
    n = 0
    while not env.ended:
        env.step(f"<search>a{n}</search>")
        n += 1
        assert n <= env.limits.max_turns


RAN: list[int] = []
"""What code in a verdict would leave behind."""


def test_what_a_judge_says_is_data() -> None:
    """Search-Gen-V's label parser evaluates the model's text as Python."""
    text = "[RAN.append(1)] and ['support']"

    def released(said: str) -> list[str]:
        return eval(said)

    assert released(text) == ["support"]
    assert RAN == [1]
    labels = ("not_support", "partial_support", "support")
    service = judge_service(StubJudge({"x": Verdict(False, label=text)}), canary_every=0)
    (verdict,) = service.judge([JudgeRequest("A fact.", "x", labels=labels)])
    assert not verdict.passed
    assert RAN == [1]
    for path in (*(PACKAGE / "judges").rglob("*.py"), *(PACKAGE / "rewards").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id in ("eval", "exec")), str(path)


def test_a_call_without_arguments_meets_no_exact_comparison() -> None:
    """τ²-bench, with compare_args unset, compares the arguments that the prediction has: none of none differ."""

    def released(given: dict[str, Any], gold: dict[str, Any]) -> bool:
        return all(gold.get(k) == v for k, v in given.items())

    wanted = {"order": "#1"}
    assert released({}, wanted)
    wants = Gold(milestones=(Milestone("m", (Constraint(call="refund", arguments=wanted),)),))
    for given, raw in (({}, 0.0), (wanted, 1.0)):
        played = play(alone("milestones"), [step(("refund", given))], wants)
        assert score(played, "milestones").raw == raw
    rule = agentgym.Checklist("x").rule("refunded", call="refund", args=wanted)
    for turn, raw in ((checklist_call("refund"), 0.0), (checklist_call("refund", order="#1"), 1.0)):
        assert scored(build_suite(ChecklistReward(rule)), record([turn])).total == raw
