"""Which curves a report draws and what each one means, in words for a reader who sees them for the first time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentgym.types import JSON

Series = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. A line is (phase, metric, label); a metric that ends in "/" stands for all that begin with it."""

    section: str
    title: str
    note: str
    lines: tuple[tuple[str, str, str], ...]
    band: tuple[str, str] | None = None
    """Metrics of the first line's lower and upper bound."""
    unit: bool = False
    """The values are shares: the axis shows 0 to 1."""
    zeros: bool = True
    """Draw lines that are 0 everywhere."""


LEARNS, ACTS, CREDIT, UPDATE = (
    "Does it learn?",
    "How does it act?",
    "What does it learn from?",
    "Are the updates healthy?",
)

CHARTS = (
    Chart(
        LEARNS,
        "Success",
        "Share of episodes with the right outcome. Held-out tasks are never trained on; the band is their 95 % interval. "
        "The training curve is noisy: each step draws other tasks.",
        (("evaluation", "eval/success", "held-out tasks"), ("train", "success", "training episodes")),
        ("eval/success_low", "eval/success_high"),
        unit=True,
    ),
    Chart(
        LEARNS,
        "Held-out success by kind of task",
        "The same held-out success, split by kind: shows what is learned first and what stays hard.",
        (("evaluation", "eval/success/", ""),),
        unit=True,
    ),
    Chart(
        LEARNS,
        "Reward an episode",
        "The sum of all components, turns and outcome together: what the environment pays, before any credit assignment.",
        (("train", "reward", "training episodes"), ("evaluation", "eval/reward", "held-out tasks")),
    ),
    Chart(
        LEARNS,
        "Reward by component",
        "Mean contribution of each component to an episode, after weights and caps; together they are the reward. "
        "Hide the large ones (click their names) to see the small ones.",
        (("train", "reward/", ""),),
        zeros=False,
    ),
    Chart(
        LEARNS,
        "Warm start: loss",
        "Imitation of demonstrations before learning from reward, in nats per token; 0 on the axis is where learning begins.",
        (("warmstart", "sft/loss", "loss"),),
    ),
    Chart(
        ACTS,
        "Turns an episode",
        "Rising: it searches longer before it answers. Falling to 1: it answers without looking anything up.",
        (("train", "turns", "training episodes"), ("evaluation", "eval/turns", "held-out tasks")),
    ),
    Chart(
        ACTS,
        "Tokens an episode",
        "Tokens that the policy wrote itself, all turns together. A jump is a first sign of rambling.",
        (("train", "action_tokens", "tokens"),),
    ),
    Chart(
        ACTS,
        "Entropy of the policy",
        "How undecided it is, in nats per written token. Near 0 it always does the same and finds nothing new.",
        (("train", "entropy", "entropy"),),
    ),
    Chart(
        ACTS,
        "Rates that the guards watch",
        "Answered: episodes that end with an answer. Used a tool: a call worked before the end. Bad actions: turns that "
        "the environment refused. Cut by a limit, lost to faults: episodes that did not end by themselves.",
        (
            ("train", "answer_rate", "answered"),
            ("train", "tool_use_rate", "used a tool"),
            ("train", "error_rate", "bad actions"),
            ("train", "truncated_share", "cut by a limit"),
            ("train", "fault_share", "lost to faults"),
        ),
        unit=True,
    ),
    Chart(
        CREDIT,
        "Groups that teach nothing",
        "Zero-variance share: groups whose siblings all scored alike, so no action is better than another. "
        "Near 1 the tasks are too easy, too hard, or the groups too small.",
        (("train", "zero_variance_share", "zero-variance share"),),
        unit=True,
    ),
    Chart(
        CREDIT,
        "Scales s_T and s_O",
        "How far siblings usually lie apart in turn scores (s_T) and outcome scores (s_O). Advantages are divided by "
        "them, so that both levels speak equally loud; each is fixed before the step that uses it.",
        (("train", "s_T", "s_T: turn scores"), ("train", "s_O", "s_O: outcome scores")),
    ),
    Chart(
        CREDIT,
        "w: weight of turn scores",
        "What one point of turn score is worth in points of outcome: w = turn_weight · s_O / s_T. It rises when siblings "
        "hardly differ in their turns any more.",
        (("train", "w", "w"),),
    ),
    Chart(
        CREDIT,
        "Margin between success and failure",
        "Least total of a success minus the best of a failure, as declared ranges allow, with turn scores weighed by w. "
        "Below 0 a failure could in theory pay more than a success.",
        (("train", "margin", "margin"),),
    ),
    Chart(
        CREDIT,
        "Where the credit lies",
        "Share of all advantage (as absolute value) on each turn: early turns learn to search, late ones to answer.",
        (("train", "credit/mass/", ""),),
        unit=True,
    ),
    Chart(
        UPDATE,
        "Loss of an update",
        "Policy loss of the step's batch. Its level says little (rewards, not the loss, show progress); a jump is worth a look.",
        (("train", "loss", "loss"),),
    ),
    Chart(
        UPDATE,
        "Distance of an update",
        "KL divergence that one step's updates cause, in nats per token, and, where it is used, the distance to the "
        "reference policy. Spikes are updates that went too far.",
        (("train", "approx_kl", "one step"), ("train", "reference_kl", "to the reference")),
        zeros=False,
    ),
    Chart(
        UPDATE,
        "Clipped tokens",
        "Share of tokens whose probability moved so far within one step that clipping holds their gradient back.",
        (("train", "clip_share", "clip share"),),
    ),
    Chart(
        UPDATE,
        "Size of the gradient",
        "Norm before it is limited (train.max_grad_norm). Growth over many steps is a warning; single peaks are not.",
        (("train", "grad_norm", "gradient norm"),),
    ),
)


