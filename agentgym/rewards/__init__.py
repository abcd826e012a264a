"""Rewards: components over typed events, their algebra, suites and presets.

The lower-case names are components ready for use: `answer_em + Cap(0.2 * retrieval_gain, -0.2, 0.2)`.
"""

from agentgym.rewards.actions import action_match, hierarchical_action
from agentgym.rewards.answers import answer_cover, answer_em, answer_f1, answer_scores
from agentgym.rewards.calls import call_match, exact_calls
from agentgym.rewards.checklist import Checklist, register_checklist
from agentgym.rewards.checklist_toml import load_checklists
from agentgym.rewards.component import Component, DeferredComponent, EpisodeView, Scorer
from agentgym.rewards.costs import all_valid, call_cost, forgery, invalid_action, step_cost
from agentgym.rewards.expression import Cap, Expression, Gate
from agentgym.rewards.gui import gui_success
from agentgym.rewards.information import InformationGain, information_gain
from agentgym.rewards.nodes import Clip, MaxNorm, Mean, Min, Once, OnlyIf, Product, Schedule, Shaped
from agentgym.rewards.outcomes import Solved, graded, task_success
from agentgym.rewards.potentials import Potential
from agentgym.rewards.presets import build_suite
from agentgym.rewards.registering import component_named, reward
from agentgym.rewards.replay import LATE_ENDS
from agentgym.rewards.replies import ask_gain, communicate
from agentgym.rewards.retrieval import query_novelty, retrieval_gain
from agentgym.rewards.scoring import attributed
from agentgym.rewards.states import state_assert, state_match, state_partial
from agentgym.rewards.suite import Bounds, Suite, as_info
from agentgym.rewards.traces import trace_match

__all__ = [
    "LATE_ENDS",
    "Bounds",
    "Cap",
    "Checklist",
    "Clip",
    "Component",
    "DeferredComponent",
    "EpisodeView",
    "Expression",
    "Gate",
    "InformationGain",
    "MaxNorm",
    "Mean",
    "Min",
    "Once",
    "OnlyIf",
    "Potential",
    "Product",
    "Schedule",
    "Scorer",
    "Shaped",
    "Solved",
    "Suite",
    "action_match",
    "all_valid",
    "answer_cover",
    "answer_em",
    "answer_f1",
    "answer_scores",
    "as_info",
    "ask_gain",
    "attributed",
    "build_suite",
    "call_cost",
    "call_match",
    "communicate",
    "component_named",
    "exact_calls",
    "forgery",
    "graded",
    "gui_success",
    "hierarchical_action",
    "information_gain",
    "invalid_action",
    "load_checklists",
    "query_novelty",
    "register_checklist",
    "retrieval_gain",
    "reward",
    "state_assert",
    "state_match",
    "state_partial",
    "step_cost",
    "task_success",
    "trace_match",
]
