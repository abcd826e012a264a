"""Whole episodes in the chat dialect: tokens of a chat template in the ledger, several segments, learner and sampler agree."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from chat_templates import tokenizer_of  # noqa: E402

import agentgym  # noqa: E402, F401 (registers the ids)
from agentgym.learn.batch import to_batch  # noqa: E402
from agentgym.policies.hf import HFPolicy  # noqa: E402
from agentgym.policies.scripted import ScriptedPolicy  # noqa: E402
from agentgym.rollout import EnvPool, SamplingConfig, run_groups  # noqa: E402
from agentgym.rollout.demonstrate import Demonstrator  # noqa: E402

pytestmark = pytest.mark.torch
WORLD = "synthetic:natural?entities=100&seed=0"


@pytest.fixture(scope="module")
def policy():
    tokenizer = tokenizer_of("qwen3")
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=16_384, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HFPolicy(transformers.LlamaForCausalLM(config).eval(), tokenizer)


def test_solutions_in_the_models_own_tokens(policy):
    pool = EnvPool("SearchQA-v0", world=WORLD, dialect="chat")
    groups = run_groups(pool, Demonstrator(ScriptedPolicy(), policy), pool.first.tasks()[:3], group_size=1, key=(0, 0))
    for group in groups:
        (record,) = group.trajectories
        assert record.success, record.error
        (segment,) = record.segments
        text = policy._codec.decode(segment.ids)
        assert '"name": "search"' in text.split("<|im_start|>user")[0], "tools are declared by the template"
        assert text.count("<tool_response>") == len(record.turns) - 1
        end = policy.renderer.end_of_turn
        assert all(segment.ids[span.end - 1] == end for span in segment.spans), "a demonstration ends its turn"
        shown = [policy._codec.decode(segment.ids[s.start : s.end - 1]) for s in segment.spans]
        assert shown == [t.action for t in record.turns]
        call = policy.tokenizer.convert_tokens_to_ids("<tool_call>")
        assert sum(i == call and m for i, m in zip(segment.ids, segment.mask, strict=True)) == len(record.turns) - 1


def test_what_is_sampled_is_what_is_learned(policy):
    pool = EnvPool("ToolCalls-v0", world="shop?seed=0", dialect="chat", limits={"max_turns": 4})
    tasks = pool.first.tasks()[:2]
    groups = run_groups(pool, policy, tasks, group_size=2, key=(0, 0), sampling=SamplingConfig(max_tokens=24))
    records = [t for g in groups for t in g.trajectories]
    assert not [t.error for t in records if t.error]
    assert max(len(t.turns) for t in records) > 1
    batch = to_batch(records, {t.id: [1.0] * len(t.turns) for t in records})
    with torch.no_grad():
        learned = policy.logprobs(batch.rows()).double().numpy()
    assert abs(learned - batch.old_logprobs)[batch.mask].max() < 1e-4


def test_a_policy_without_a_chat_template_is_told_so():
    class Own:
        privileged, served, max_context = False, False, 1_000

        class renderer:  # noqa: N801
            def start(self, messages, tools):
                return []

            def extend(self, messages, sampled):
                return []

        renderer = renderer()

        async def act(self, requests):
            raise AssertionError

        def release(self, episodes): ...

    pool = EnvPool("SearchQA-v0", world=WORLD, dialect="chat")
    (group,) = run_groups(pool, Own(), pool.first.tasks()[:1], group_size=1, key=(0, 0))
    assert "needs a policy with a chat template" in group.trajectories[0].error


def test_another_segment_begins_where_thoughts_are_stripped(policy):
    """The user's second message ends the first question: what was thought about it leaves the context."""

    class Thinking(ScriptedPolicy):
        async def act(self, requests):
            return [replace(c, text=f"<think>\nhm\n</think>\n\n{c.text}") for c in await super().act(requests)]

    pool = EnvPool("ToolCalls-v0", world="shop?seed=0", dialect="chat")
    tasks = pool.first.tasks()[:30]
    groups = run_groups(pool, Demonstrator(Thinking(), policy), tasks, group_size=1, key=(0, 0))
    assert max(len(g.trajectories[0].segments) for g in groups) > 1
    for group in groups:
        (record,) = group.trajectories
        assert not record.error
        said = sum(any(m.role == "user" for m in t.messages) for t in record.turns[:-1])
        assert len(record.segments) == 1 + said
        for segment in record.segments:
            text = policy._codec.decode(segment.ids)
            assert text.count("hm") == len(segment.spans), "each segment shows its own thoughts alone"
        assert sum(len(s.spans) for s in record.segments) == len(record.turns)
