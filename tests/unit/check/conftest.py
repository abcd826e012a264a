import sys
from collections.abc import Iterator

import pytest

from agentgym import hooks


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test registers or imports is gone after it."""
    before, modules = dict(hooks.COMPONENTS._targets), set(sys.modules)
    yield
    hooks.COMPONENTS._targets.clear()
    hooks.COMPONENTS._targets.update(before)
    for name in set(sys.modules) - modules:
        if name == "checked_parts":
            del sys.modules[name]
