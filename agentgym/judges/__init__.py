"""Judges: decide one criterion about one text; rules, programs, stubs and model endpoints behind one protocol."""

from agentgym.judges.build import JudgeConfig, judge_named, judge_service
from agentgym.judges.combine import Comparison, Preference
from agentgym.judges.protocol import Judge, JudgeRequest, JudgeService, Verdict
from agentgym.judges.rules import ProgramJudge, RuleJudge, StubJudge

__all__ = [
    "Comparison",
    "Judge",
    "JudgeConfig",
    "JudgeRequest",
    "JudgeService",
    "Preference",
    "ProgramJudge",
    "RuleJudge",
    "StubJudge",
    "Verdict",
    "judge_named",
    "judge_service",
]
