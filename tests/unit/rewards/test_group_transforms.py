"""Scores over their group's maximum: they wait, are filled from stored raw values, and survive being scored again."""

import json
from dataclasses import replace

import pytest
from reward_episodes import Fixed, outcome, play, search

from agentgym import schema
from agentgym.credit import CreditArrays
from agentgym.errors import ConfigError, DataError
from agentgym.rewards import DeferredComponent, Gate, MaxNorm, Suite, as_info
from agentgym.types import Group, Score, Trajectory


def members(suite: Suite, part: Fixed, raws: list[float], group: str = "g") -> list[Trajectory]:
    played = []
    for i, value in enumerate(raws):
        part.numbers = (value,)
        played.append(play(suite, [search("a")], name=f"{group}{i}").with_(group_id=group))
    return played


def make() -> tuple[Suite, Fixed]:
    part = Fixed("part", [0.0])
    won = outcome(value=1.0)
    return Suite(won + 0.3 * MaxNorm(part), won), part


def test_a_score_waits_for_its_group_and_keeps_its_raw_value() -> None:
    suite, part = make()
    (waiting,) = members(suite, part, [0.4])
    score = waiting.scores["part"]
    assert (score.raw, score.value, score.deferred) == (0.4, 0.0, True)
    assert score.reason == "waits for its group"
    assert as_info(waiting.scores)["part"]["raw"] == 0.4
    with pytest.raises(DataError, match="deferred"):
        CreditArrays.from_groups([Group("g", "t", (waiting,))])
    assert suite.group_transforms == ("part",)


def test_groups_do_not_mix_and_faults_do_not_count() -> None:
    suite, part = make()
    first, second = members(suite, part, [0.4, 0.2, 1.0], "g"), members(suite, part, [0.0, 0.0], "h")
    first[2] = first[2].with_(in_loss=False, in_statistics=False)  # a fault: it is no measure of the others
    alone = members(suite, part, [0.5], "")[0]
    done = suite.complete([first[0], second[0], first[1], alone, second[1], first[2]])
    assert [t.id for t in done] == ["g0", "h0", "g1", "0", "h1", "g2"]
    assert [t.scores["part"].value for t in done] == pytest.approx([0.3, 0.0, 0.15, 0.3, 0.0, 0.0])
    assert done[0].scores["part"].parts == {"group maximum": 0.4}
    assert done[0].scores["part"].reason == ""
    assert [t.scores["part"].deferred for t in done] == [False] * 5 + [True]
    over_long = members(suite, part, [0.2, 1.0])
    over_long[1] = over_long[1].with_(in_loss=False)  # in the statistics, so it sets the maximum
    assert suite.complete(over_long)[0].scores["part"].value == pytest.approx(0.06)


def test_a_filled_record_scores_to_the_same_numbers_alone_and_anew_in_its_group() -> None:
    suite, part = make()
    done = suite.complete(members(suite, part, [0.4, 0.2]))
    stored = [schema.from_json(Trajectory, json.loads(json.dumps(schema.to_json(t)))) for t in done]
    assert stored == done
    for raw, record in zip([0.4, 0.2], stored, strict=True):
        part.numbers = (raw,)
        assert suite.rescore(record) == record
    part.numbers = (0.8,)  # the component changed its mind: the group must be asked again
    again = [suite.rescore(stored[0]), stored[1]]
    assert [t.scores["part"].value for t in suite.transform_groups(again)] == pytest.approx([0.3, 0.075])
    assert suite.complete(done) == done  # nobody waits, nothing changes


def test_a_judged_score_is_filled_first_and_divided_after_once() -> None:
    class Judged(DeferredComponent):
        name, scope, range, supply, needs = "judged", "trajectory", (0.0, 1.0), "terminal", frozenset({"judge"})
        asked = 0

        def complete(self, trajectories: list[Trajectory], service: object) -> list[dict[int, Score]]:
            Judged.asked += len(trajectories)
            return [{-1: Score("trajectory", 0.25 * (1 + t.member), evidence=("why",))} for t in trajectories]

    won = outcome(value=1.0)
    suite = Suite(Gate(won, 0.3 * MaxNorm(Judged()), 0.7), won)
    played = [play(suite, [search("a")], name=str(i)).with_(group_id="g", member=i) for i in range(2)]
    assert played[0].scores["judged"].raw is None
    done = suite.complete(played, judge=object())
    assert [t.total for t in done] == pytest.approx([0.85, 1.0])
    assert done[0].scores["judged"].evidence == ("why",)
    suite.complete(done, judge=object())
    halfway = [replace(t, scores={**t.scores, "judged": replace(t.scores["judged"], deferred=True, parts={})}) for t in done]
    assert [t.total for t in suite.complete(halfway, judge=object())] == pytest.approx([0.85, 1.0])
    assert Judged.asked == 2
    assert [suite.rescore(t) for t in done] == done


def test_an_invalid_score_leaves_the_group_and_a_record_of_another_suite_is_refused() -> None:
    suite, part = make()
    good, bad = members(suite, part, [0.4, 0.9])
    bad = bad.with_(scores={**bad.scores, "part": replace(bad.scores["part"], raw=None, valid=False)})
    done = suite.complete([good, bad])
    assert done[0].scores["part"].value == pytest.approx(0.3)
    assert not done[1].in_loss
    won = outcome(value=1.0)
    other = play(Suite(1.0 * won, won), [search("a")]).with_(group_id="g")
    with pytest.raises(ConfigError, match="rescore it with this suite first"):
        suite.transform_groups([good, other])
