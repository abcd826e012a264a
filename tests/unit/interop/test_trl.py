"""`TurnGRPOTrainer` with the real package: what reaches the weights, and what does not when turns are off."""

import json
import warnings

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `trl`: make extra-trl")
pytestmark = [pytest.mark.trl, pytest.mark.torch]

import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from agentgym.credit import CreditConfig, advantages_from_arrays  # noqa: E402
from agentgym.errors import ConfigError, DataError  # noqa: E402
from agentgym.seeding import stream  # noqa: E402
from agentgym.types import Segment, Span, Trajectory, Turn  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import trl
    from datasets import Dataset

    from agentgym.interop.trl import TurnGRPOTrainer, outcome_reward, rollout_fields
    from agentgym.policies.hf.tiny import make_tokenizer

PROMPT, WORDS, SIZE = (5, 6, 7), 16, 4
# Per completion: tokens a turn, tokens between turns; and the scores of the turns.
SHAPES = [((2, 1, 3), 2), ((1, 2), 1), ((3,), 1), ((2, 2, 1), 3)]
SCORES = [[1.0, 0.5, 1.0], [0.5, 0.0], [0.75], [0.0, 1.0, 0.5]]
OUTCOMES = [1.0, 0.0, 0.0, 1.0]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TRL, datasets and accelerate warn about is theirs
        yield


def completions():
    rng = stream("completions")
    ids, masks = [], []
    for turns, between in SHAPES:
        mask = []
        for n in turns:
            mask += [1] * n + [0] * between
        mask = mask[: len(mask) - between]
        masks.append(mask)
        ids.append(rng.integers(3, WORDS, size=len(mask)).tolist())
    return ids, masks


def rollout(prompts, trainer, **changes):
    """Play four fixed completions for every prompt: TRL passes each prompt once per generation."""
    ids, masks = completions()
    n = len(prompts) // SIZE
    fields = {
        "prompt_ids": [list(PROMPT)] * len(prompts),
        "completion_ids": ids * n,
        "logprobs": [[0.0] * len(i) for i in ids] * n,
        "env_mask": masks * n,
        "turn_rewards": SCORES * n,
        "outcome": OUTCOMES * n,
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def make(tmp_path, *, rollout_func=rollout, reward=outcome_reward, credit=None, cls=TurnGRPOTrainer, model=None, **args):
    torch.manual_seed(0)
    tokenizer = make_tokenizer([f"w{i}" for i in range(WORDS)], ("search",), 64)
    if model is None:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            )
        )  # fmt: skip
    settings = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": SIZE, "num_generations": SIZE, "max_steps": 1,
        "max_completion_length": 16, "loss_type": "dr_grpo", "learning_rate": 1.0, "max_grad_norm": 0.0, "beta": 0.0,
        "report_to": "none", "use_cpu": True, "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
        "lr_scheduler_type": "constant", "optim": "sgd", "bf16": False,
    } | args  # fmt: skip
    extra = {} if cls is trl.GRPOTrainer else {"credit": credit}
    return cls(
        model=model, reward_funcs=reward, args=trl.GRPOConfig(**settings), processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": ["w1", "w2", "w3"]}), rollout_func=rollout_func, **extra,
    )  # fmt: skip


def weights(trainer):
    return torch.cat([p.detach().double().flatten() for p in trainer.model.parameters()])


def step(trainer):
    """The change of the weights by one step of plain gradient descent at rate 1."""
    before = weights(trainer)
    trainer.train()
    return weights(trainer) - before


def by_hand(trainer, advantages):
    """- gradient of the loss: sum over action tokens of A * d logprob / (B * longest completion)."""
    total = 0.0
    for ids, mask, values in zip(*completions(), advantages, strict=True):
        row = torch.tensor([[*PROMPT, *ids]])
        logprobs = torch.log_softmax(trainer.model(row).logits[0], -1)
        turn, before = -1, 0
        for t, sampled in enumerate(mask):
            turn += sampled and not before
            before = sampled
            if sampled:
                total = total + values[turn] * logprobs[len(PROMPT) + t - 1, ids[t]]
    gradients = torch.autograd.grad(total / (SIZE * 16), list(trainer.model.parameters()))
    return torch.cat([g.double().flatten() for g in gradients])


