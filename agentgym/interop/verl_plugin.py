"""Registers the estimator `agentgym_turn` with verl: VERL_USE_EXTERNAL_MODULES=agentgym.interop.verl_plugin."""

from agentgym.interop.verl import register

ESTIMATOR = register()
"""The estimator of this process."""
