"""Actions in an interface and the next action of a shopper: worked numbers and attacks."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from reward_episodes import alone
from tool_episodes import broken, call, play, score, step, stored, sums

from agentgym.errors import ConfigError
from agentgym.gold import Assertion, GuiAction, Product
from agentgym.rewards.actions import ShopR1
from agentgym.rewards.shopping import token_set_ratio
from agentgym.task import Answer, Gold, Task
from agentgym.types import Turn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_tools.json").read_text(encoding="utf-8"))
REFERENCE = (
    GuiAction("open_app", name="contacts"),
    GuiAction("click", "new", accept=("plus",)),
    GuiAction("type", "name", text="Ana Reyes"),
    GuiAction("click", "save", alternatives=(GuiAction("press", text="enter"),)),
    GuiAction("finish", status="complete"),
)
GOLD = Gold(actions=REFERENCE)


def act(type_: str, element: str = "", **arguments: Any) -> Turn:
    return step((type_, arguments), events={"element": element})


RIGHT = [
    act("open_app", name="contacts"),
    act("click", "plus", index=3),
    act("type", "name", index=0, text="Ana Reyes"),
    act("press", text="enter"),
    act("finish"),
]


def phi(*turns: Turn) -> float:
    return sums(play(alone("action_match"), turns, GOLD), "action_match")


def test_actions_in_order_add_up_to_one_and_loops_to_nothing() -> None:
    assert phi(*RIGHT) == pytest.approx(1.0)
    assert phi(*RIGHT[:3]) == pytest.approx(0.6)
    assert phi(*(turn for turn in RIGHT for _ in range(3))) == pytest.approx(1.0)
    assert phi(RIGHT[2], RIGHT[1], RIGHT[0]) == pytest.approx(0.2)
    assert phi(RIGHT[0], act("back"), act("scroll", direction="down"), *RIGHT[1:]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "turn",
    [
        act("click", "save_as"),
        act("long_press", "save"),
        act("click", "", index=2),
        step(("click", {}), ok=False, code="E_ARGS", events={"element": "save"}),
        act("type", "name", text="ana reyes"),
        act("finish", status="infeasible"),
        act("open_app", name="clock"),
    ],
)
def test_what_is_not_the_action_does_not_match(turn: Turn) -> None:
    assert phi(turn) == 0.0


def test_clicking_the_centre_of_the_screen_hits_no_element() -> None:
    golden = GOLDEN["gui_click"]
    radius = 0.14 * math.hypot(1080, 2400)
    assert radius == pytest.approx(golden["1080x2400 radius_px"])
    near, far = math.dist((540, 1200), (700, 1500)), math.dist((540, 1200), (540, 1570))
    assert (near <= radius, far <= radius) == (golden["(540,1200)->(700,1500)"], golden["(540,1200)->(540,1570)"])
    centre = act("click", "", x=540, y=1200)  # within the radius of `save`, on nothing
    assert phi(*[centre] * 8) == 0.0


# ---- next action

TYPE = GuiAction("type_and_submit", name="search", text="blue running shoes men")
CLICK = GuiAction("click", name="Add to cart")


def one(component: Any, wanted: GuiAction, turn: Turn) -> float | None:
    played = play(alone(component), [turn], Gold(actions=(wanted,)))
    return score(played, "hierarchical_action" if isinstance(component, str) else component.name).raw


def typed_(text: str) -> Turn:
    return step(call("type_and_submit", name="search", text=text))


NEXT = {
    "exact type_and_submit": (TYPE, typed_("blue running shoes men")),
    "text 3 of 4 words": (TYPE, typed_("blue running shoes")),
    "text 2 of 4 words": (TYPE, typed_("running shoes")),
    "click wrong name": (CLICK, step(call("click", name="Back"))),
    "terminate exact": (GuiAction("terminate"), step(call("terminate"))),
    "terminate vs click": (CLICK, step(call("terminate"))),
}


@pytest.mark.parametrize("case", NEXT)
def test_hierarchical_action_matches_the_worked_numbers(case: str) -> None:
    assert one("hierarchical_action", *NEXT[case]) == pytest.approx(GOLDEN["hierarchical_action"][case], abs=1e-6)


def test_the_published_formula_with_its_faults() -> None:
    golden = GOLDEN["shop_r1"]
    exact = NEXT["exact type_and_submit"]
    assert one(ShopR1(), *exact) == pytest.approx(golden["dars=1000 exact"])
    assert one(ShopR1(1.0), *exact) == pytest.approx(golden["dars=1 exact"])
    assert one(ShopR1(1.0), *NEXT["text 3 of 4 words"]) == pytest.approx(
        golden["dars=1 text 'blue running shoes' (rougeL .857)"], abs=1e-6
    )
    assert one(ShopR1(1.0), *NEXT["text 2 of 4 words"]) == pytest.approx(
        golden["dars=1 text 'running shoes' (rougeL .667<.75)"]
    )
    assert one(ShopR1(1.0), *NEXT["terminate vs click"]) == pytest.approx(golden["dars=1 wrong type"])
    assert one(ShopR1(1.0), *NEXT["terminate exact"]) == pytest.approx(golden["terminate exact"])
    # a wrong name earns .2 by being there; ours gives it what no name gets
    free = one(ShopR1(1.0), *NEXT["click wrong name"])
    assert free == pytest.approx(golden["click name present but wrong (free .2)"])
    nameless = step(call("click"))
    assert free - (one(ShopR1(1.0), CLICK, nameless) or 0) == pytest.approx(0.2)
    assert one("hierarchical_action", CLICK, nameless) == one("hierarchical_action", *NEXT["click wrong name"])


def test_always_ending_is_no_strategy() -> None:
    for wanted in (TYPE, CLICK, GuiAction("terminate")):
        assert (one("hierarchical_action", wanted, step(call("terminate"))) or 0) <= 0.4
    assert one("hierarchical_action", CLICK, broken()) == 0.0


# ---- the outcome

STATE = {"contacts": [{"name": "Ana Reyes", "phone": "555-0142"}, {"name": "Tor", "phone": "1"}]}
ASSERTIONS = (
    Assertion("contacts[name=Ana Reyes].phone", "digits_eq", "5550142"),
    Assertion("contacts", "count", 2),
)


def outcome(turn: Turn, *, state: Any = STATE, end_reason: str = "finished", answer: str | None = None, **gold: Any) -> float | None:
    fields = {"assertions": ASSERTIONS} | gold
    played = play(
        alone("gui_success"), [turn], Gold(**fields), states=[{"contacts": []}, state], end_reason=end_reason, answer=answer
    )
    again = alone("gui_success").rescore(stored(played))
    assert again.scores == stored(played).scores
    assert again.in_loss is again.scores["gui_success"].valid
    return score(played, "gui_success").raw


def test_the_state_decides_once_the_policy_says_it_is_done() -> None:
    done, gave_up = act("finish", status="complete"), act("finish", status="infeasible")
    assert outcome(done) == 1.0
    assert outcome(done, state={"contacts": STATE["contacts"][:1]}) == 0.5
    assert outcome(done, state={"contacts": []}) == 0.0  # finishing at once
    assert outcome(act("click", "save"), end_reason="max_turns") == 0.0
    assert outcome(gave_up) == 0.0
    assert outcome(gave_up, finish="infeasible", assertions=(), final_state=STATE) == 1.0
    assert outcome(done, finish="infeasible") == 0.0


def test_an_answer_that_is_asked_for_and_an_environment_that_checks_itself() -> None:
    reply = step(call("answer", text="555"))
    asked = {"answers": (Answer("555"),)}
    assert outcome(reply, end_reason="answered", answer="555", **asked) == 1.0
    assert outcome(reply, end_reason="answered", answer="556", **asked) == 0.0
    own = {"assertions": ()}
    assert outcome(step(call("finish"), events={"success": 0.5}), **own) == 0.5
    assert outcome(step(call("finish"), events={"success": 7}), **own) == 1.0
    assert outcome(step(call("finish"), events={"success": True}), **own) == 1.0
    assert outcome(step(call("finish")), **own) is None  # the record is at fault, not the policy
    with pytest.raises(ConfigError, match="gui_success needs"):
        alone("gui_success").check(Task("t", "q"), {"state"})


# ---- shopping

GOAL = Product(
    title="Men's trail running shoes",
    category="Sport › Shoes › Running",
    attributes=("waterproof", "wide fit", "light"),
    options=("blue", "size 42"),
    price_max=50.0,
)


def bought(**changes: Any) -> float | None:
    item = {
        "title": "Trail running shoes for men",
        "category": "Sport › Shoes › Running",
        "attributes": ["Waterproof", "light"],
        "options": ["blue"],
        "price": 49.5,
    } | changes
    return score(play(alone("webshop_score"), [step(call("buy"), events={"bought": item})], Gold(product=GOAL)), "webshop_score").raw


def test_webshop_matches_the_worked_numbers() -> None:
    golden = GOLDEN["webshop"]
    assert bought() == pytest.approx(golden["attrs 2/3, options 1/2, price ok, type 1.0"], abs=1e-6)
    socks = bought(title="Winter socks for men", category="Sport › Socks")
    assert socks == pytest.approx(golden["same, type 0.5"], abs=1e-6)
    assert bought(title="Coffee", category="Kitchen", attributes=list(GOAL.attributes), options=list(GOAL.options)) == 0.0
    assert golden["all ok, type 0.0"] == 0.0
    perfect = {"attributes": list(GOAL.attributes), "options": list(GOAL.options)}
    assert bought(**perfect) == golden["perfect"]
    assert bought(**perfect, price=50.01) == pytest.approx(5 / 6)
    assert bought(**perfect, price="free") == pytest.approx(5 / 6)
    assert bought(attributes=["waterproof"] * 9, options=[]) == pytest.approx(2 / 6)


def test_buying_nothing_is_nothing_and_a_goal_needs_a_type() -> None:
    suite = alone("webshop_score")
    first_item = {"title": "Running shoes", "category": "Shoes", "attributes": [], "options": [], "price": 9.0}
    played = play(suite, [step(call("buy"), events={"bought": first_item})], Gold(product=GOAL))
    assert 0 < (score(played, "webshop_score").raw or 0) < 0.5
    assert not played.success, "only a score of 1 is a success"
    assert score(play(suite, [step(call("buy"))], Gold(product=GOAL)), "webshop_score").raw == 0.0
    with pytest.raises(ConfigError, match="title, query or category"):
        suite.check(Task("t", "q", Gold(product=Product(attributes=("x",)))))
    assert token_set_ratio("blue, light", "light blue") == 1.0
    assert token_set_ratio("size 42", "size 43") < 0.86


def test_a_scale_that_takes_back_what_the_type_earned_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shop_r1: dars=-0\.5"):
        ShopR1(-0.5)
