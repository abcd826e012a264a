"""The recorded numbers of the audit: they hold, and `pytest --update-golden` writes them anew."""

import json
from pathlib import Path

import gymnasium as gym
import pytest

import agentgym
from agentgym.audit import golden, probes
from agentgym.envs import ENVIRONMENTS


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_golden_episodes_hold(env_id: str, request: pytest.FixtureRequest) -> None:
    env = gym.make(env_id).unwrapped
    assert isinstance(env, agentgym.ToolEnv)
    path = golden.golden_path(env)
    if not path.exists():
        pytest.skip(f"{env_id} has no golden episodes yet")
    if request.config.getoption("--update-golden"):
        path.write_text(golden.write_golden(env), encoding="utf-8", newline="\n")
    [found] = golden.check_golden(env)
    assert found.status == "pass", found.detail


def test_known_scores_hold(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        probes.PATH.write_text(probes.probes_text(), encoding="utf-8", newline="\n")
    found = probes.check_components(agentgym.build_suite("search"))
    assert [f.detail for f in found if f.status == "fail"] == []


def test_known_scores_of_what_is_known_by_hand() -> None:
    known = json.loads(probes.PATH.read_text(encoding="utf-8"))
    assert known["answer_em"]["answer, wide"][:2] == [True, 1.0]
    assert known["answer_em"]["answer, look-alike"][:2] == [False, 0.0]
    assert known["answer_f1"]["answer, twice"][1] == pytest.approx(2 / 3, abs=1e-9)
    assert known["answer_cover"]["answer, list"][1] == 0.0
    assert known["retrieval_gain"]["same hit again"][1] == 0.5
    assert known["query_novelty"]["same hit again"][1] == -2.0
    assert known["forgery"]["forged thrice"][1] == -1.0
    assert known["search"]["bounds"][0] == [0.5, 1.3, -0.5, 0.3, 0.2]
    assert known["search"]["service fault"][0] is False


def test_a_changed_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = json.loads(probes.PATH.read_text(encoding="utf-8"))
    known["answer_f1"]["answer, part"][1] = 0.5
    changed = tmp_path / "probes.json"
    changed.write_text(json.dumps(known), encoding="utf-8")
    monkeypatch.setattr(probes, "PATH", changed)
    [found, *_] = probes.check_components(agentgym.build_suite("search"))
    assert (found.status, found.component) == ("fail", "answer_f1")
    assert "answer, part" in found.detail
