"""What the guards say, and when they stop a run."""

import pytest

from agentgym.errors import ConfigError
from agentgym.learn import GuardConfig, Guards

FINE = {
    "success": 0.4, "tool_use_rate": 0.9, "error_rate": 0.1, "entropy": 1.0, "answer_rate": 0.9, "fault_share": 0.0,
    "zero_variance_share": 0.2, "logprob_gap": 1e-6, "n_updates": 2.0, "skipped_updates": 0.0, "w": 0.5, "margin": 0.2,
}  # fmt: skip
NO_TOOLS = {"success": 0.0, "tool_use_rate": 0.0}
ALL_ERRORS = {"success": 0.0, "error_rate": 0.97}


def run(config, *steps):
    guards = Guards(config)
    for changes in steps:
        guards.check(FINE | changes)
    return guards


@pytest.mark.parametrize("dead", [NO_TOOLS, ALL_ERRORS])
def test_a_dead_policy_stops_after_patience_steps_in_a_row(dead):
    config = GuardConfig(patience=3)
    assert run(config, dead, dead).stop_reason() == ""
    assert run(config, dead, dead, {}, dead, dead).stop_reason() == ""
    assert "3 steps in a row without a success" in run(config, dead, dead, dead).stop_reason()


@pytest.mark.parametrize("alive", [{"success": 0.0}, {"error_rate": 0.97}, {"tool_use_rate": 0.0}])
def test_one_bad_sign_alone_is_not_death(alive):
    assert run(GuardConfig(patience=1), alive).stop_reason() == ""


def test_faults_and_infinite_gradients_stop_sooner_and_say_nothing_about_the_policy():
    lost = FINE | NO_TOOLS | {"fault_share": 1.0}
    guards = run(GuardConfig(patience=2), lost, lost)
    assert (guards.stop_reason(), guards.dead_steps) == ("", 0)
    assert "trajectories.jsonl" in run(GuardConfig(patience=2), lost, lost, lost).stop_reason()
    skipped = {"skipped_updates": 2.0}
    assert "finite gradient" in run(GuardConfig(), skipped, skipped, skipped).stop_reason()
    assert run(GuardConfig(), skipped, {"skipped_updates": 1.0}, skipped, skipped).stop_reason() == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"entropy": 0.01}, "hardly explores"),
        ({"answer_rate": 0.0}, "no episode gave an answer"),
        ({"error_rate": 0.99}, "99% of the actions were bad"),
        ({"zero_variance_share": 1.0}, "100% of the groups carry no advantage"),
        ({"logprob_gap": 0.9}, "rollout and learner differ by up to 0.900"),
        ({"skipped_updates": 1.0}, "1 update"),
        ({"fault_share": 0.5}, "50% of the episodes were lost"),
        ({"margin": -0.1}, "margin is -0.1"),
    ],
)
def test_each_warning_is_given_once_in_a_while(changes, says):
    guards = Guards(GuardConfig(patience=5))
    assert guards.check(FINE) == ()
    found = [guards.check(FINE | changes) for _ in range(7)]
    assert [len(f) for f in found] == [1, 0, 0, 0, 0, 1, 0]
    assert says in found[0][0]


def test_state_carries_all_that_was_seen():
    config = GuardConfig(patience=3)
    guards = run(config, NO_TOOLS, NO_TOOLS | {"entropy": 0.0})
    other = Guards(config)
    other.restore(guards.state())
    last = FINE | NO_TOOLS | {"entropy": 0.0}
    assert other.check(last) == guards.check(last)
    assert other.stop_reason() == guards.stop_reason() != ""


def test_patience_below_one_is_refused():
    with pytest.raises(ConfigError, match="stop = false"):
        GuardConfig(patience=0)
