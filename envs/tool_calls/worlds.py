"""The built-in worlds by name."""

from agentgym.envs.tool_calls.domains.closed import LIMITS as CLOSED_LIMITS
from agentgym.envs.tool_calls.domains.closed import closed_shop
from agentgym.envs.tool_calls.domains.drawn import drawn
from agentgym.envs.tool_calls.domains.lab import lab
from agentgym.envs.tool_calls.domains.office import office
from agentgym.envs.tool_calls.domains.shop import shop
from agentgym.envs.tool_calls.tasks import Family

DRAWN_WORLDS = 64
CLOSED_WORLDS = 256

SHOP = Family("shop", shop, size=100)
OFFICE = Family("office", office, size=60)
LAB = Family("lab", lab, size=40, max_size=1_000, unit="tables")
DRAWN = Family("drawn", drawn, size=40, pool=DRAWN_WORLDS)
CLOSED = Family("shop:closed", closed_shop, size=16, min_size=8, max_size=30, pool=CLOSED_WORLDS, limits=CLOSED_LIMITS)