def credit_of(config):
    width = max(map(len, SCORES))
    scores = np.array([s + [0.0] * (width - len(s)) for s in SCORES])
    exists = np.array([[k < len(s) for k in range(width)] for s in SCORES])
    return advantages_from_arrays(scores, exists, OUTCOMES, [0] * SIZE, config=config).values


@pytest.mark.parametrize("config", [CreditConfig(), CreditConfig(scale="none", turn_weight=1.0), CreditConfig(recipe="grpo")])
def test_the_step_is_the_policy_gradient_of_the_turn_advantages(tmp_path, config):
    trainer = make(tmp_path, credit=config)
    values = credit_of(config)
    want = by_hand(trainer, values)
    found = step(trainer)
    np.testing.assert_allclose(found, want, atol=3e-7)  # the weights are float32
    assert float(want.abs().max()) > 1e-3
    np.testing.assert_array_equal(trainer.credit_result.values, values)


def test_the_golden_group_arrives(tmp_path):
    """The default recipe's published numbers: weight 1, scales 1."""
    trainer = make(tmp_path, credit=CreditConfig(scale="none", turn_weight=1.0))
    trainer.train()
    want = [[2.25, 1.666667, 1.5], [-1.75, -1.666667, 0], [-1.416667, 0, 0], [0.916667, 1.666667, 0.833333]]
    np.testing.assert_allclose(trainer.credit_result.values, want, atol=1e-6)


def test_turn_scores_move_what_outcomes_cannot_and_vanish_when_turned_off(tmp_path):
    equal = {"reward": lambda completions, **_: [1.0] * len(completions)}
    assert not step(make(tmp_path, cls=trl.GRPOTrainer, **equal)).any()
    assert not step(make(tmp_path, credit=CreditConfig(turn_weight=0.0), **equal)).any()
    assert float(step(make(tmp_path, **equal)).abs().max()) > 1e-3


def test_only_the_turn_with_a_score_moves(tmp_path):
    """Scores in the last turn of one completion alone: gamma 0 leaves every other turn and token without gradient."""
    scores = [[0.0] * len(s) for s in SCORES]
    scores[0][2] = 1.0
    config = CreditConfig(scale="none", turn_weight=1.0, gamma=0.0)
    equal = {"reward": lambda completions, **_: [0.0] * len(completions)}

    def play(prompts, trainer):
        return rollout(prompts, trainer, turn_rewards=scores)

    trainer = make(tmp_path, rollout_func=play, credit=config, **equal)
    trainer.train()
    batch = trainer._buffered_inputs[0]  # one batch of all rows, shuffled
    rows = batch["advantages"] != 0
    has = [bool(r.any()) for r in rows]
    assert sum(has) == 2  # the row itself, and the sibling that has a third turn
    assert int(rows.sum()) == SHAPES[0][0][2] + SHAPES[3][0][2]


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "bnpo", "dr_grpo", "cispo", "sapo"])
def test_all_losses_of_the_list_take_two_steps(tmp_path, loss_type):
    args = {"loss_type": loss_type, "max_steps": 2, "gradient_accumulation_steps": 2, "learning_rate": 1e-2}
    trainer = make(tmp_path, per_device_train_batch_size=2, **args)
    start = weights(trainer)
    trainer.train()
    moved = weights(trainer) - start
    assert torch.isfinite(moved).all()
    assert moved.any()
    logged = [entry for entry in trainer.state.log_history if "credit/s_T" in entry]
    assert logged[0]["credit/s_T"] == 1.0
    assert logged[1]["credit/s_T"] != 1.0  # frozen before the step, formed by the one before
    assert "credit/turn_objective_weight" in logged[1]


