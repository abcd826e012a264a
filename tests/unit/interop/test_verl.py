"""The verl estimator on arguments as verl 0.9.1 passes them; with the real package where it is installed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytestmark = pytest.mark.torch

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from agentgym.credit import CreditConfig, Scales  # noqa: E402
from agentgym.errors import ConfigError, DataError  # noqa: E402
from agentgym.interop.verl import TurnEstimator, place_rewards, split_rewards, turn_credit  # noqa: E402

MASKS = [
    [1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0],
    [1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0],
    [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
    [1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 0],
]
LENGTHS = [9, 6, 5, 10]
SCORES = [[1.0, 0.5, 1.0], [0.5, 0.0], [0.75], [0.0, 1.0, 0.5]]
OUTCOMES = [1.0, 0.0, 0.0, 1.0]
GOLDEN = [[2.25, 1.666667, 1.5], [-1.75, -1.666667], [-1.416667], [0.916667, 1.666667, 0.833333]]


class AlgoConfig(dict):
    """verl hands over its `algorithm` table: a mapping, or a class with `get` and no key of ours."""


def recorded(index=("a", "a", "a", "a"), **algorithm):
    """The keyword arguments of one call, types and shapes as recorded from verl's `compute_advantage`."""
    rewards = np.zeros((4, 11), np.float32)
    for row, (mask, n, scores, outcome) in enumerate(zip(MASKS, LENGTHS, SCORES, OUTCOMES, strict=True)):
        rewards[row, :n] = place_rewards(mask[:n], scores, outcome)
    return {
        "token_level_rewards": torch.tensor(rewards),
        "response_mask": torch.tensor(MASKS, dtype=torch.int64),
        "config": AlgoConfig(adv_estimator="agentgym_turn", gamma=1.0, **algorithm),
        "index": np.array(index, dtype=object),
    }


def test_the_golden_group_through_recorded_arguments():
    estimator = TurnEstimator()
    advantages, returns = estimator(**recorded(agentgym={"scale": "none", "turn_weight": 1.0}))
    assert advantages.shape == (4, 11)
    assert advantages.dtype == torch.float32
    assert torch.equal(advantages, returns)
    for row, want in enumerate(GOLDEN):
        turn, before = -1, 0
        for t, sampled in enumerate(MASKS[row]):
            turn += sampled and not before
            before = sampled
            assert float(advantages[row, t]) == pytest.approx(want[turn] if sampled else 0.0, abs=1e-6)


def test_groups_are_the_uids_and_more_arguments_are_let_through():
    mixed = recorded(index=("x", "y", "y", "x"))
    advantages, _ = TurnEstimator(CreditConfig(scale="none"))(**mixed, reward_baselines=torch.zeros(4))
    rows = [0, 3]
    alone = {k: v[rows] if k != "config" else v for k, v in mixed.items()}
    np.testing.assert_allclose(TurnEstimator(CreditConfig(scale="none"))(**alone)[0], advantages[rows])
    single, _ = TurnEstimator()(**recorded(index=("a", "b", "c", "d")))
    assert not single.any()


def test_turned_off_the_turn_scores_vanish():
    off = TurnEstimator(CreditConfig(turn_weight=0.0))(**recorded())[0]
    per_row = [set(row[torch.tensor(mask) == 1].tolist()) for row, mask in zip(off, MASKS, strict=True)]
    assert all(len(values) == 1 for values in per_row)
    on = TurnEstimator(CreditConfig(turn_weight=1.0))(**recorded())[0]
    assert len(set(on[0][torch.tensor(MASKS[0]) == 1].tolist())) == 3


def test_scales_pass_from_call_to_call_and_the_function_itself_has_no_memory():
    estimator, arguments = TurnEstimator(), recorded()
    first, _ = estimator(**arguments)
    second, _ = estimator(**arguments)
    assert estimator.result.scales["s_O"] == pytest.approx(0.666667, abs=1e-6)
    assert not torch.equal(first, second)
    plain = (arguments["token_level_rewards"], arguments["response_mask"], arguments["index"], CreditConfig())
    np.testing.assert_array_equal(turn_credit(*plain)[0], turn_credit(*plain, Scales.start(CreditConfig()))[0])


