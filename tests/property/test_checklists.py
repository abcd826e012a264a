"""Properties of checklists: what is met stays met, order matters, and no loop earns."""

from typing import Any

import pytest
from checklist_episodes import call, record, reply, scored
from hypothesis import given
from hypothesis import strategies as st

from agentgym.criterion import Criterion
from agentgym.judges import StubJudge, judge_service
from agentgym.rewards import Suite, build_suite
from agentgym.rewards.checklist import ASSIGNMENTS, Checklist
from agentgym.rewards.checklist_progress import shares
from agentgym.rewards.checklist_reward import ChecklistReward

TOOLS = "abcd"
actions = st.one_of(
    st.builds(call, st.sampled_from(TOOLS)),
    st.builds(lambda name: call(name, ok=False), st.sampled_from(TOOLS)),
    st.builds(reply, st.sampled_from(["one", "two", ""])),
)
episodes = st.lists(actions, min_size=1, max_size=9)


@st.composite
def checklists(draw: Any, judges: bool = False) -> Checklist:
    items = []
    for number in range(draw(st.integers(1, 5))):
        keys: dict[str, Any] = draw(
            st.sampled_from(
                [*({"call": name} for name in TOOLS), {"reply": "one"}, {"reply": "two"}, {"order": ("a", "b")}]
                + ([{"kind": "judge", "question": "says one"}] if judges else [])
            )
        )
        after = draw(st.lists(st.sampled_from(range(number)), unique=True, max_size=2)) if number else []
        turn = draw(st.sampled_from(["any", "any", 0, 1]))
        weight = draw(st.sampled_from([0.5, 1.0, 3.0]))
        ids = tuple(f"k{i}" for i in after)
        items.append(Criterion(f"k{number}", weight=weight, after=ids, turn=turn, **keys))
    if draw(st.booleans()):
        items.append(Criterion("mine", call="d", never=True))
    return Checklist("p", items, assignment=draw(st.sampled_from(ASSIGNMENTS)))  # pyright: ignore[reportArgumentType]


def suite_of(checklist: Checklist) -> Suite:
    return build_suite(ChecklistReward(checklist))


def total(checklist: Checklist, turns: list[Any], judge: Any = None) -> float:
    return scored(suite_of(checklist), record(turns), judge).total


@given(checklists(), episodes)
def test_totals_stay_in_their_range_and_success_is_all_of_it(checklist: Checklist, turns: list[Any]) -> None:
    suite = suite_of(checklist)
    done = scored(suite, record(turns))
    low, high = suite.bounds().success if done.success else suite.bounds().failure
    assert low - 1e-9 <= done.total <= high + 1e-9
    assert suite.bounds().margin > 0
    assert sum(shares(checklist).values()) == pytest.approx(1.0)
    assert suite.rescore(done) == done


@given(checklists(), episodes, st.data())
def test_doing_something_again_never_earns(checklist: Checklist, turns: list[Any], data: st.DataObject) -> None:
    """Repeating a call of the episode, right after itself, pays nothing that it did not pay before."""
    at = data.draw(st.sampled_from([i for i, t in enumerate(turns) if t.calls[0].name != "reply"] or [None]))
    if at is None:
        return
    once = total(checklist, turns)
    loops = total(checklist, [*turns[: at + 1], *[turns[at]] * 3, *turns[at + 1 :]])
    # What was due later may now be met by the repeat itself (its `after` was met in between), but never more than
    # an honest second call would: the bound is the whole list, and a list without dependencies gains nothing.
    assert loops <= 1.0 + 1e-9
    if not any(c.after for c in checklist.criteria):
        assert loops <= once + 1e-9


@given(checklists(), episodes)
def test_a_whole_episode_played_twice_is_not_worth_more_than_all_of_it(checklist: Checklist, turns: list[Any]) -> None:
    done = total(checklist, turns)
    if done >= 1.0 - 1e-9:
        assert total(checklist, turns + turns) <= 1.0 + 1e-9


@given(checklists(), episodes, actions)
def test_what_is_met_stays_met(checklist: Checklist, turns: list[Any], more: Any) -> None:
    """One more action never takes anything away, but for a minefield."""
    if checklist.assignment == "step" and more.calls[0].name != "d":
        assert total(checklist, [*turns, more]) >= total(checklist, turns) - 1e-9


@given(checklists(), episodes)
def test_nothing_is_met_before_what_it_comes_after(checklist: Checklist, turns: list[Any]) -> None:
    done = scored(suite_of(checklist), record(turns))
    after = {c.id: c.after for c in checklist.criteria}
    met: dict[str, int] = {}
    name = next(iter(done.turns[0].scores), "")
    for turn in done.turns if name else ():
        for part in turn.scores[name].parts:
            if part.startswith("met."):
                met[part.removeprefix("met.")] = turn.index
    assert all(id_ in met and met[id_] < at for k, at in met.items() for id_ in after[k])


@given(checklists(judges=True), episodes)
def test_asking_in_one_batch_gives_what_asking_turn_by_turn_gives(checklist: Checklist, turns: list[Any]) -> None:
    def judge() -> Any:
        return judge_service(StubJudge({"one": True}), canary_every=0)

    batch = scored(suite_of(checklist), record(turns), judge())
    live = build_suite(ChecklistReward(checklist, judge=judge())).rescore(record(turns))
    assert batch.total == pytest.approx(live.total)
    assert batch.success == live.success
