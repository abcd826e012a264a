"""Hack policies, invariants and golden episodes against any environment and reward; checks of foreign logs."""

from agentgym.audit.environment import AuditConfig, audit_env
from agentgym.audit.report import SECTIONS, Finding, Report, Row

__all__ = ["SECTIONS", "AuditConfig", "Finding", "Report", "Row", "audit_env"]