def test_what_is_missing_or_broken_is_said():
    arguments = recorded()
    with pytest.raises(ConfigError, match="no uids"):
        TurnEstimator()(**{k: v for k, v in arguments.items() if k != "index"})
    with pytest.raises(ConfigError, match=r"algorithm\.agentgym.*turn_wieght"):
        TurnEstimator()(**recorded(agentgym={"turn_wieght": 1.0}))
    arguments["token_level_rewards"][3, 4] = float("nan")
    with pytest.raises(DataError, match="group 'a', row 3, turn 2"):
        TurnEstimator()(**arguments)
    with pytest.raises(DataError, match=r"3 turns .* but 2 turn scores"):
        place_rewards(MASKS[0], [1.0, 2.0], 0.0)
    with pytest.raises(DataError, match="turn 1: the turn score is nan"):
        place_rewards(MASKS[1], [1.0, float("nan")], 0.0)
    with pytest.raises(DataError, match="differ in shape"):
        split_rewards(np.zeros((1, 3)), [[1, 0]])


def test_rewards_on_the_last_token_of_each_turn_are_read_too():
    mask = [[1, 1, 0, 1, 1, 0, 1, 1]]
    scores, _, outcome = split_rewards([[0, 0.5, 0, 0, 0.25, 0, 0, 1.0]], mask)
    assert scores.tolist() == [[0.5, 0.25, 0.0]]
    assert outcome.tolist() == [1.0]


def test_a_response_without_a_sampled_token_counts_but_is_not_trained():
    scores, _, outcome = split_rewards([[0.0, 1.0], [0.5, 0.0]], [[0, 0], [1, 0]])
    assert (scores.tolist(), outcome.tolist()) == ([[0.0], [0.0]], [1.0, 0.5])
    values, result = turn_credit([[0.0, 1.0], [0.5, 0.0]], [[0, 0], [1, 0]], ["a", "a"], CreditConfig(scale="none"))
    assert values.tolist() == [[0, 0], [-0.5, 0]]
    assert result.arrays.in_loss.tolist() == [False, True]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.floats(-2, 2)), min_size=1, max_size=5),
    st.floats(-2, 2), st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip
def test_what_is_placed_is_read_back(turns, outcome, tail, padding):
    """But for a response that is one single token: there is only one place for two numbers."""
    mask = []
    for sampled, between, _ in turns:
        mask += [1] * sampled + [0] * between
    mask = mask[: len(mask) - turns[-1][1]] + [0] * tail
    scores = [score for _, _, score in turns]
    placed = place_rewards(mask, scores, outcome)
    found, _, final = split_rewards([[*placed, *[0.0] * padding]], [[*mask, *[0] * padding]])
    if sum(mask) == 1:
        assert final[0] == pytest.approx(scores[0] + outcome, abs=1e-12)
    else:
        np.testing.assert_allclose(found[0], scores, atol=1e-12)
        assert final[0] == pytest.approx(outcome, abs=1e-12)
    assert placed.sum() == pytest.approx(sum(scores) + outcome, abs=1e-12)


def test_with_the_real_package():
    pytest.importorskip("verl", reason="verl is not installed")
    from tensordict import TensorDict
    from verl import DataProto
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
    from verl.trainer.config import AlgoConfig as RealConfig
    from verl.trainer.ppo.ray_trainer import compute_advantage

    from agentgym.interop import verl_plugin
    from agentgym.interop.verl import NAME, with_turn_rewards

    rows = []
    for mask, n, scores, outcome in zip(MASKS, LENGTHS, SCORES, OUTCOMES, strict=True):
        output = AgentLoopOutput(
            prompt_ids=[1], response_ids=list(range(n)), response_mask=mask[:n], metrics=AgentLoopMetrics(),
            extra_fields={"turn_scores": scores},
        )  # fmt: skip
        output = with_turn_rewards(output)
        assert isinstance(output, AgentLoopOutput)
        output.reward_score = outcome  # verl fills it later
        fields = output.as_dict()
        assert fields["extra_fields"]["turn_scores"] == scores
        rows.append(torch.nn.functional.pad(fields["rm_scores"], (0, 11 - n)))
    tensors = {"token_level_rewards": torch.stack(rows), "response_mask": torch.tensor(MASKS)}
    uids = {"uid": np.array(["a"] * 4, dtype=object)}
    data = DataProto(batch=TensorDict(tensors, batch_size=4), non_tensor_batch=uids)
    verl_plugin.ESTIMATOR.credit = CreditConfig(scale="none", turn_weight=1.0)
    found = compute_advantage(data, adv_estimator=NAME, config=RealConfig(adv_estimator=NAME)).batch["advantages"]
    for row, want in enumerate(GOLDEN):
        assert sorted(set(found[row].tolist()) - {0.0}) == pytest.approx(sorted(want), abs=1e-6)
