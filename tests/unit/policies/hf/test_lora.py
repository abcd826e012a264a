"""Adapters: what they compute, what learns, what a checkpoint holds, who can read it."""

import json

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("peft", reason="needs the extra `lora`")
pytestmark = [pytest.mark.torch, pytest.mark.lora, pytest.mark.filterwarnings("ignore")]

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from agentgym.errors import ConfigError, DataError, MissingExtraError  # noqa: E402
from agentgym.policies import hf  # noqa: E402
from agentgym.policies.hf import tiny  # noqa: E402
from agentgym.types import TokenRows  # noqa: E402

ROWS = TokenRows(((5, 6, 7, 8, 9, 10),), ((0, 0, 0, 1, 1, 1),))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny.load(seed=3).save(folder)
    return folder


def learn(policy):
    """Take a step on the adapters, large enough to be seen."""
    optimizer = torch.optim.SGD(list(policy.parameters()), lr=5.0)
    for _ in range(2):  # the first step moves B alone: A has no gradient while B is 0
        optimizer.zero_grad()
        policy.logprobs(ROWS).sum().backward()
        optimizer.step()
    policy.sync(1)


def test_adapters_change_nothing_until_they_learn_and_are_all_that_learns(base):
    plain, policy = hf.load(base), hf.load(base, lora=4)
    torch.testing.assert_close(policy.logprobs(ROWS), plain.logprobs(ROWS), rtol=0, atol=1e-6)
    learning = list(policy.parameters())
    linear = 7 * policy.model.config.num_hidden_layers  # four of attention, three of the feed-forward layer
    assert len(learning) == 2 * linear
    assert sum(p.numel() for p in learning) < 0.2 * sum(p.numel() for p in plain.parameters())
    before = [p.clone() for p in policy.model.parameters() if not p.requires_grad]
    learn(policy)
    assert all(torch.equal(a, b) for a, b in zip(before, [p for p in policy.model.parameters() if not p.requires_grad], strict=True))
    assert float((policy.logprobs(ROWS) - plain.logprobs(ROWS)).abs().max()) > 1e-3


def test_a_checkpoint_holds_the_adapters_alone_and_comes_back_exactly(base, tmp_path):
    policy = hf.load(base, lora=4)
    learn(policy)
    policy.save(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
    again = hf.load(base, lora=4)
    again.load(tmp_path)
    assert torch.equal(again.logprobs(ROWS), policy.logprobs(ROWS))


def test_transformers_and_the_hf_policy_read_the_folder(base, tmp_path):
    policy = hf.load(base, lora=4)
    learn(policy)
    policy.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    logits = model(torch.tensor(ROWS.ids)).logits[0].log_softmax(-1)
    want = [float(logits[t - 1, ROWS.ids[0][t]]) for t in (3, 4, 5)]
    assert policy.logprobs(ROWS)[0, 3:].tolist() == pytest.approx(want, abs=1e-5)
    assert hf.load(tmp_path).logprobs(ROWS)[0, 3:].tolist() == pytest.approx(want, abs=1e-5)


def test_the_first_matrices_are_keyed_and_no_global_generator_is_touched(base):
    state = torch.random.get_rng_state()
    one, two = hf.load(base, lora=2), hf.load(base, lora=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_other_adapters_and_no_rank_are_refused(base, tmp_path):
    policy = hf.load(base, lora=2)
    policy.save(tmp_path)
    with pytest.raises(DataError, match="adapters of another shape"):
        hf.load(base, lora=4).load(tmp_path)
    with pytest.raises(DataError, match="holds no adapters"):
        policy.load(base)
    with pytest.raises(ConfigError, match=r"lora = -1: the rank"):
        hf.load(base, lora=-1)


def test_a_missing_package_is_said_with_the_line_to_run(base, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "agentgym.policies.hf.lora", raising=False)
    with pytest.raises(MissingExtraError, match=r"'peft'.*pip install 'agentic-gym\[lora\]'"):
        hf.load(base, lora=2)
