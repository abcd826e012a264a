"""Availability by attack: a backend is available where the attacks of the probe were really held, here and now."""

import copy
from typing import Any

from agentgym.sandbox import cgroups
from agentgym.sandbox.attacks import ATTACKS
from agentgym.sandbox.guest import confine
from agentgym.sandbox.protocol import Availability, Limits
from agentgym.sandbox.stage import Stage

PROBE_LIMITS = Limits(wall_s=3.0, cpu_s=3.0, memory_mb=256, processes=16, disk_mb=16, file_mb=8)


def probe(sandbox: Any) -> Availability:
    """Run the attacks that are marked for it on a twin of a `WarmSandbox` with small limits.

    Raises:
        SandboxUnavailableError: the backend does not even start.
    """
    twin = copy.copy(sandbox)
    twin.limits, twin.workers, twin.spares, twin._checked = PROBE_LIMITS, 1, 0, False
    twin._reset()
    twin.uid = sandbox.host_uid  # the targets on the host belong to the user that programs run as
    held: dict[str, str] = {}
    try:
        with Stage(sandbox.host_uid) as stage:
            first = twin.run("1 + 1")
            if first.value != "2":
                return Availability(sandbox.name, False, f"a program did not run as it should: {first}")
            for attack in ATTACKS:
                if attack.probe:
                    held[attack.name] = stage.run(twin, attack)
    finally:
        twin.close()
    broken = {name: what for name, what in held.items() if what}
    reason = ""
    if broken:
        reason = f"{'; '.join(f'{name}: {what}' for name, what in broken.items())}. {sandbox.remedy}"
    notes = []
    if confine.landlock_abi() < confine.SCOPE_ABI:
        notes.append(f"Landlock version {confine.landlock_abi()}: no second wall inside (Linux 6.12 has it)")
    group = cgroups.make(PROBE_LIMITS)
    if group is None:
        notes.append("no control group: memory of all processes together is watched every 50 ms, not limited by the kernel")
    else:
        group.remove()
    return Availability(sandbox.name, not broken, reason, {name: not what for name, what in held.items()}, tuple(notes))