@pytest.mark.parametrize(
    "args",
    [
        {"loss_type": "luspo", "importance_sampling_level": "sequence"},
        {"loss_type": "vespo"},
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        {"off_policy_mask_threshold": 0.1},
    ],
)
def test_settings_that_see_completions_as_one_number_are_refused(tmp_path, args):
    with pytest.raises(ConfigError, match="one number per completion"):
        make(tmp_path, **args)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"turn_rewards": None}, ConfigError, "no turn rewards arrived"),
        ({"turn_rewards": [[1.0], *SCORES[1:]]}, DataError, "completion 0: 3 turns .* but 1 turn rewards"),
        ({"turn_rewards": [SCORES[0], [0.5, float("nan")], *SCORES[2:]]}, DataError, "row 1, turn 1"),
        ({"turn_spans": [[(0, 9)]] + [None] * 3}, DataError, "row 0, turn 0"),
    ],
)
def test_turn_rewards_that_do_not_fit_are_said(tmp_path, changes, error, says):
    def play(prompts, trainer):
        return rollout(prompts, trainer, **changes)

    with pytest.raises(error, match=says):
        make(tmp_path, rollout_func=play).train()


def test_a_completion_without_a_reward_is_in_no_statistic(tmp_path):
    def play(prompts, trainer):
        return rollout(prompts, trainer, outcome=[None, *OUTCOMES[1:]], turn_rewards=[[7.0, 7.0, 7.0], *SCORES[1:]])

    trainer = make(tmp_path, rollout_func=play, credit=CreditConfig(scale="none", turn_weight=1.0))
    trainer.train()
    values = trainer.credit_result.values
    assert not values[0].any()
    np.testing.assert_allclose(values[2, 0], (0.75 - (0.5 + 1.5) / 2) + (0.0 - 0.5))


def test_environments_give_turn_rewards_by_an_attribute(tmp_path):
    trainer = make(tmp_path)

    class Environment:
        turn_rewards = (0.5, 0.25)

    trainer.environments = [Environment()] * 2
    turns = np.array([[0, 0, -1, 1, -1, 2], [0, -1, 1, 1, -1, -1]])
    found = trainer._local_scores([{}, {}], turns)
    assert found == [([0.5, 0.25, 0.0], True), ([0.5, 0.25], True)]


def test_scales_are_saved_and_restored(tmp_path):
    trainer = make(tmp_path, max_steps=2, save_strategy="steps", save_steps=2)
    trainer.train()
    saved = json.loads((tmp_path / "checkpoint-2" / "agentgym_credit.json").read_text(encoding="utf-8"))
    assert saved == trainer.credit_scales.to_dict()
    again = make(tmp_path, max_steps=3, save_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    steps = [entry["credit/s_T"] for entry in again.state.log_history if "credit/s_T" in entry]
    assert steps[2] == pytest.approx(trainer.credit_scales.turn)
    assert again.credit_scales.turn_square.n_steps == 3


def record(**changes):
    segment = Segment(
        (1, 2, 3, 4, 5, 6), (0, 0, 1, 0, 1, 0), (0.0, 0.0, -1.0, 0.0, -2.0, 0.0), (Span(0, 2, 3), Span(1, 4, 5))
    )
    turns = (Turn(0, "a", reward=0.5), Turn(1, "b"))
    return Trajectory("t", "E", "q", (), turns, segments=(segment,), reward=1.0).with_(**changes)


def test_recorded_episodes_become_fields():
    lost = record(in_statistics=False, in_loss=False)
    fields = rollout_fields([record(), lost])
    assert fields["prompt_ids"] == [[1, 2], [0]]
    assert fields["completion_ids"] == [[3, 4, 5], [0]]
    assert fields["env_mask"] == [[1, 0, 1], [0]]
    assert fields["logprobs"] == [[-1.0, 0.0, -2.0], [0.0]]
    assert fields["turn_rewards"] == [[0.5, 0.0], [0.5, 0.0]]
    assert fields["turn_spans"] == [[(0, 1), (2, 3)], []]
    assert outcome_reward(**fields) == [1.0, None]
    with pytest.raises(DataError, match="2 token segments"):
        rollout_fields([record(segments=record().segments * 2)])
