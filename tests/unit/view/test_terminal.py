"""The terminal shows recorded text, and never obeys it."""

from run_folders import trajectory

from agentgym.types import Score
from agentgym.view import episode_text
from agentgym.view.terminal import score_line


def test_an_episode_with_its_scores() -> None:
    shown = episode_text(trajectory())
    for part in (
        "<search>Irma</search>",
        "Irma born Istrava",
        "retrieval_gain +1.00 × 0.2 = +0.200 (1 of 1 found)",
        "total +1.200",
    ):
        assert part in shown


def test_control_characters_are_shown_as_code_points() -> None:
    shown = episode_text(trajectory(said="\x1b]0;title\x07\x1b[2J\r\u202e\ud800", id="[red]id[/red]"))
    assert not {"\x1b", "\x07", "\r", "\u202e", "\ud800"} & set(shown)
    assert "⟨001B⟩[2J⟨000D⟩⟨202E⟩⟨D800⟩" in shown.replace(" │\n│ ", "")
    assert "[red]id[/red]" in shown


def test_a_value_that_a_node_changed_is_no_plain_product() -> None:
    scores = {"step_cost": Score("turn", -1.0, 0.01, -0.007, reason="a step"), "em": Score("trajectory", 1.0, 0.3, 0.3)}
    assert score_line(scores) == "step_cost -1.00 × 0.01 → -0.007 (capped; a step)   em +1.00 × 0.3 = +0.300"
