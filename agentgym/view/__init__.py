"""Views: terminal rendering, the static report of a run, learning curves. They read records; they compute nothing."""

from agentgym.view.curve import draw_curves
from agentgym.view.report import write_report
from agentgym.view.terminal import comparison_table, episode_text, evaluation_table, progress_line

__all__ = [
    "comparison_table",
    "draw_curves",
    "episode_text",
    "evaluation_table",
    "progress_line",
    "write_report",
]
