"""Rewards: components over typed events, their algebra, suites and presets.

The lower-case names are components ready for use: `answer_em + Cap(0.2 * retrieval_gain, -0.2, 0.2)`.
"""

from agentgym.rewards.answers import answer_cover, answer_em, answer_f1, answer_scores
from agentgym.rewards.component import Component, DeferredComponent, EpisodeView, Scorer
from agentgym.rewards.costs import all_valid, call_cost, forgery, invalid_action, step_cost
from agentgym.rewards.expression import Cap, Expression, Gate
from agentgym.rewards.information import InformationGain, information_gain
from agentgym.rewards.presets import build_suite
from agentgym.rewards.registering import component_named, reward
from agentgym.rewards.retrieval import query_novelty, retrieval_gain
from agentgym.rewards.suite import Bounds, Suite, as_info

__all__ = [
    "Bounds",
    "Cap",
    "Component",
    "DeferredComponent",
    "EpisodeView",
    "Expression",
    "Gate",
    "InformationGain",
    "Scorer",
    "Suite",
    "all_valid",
    "answer_cover",
    "answer_em",
    "answer_f1",
    "answer_scores",
    "as_info",
    "build_suite",
    "call_cost",
    "component_named",
    "forgery",
    "information_gain",
    "invalid_action",
    "query_novelty",
    "retrieval_gain",
    "reward",
    "step_cost",
]
