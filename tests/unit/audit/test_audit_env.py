"""The audit passes what is sound and fails what leaks or can be hacked, naming who is responsible."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest

import agentgym
from agentgym import hooks
from agentgym.audit import SECTIONS, AuditConfig, Report, audit_env
from agentgym.audit.hacks import HACKS
from agentgym.audit.tables import lines
from agentgym.envs.search_qa.env import SearchQAEnv
from agentgym.envs.tool_calls import Family
from agentgym.envs.tool_calls.desk import Desk
from agentgym.envs.tool_calls.domains.shop import SHOP
from agentgym.episode import Episode
from agentgym.errors import ConfigError, DataError
from agentgym.rewards import Cap, Component, EpisodeView, Suite
from agentgym.rewards.answers import answer_em
from agentgym.rewards.costs import all_valid
from agentgym.rewards.retrieval import retrieval_gain
from agentgym.task import Task
from agentgym.types import Score

WORLD = "synthetic:closed?seed=0"
SMALL = AuditConfig(episodes=3, instances=2)


def audit(env_id: str = "SearchQA-v0", config: AuditConfig = SMALL, **kwargs: Any) -> Report:
    return audit_env(env_id, config, **{"world": WORLD, **kwargs})


def failed(report: Report) -> dict[str, str]:
    return {f.name: f.component for f in report.failures}


@pytest.fixture
def register() -> Iterator[Any]:
    """Registers an environment class for one test."""
    made = []

    def add(cls: type) -> str:
        gym.register(id=f"{cls.__name__}-v0", entry_point=cls)
        made.append(f"{cls.__name__}-v0")
        return made[-1]

    yield add
    for name in made:
        gym.registry.pop(name)


@pytest.mark.parametrize(
    ("reward", "dialect"), [("search", "tags"), ("search", "json"), ("search_ig", "tags"), ("search_cited", "json"), ("search_gated", "tags")]
)
def test_every_search_preset_passes(reward: str, dialect: str) -> None:
    report = audit(reward=reward, dialect=dialect)
    assert failed(report) == {}
    assert set(report.verdicts()) == set(SECTIONS)
    assert report.rows[0].success == 1.0
    assert {r.name for r in report.rows} >= {h.name for h in HACKS}
    assert all(r.total == pytest.approx(sum(r.components.values()), abs=1e-9) for r in report.rows)


# ---- rewards that can be hacked


class Substring(Component):
    """1 if the gold answer occurs in the answer: what a careless author writes first."""

    name, scope, range, supply = "substring", "trajectory", (0.0, 1.0), "terminal"
    failure_max = 0.0

    def score(self, view: EpisodeView, state: Any) -> Score:
        gold = view.gold.answers[0].text.casefold()
        return Score("trajectory", float(gold in (view.answer or "").casefold()))


class FormatBonus(Component):
    """1 for every turn that is well formed."""

    name, scope, range, supply = "format_bonus", "turn", (0.0, 1.0), "unbounded"

    def score(self, view: EpisodeView, state: Any) -> Score:
        return Score("turn", float(not view.turns[-1].error_code))


class Transcript(Component):
    """Share of gold documents whose id occurs anywhere in what was written or shown."""

    name, scope, range, supply = "transcript", "trajectory", (0.0, 1.0), "terminal"
    is_outcome = False

    def score(self, view: EpisodeView, state: Any) -> Score:
        text = " ".join(t.action + " ".join(m.text for m in t.messages) for t in view.turns)
        wanted = view.gold.doc_ids
        return Score("trajectory", sum(f"doc:{d}" in text for d in wanted) / len(wanted))


def test_a_naive_substring_match_fails_and_is_named() -> None:
    found = failed(audit(reward=Suite(Substring() + 0.1 * all_valid, success="substring")))
    assert found["hack: name stuffing"] == "substring"
    assert found["hack: echo observation"] == "substring"
    assert found["right answers in other writing are right, near misses wrong"] == "substring"


def test_a_bonus_per_turn_fails_and_is_named() -> None:
    with pytest.warns(UserWarning, match="margin"):
        suite = Suite(answer_em + Cap(0.3 * FormatBonus(), 0.0, 5.0), name="bonus")
    found = failed(audit(reward=suite))
    assert found["an idle turn earns nothing"] == "format_bonus"
    assert found["hack: padding"] == "format_bonus"
    assert "every success beats every failure (declared)" in found


def test_a_reward_that_reads_the_transcript_fails_and_is_named() -> None:
    found = failed(audit(reward=Suite(answer_em + 0.2 * Transcript(), name="text")))
    assert found["the wording of an action does not matter"] == "transcript"


def test_a_gain_that_forgets_what_it_paid_fails_and_is_named() -> None:
    class Forgetful(type(retrieval_gain)):
        """Pays every turn for every gold document shown."""

        name = "forgetful"

        def score(self, view: EpisodeView, state: Any) -> Score:
            return super().score(view, self.start(view))

    found = failed(audit(reward=Suite(answer_em + 0.2 * Forgetful(), name="forgetful")))
    assert "forgetful" in (found.get("a repeated turn earns nothing"), found.get("scores stay inside the declared bounds"))


# ---- environments that leak


class HintInInfo(SearchQAEnv):
    """Says the answer in the info of reset."""

    def reset(self, **kwargs: Any) -> tuple[str, dict[str, Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        observation, info = super().reset(**kwargs)
        return observation, info | {"solution": self.task.gold.answers[0].text}


class AnswerAttribute(SearchQAEnv):
    """Keeps the answer as an attribute."""

    @property
    def expected_answer(self) -> str:
        return "" if self._episode is None else self._episode.task.gold.answers[0].text[::-1]


class CountedAnswer(SearchQAEnv):
    """Tells the length of the answer by blanks at the end of a line."""

    def status(self, episode: Episode) -> str:
        return super().status(episode) + " " * len(episode.task.gold.answers[0].text)


class GoldToTools(SearchQAEnv):
    """Hands the task to the tools."""

    def services(self, task: Task) -> Mapping[str, Any]:
        return {**super().services(task), "task": task}


class OpenTags(SearchQAEnv):
    """Shows documents as they are."""

    def _escaped(self, text: str, max_chars: int) -> str:
        return text[:max_chars]


class Shared(SearchQAEnv):
    """Keeps state from one episode to the next."""

    def reset(self, **kwargs: Any) -> tuple[str, dict[str, Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.__dict__["count"] = self.__dict__.get("count", 0) + 1
        observation, info = super().reset(**kwargs)
        return observation, info

    def status(self, episode: Episode) -> str:
        return f"{super().status(episode)} [{self.__dict__['count']}]"


LEAKS: dict[type, set[str]] = {
    HintInInfo: {"hack: cheat", "gold does not change what is shown", "marked gold appears nowhere"},
    AnswerAttribute: {"hack: cheat", "gold does not change what is shown"},
    CountedAnswer: {"gold does not change what is shown"},
    GoldToTools: {"tools are handed no gold"},
    OpenTags: {"text of documents cannot open or close a tag"},
    Shared: {"same seed, same episode"},
}


@pytest.mark.parametrize("cls", LEAKS)
def test_a_faulty_environment_fails_for_its_fault(cls: type, register: Any) -> None:
    report = audit(register(cls))
    assert set(failed(report)) >= LEAKS[cls]
    assert report.verdicts()["scales"] in ("pass", "fail")
    if "hack: cheat" in LEAKS[cls]:
        assert failed(report)["hack: cheat"] == "answer_em"


# ---- the report


def test_the_report_is_plain_and_readable() -> None:
    report = audit(reward="answer_f1")
    body = report.to_json()
    assert body["passed"] is False
    assert body["verdicts"]["hack-resistant"] == "fail"
    text = "\n".join(lines(report))
    assert "FAIL hack-resistant" in text
    assert "every success beats every failure" in text
    assert "turns per CPU second" in text
    assert report.measured["turns_per_cpu_s"] > 0


def test_learning_is_read_from_the_metrics_of_a_run(tmp_path: Any) -> None:
    rows = [f'{{"phase": "train", "step": {n}, "metrics": {{"success": {n / 40}}}}}' for n in range(30)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    good = audit(config=AuditConfig(episodes=2, instances=1, run=tmp_path, steps=30))
    assert failed(good) == {}
    assert good.verdicts()["learnable"] == "pass"
    assert good.measured["learned_to"] > good.measured["learned_from"]
    short = audit(config=AuditConfig(episodes=2, instances=1, run=tmp_path, steps=4))
    assert set(failed(short)) == {"success rises within 4 training steps"}
    (tmp_path / "metrics.jsonl").write_text('{"phase": "train", "metrics": {"loss": 1}}\n', encoding="utf-8")
    with pytest.raises(DataError, match="success"):
        audit(config=AuditConfig(episodes=2, run=tmp_path))


QUESTIONS = """\
{"id": "tower", "question": "How high is the tower?", "answer": "333", "gold_passages": ["tower"]}
{"id": "firm", "question": "Which firm built the tower?", "answer": "Zuma Inc.", "gold_passages": ["tower", "firm"]}
{"id": "price", "question": "What does the tower cost to enter?", "answer": "12.50", "gold_passages": ["price"]}
"""
PASSAGES = """\
{"id": "tower", "title": "Tower", "text": "The tower is 333 metres high. Zuma Inc. built it."}
{"id": "firm", "title": "Zuma Inc.", "text": "Zuma Inc. builds towers."}
{"id": "price", "title": "Prices", "text": "The tower costs 12.50 to enter."}
"""


def test_questions_and_passages_of_ones_own_raise_no_false_alarm(tmp_path: Any) -> None:
    for name, text in (("questions.jsonl", QUESTIONS), ("passages.jsonl", PASSAGES)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    report = audit_env("SearchQA-v0", SMALL, tasks=str(tmp_path / "questions.jsonl"), index=str(tmp_path / "passages.jsonl"))
    assert [f"{f.name}: {f.detail}" for f in report.failures] == []


def test_the_card_need_not_name_the_tools_of_a_world_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = replace(SHOP, name="audited_shop", look=replace(SHOP.look, name="look_at"))
    family = Family("audited_shop", lambda size, seed: Desk(schema, size, seed), size=60)
    monkeypatch.setitem(hooks.WORLDS._targets, family.name, family)
    report = audit_env("ToolCalls-v0", AuditConfig(episodes=1, instances=1), world="audited_shop")
    assert [f"{f.name}: {f.detail}" for f in report.failures] == []
    [rising] = [f for f in report.findings if f.name == "fewer mistakes earn more"]
    assert rising.status == ("skip" if " > " not in rising.detail else "pass"), "one task tells little, and says so"


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="episodes"):
        audit(config=AuditConfig(episodes=0))
    with pytest.raises(ConfigError, match="wurld"):
        audit_env("SearchQA-v0", SMALL, wurld=1)
    with pytest.raises(ConfigError, match="ToolEnv"):
        audit_env("CartPole-v1", SMALL)


def test_the_cheat_reads_only_what_a_policy_is_handed() -> None:
    assert not any(r.success for r in audit(reward="search").rows if r.kind == "hack")
    assert agentgym.ToolEnv.oracle_action.__name__ == "oracle_action"
