"""The audit finds nothing in any world of ToolCalls: the solution succeeds, nobody else does, no gold is shown."""

import pytest

from agentgym.audit.environment import AuditConfig, audit_env
from agentgym.errors import AgentGymError
from agentgym.sandbox import shared_sandbox

@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["json", "tags"])
@pytest.mark.parametrize("world", ["shop?seed=3", "office?seed=3", "drawn?worlds=5", "shop:closed?worlds=5", "lab?seed=3"])
def test_the_audit_passes(world: str, dialect: str) -> None:
    if world.startswith("lab"):
        try:
            shared_sandbox("bubblewrap")
        except AgentGymError as error:
            pytest.skip(f"no sandbox here: {error}")
    report = audit_env("ToolCalls-v0", AuditConfig(episodes=4, instances=8), world=world, dialect=dialect)
    assert [(f.name, f.detail) for f in report.findings if f.status == "fail"] == []
    rows = {row.name: row for row in report.rows}
    assert rows["oracle"].success == 1.0
    assert rows["empty"].success == rows["cheat"].success == rows["misread"].success == 0.0
