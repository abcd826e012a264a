"""Components made with an argument inside expressions: "answer_em + 0.2*checklist:refund"."""

from collections.abc import Iterator

import pytest
from reward_episodes import alone

from agentgym import hooks
from agentgym.errors import ConfigError, NotRegisteredError
from agentgym.rewards import Checklist, register_checklist


@pytest.fixture(autouse=True)
def lists() -> Iterator[None]:
    names = ("a", "ab", "a-b.c/d")
    for name in names:
        register_checklist(Checklist(name).rule("looked", call="search"))
    yield
    for name in names:
        hooks.CHECKLISTS._targets.pop(name)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("answer_em + 0.2*checklist:a", {"answer_em": 1.0, "checklist:a": 0.2}),
        ("checklist:ab*0.3+0.2*checklist:a", {"checklist:ab": 0.3, "checklist:a": 0.2}),
        ("answer_em + Cap(checklist:a-b.c/d, -1, 0.5) - 0.1*checklist:a", {"answer_em": 1, "checklist:a-b.c/d": 1, "checklist:a": -0.1}),
        ("Gate(checklist_met:a,0.5*checklist:ab,1)", {"checklist:ab": 0.5}),
        ("checklist:a + checklist:a", {"checklist:a": 2.0}),
    ],
)
def test_names_with_an_argument_are_names(text: str, weights: dict[str, float]) -> None:
    suite = alone(text)
    assert {name: suite.program.weights[name] for name in weights} == pytest.approx(weights)


def test_faults_are_named_as_they_were_written() -> None:
    with pytest.raises(NotRegisteredError, match="did you mean 'ab'"):
        alone("answer_em + checklist:abb")
    with pytest.raises(ConfigError, match=r"'checklist:a / 2' is not understood.*checklist:refund"):
        alone("answer_em + checklist:a / 2")