def charts(series: Series) -> list[dict[str, JSON]]:
    """Return the charts for which there are curves, as the page draws them: lines as (phase, metric, label)."""
    drawn = []
    for chart in CHARTS:
        lines = [line for given in chart.lines for line in _matching(given, series)]
        if not chart.zeros:
            lines = [line for line in lines if any(series[line[0]]["y"][line[1]])]
        if not lines:
            continue
        body: dict[str, JSON] = {"section": chart.section, "title": chart.title, "note": chart.note, "unit": chart.unit}
        body["named"] = any(metric.endswith("/") for _, metric, _ in chart.lines)
        body["lines"] = [list(line) for line in lines]
        if chart.band and lines[0][0] == "evaluation" and all(b in series["evaluation"]["y"] for b in chart.band):
            body["band"] = list(chart.band)
        drawn.append(body)
    return drawn


def _matching(given: tuple[str, str, str], series: Series) -> list[tuple[str, str, str]]:
    phase, metric, _ = given
    names = series.get(phase, {}).get("y", {})
    if not metric.endswith("/"):
        return [given] if metric in names else []
    return [(phase, name, _plain(name.removeprefix(metric))) for name in names if name.startswith(metric)]


def _plain(name: str) -> str:
    return name.replace("turn_", "turn ") if name.startswith("turn_") else name


def component_rows(series: Series, recorded: Mapping[str, float], about: Mapping[str, str]) -> list[dict[str, JSON]]:
    """Return a row per reward component: its mean contribution to an episode at the start and the end of the run.

    Args:
        series: As `agentgym.view.series.series` returns them.
        recorded: Means over the recorded episodes, for folders without curves.
        about: What a component says, by name.
    """
    columns = series.get("train", {}).get("y", {})
    curves = {name.removeprefix("reward/"): c for name, c in columns.items() if name.startswith("reward/")}
    rows: list[dict[str, JSON]] = []
    for name, curve in curves.items():
        known = [v for v in curve if v is not None]
        n = max(1, len(known) // 10)
        first, last = sum(known[:n]) / n, sum(known[-n:]) / n
        rows.append(
            {"name": name, "about": about.get(name, ""), "first": first, "last": last, "curve": f"reward/{name}"}
        )
    if not curves:
        rows = [{"name": name, "about": about.get(name, ""), "last": value} for name, value in recorded.items()]
    return rows
