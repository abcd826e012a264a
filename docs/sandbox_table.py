"""Writes docs/sandbox_table.md by running every attack against every backend: `make sandbox-table`.

Run as root it also runs the columns of an ordinary user, in a process of the user `nobody`. Takes minutes.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from unfenced import HARMLESS, Unfenced  # noqa: E402

from agentgym.sandbox import Limits, SandboxUnavailableError, open_sandbox  # noqa: E402
from agentgym.sandbox.attacks import ATTACKS, KNOWN  # noqa: E402
from agentgym.sandbox.bubblewrap import UID, find_bwrap  # noqa: E402
from agentgym.sandbox.guest.confine import landlock_abi  # noqa: E402
from agentgym.sandbox.interpreter import find  # noqa: E402
from agentgym.sandbox.stage import Stage  # noqa: E402

OUT = ROOT / "docs" / "sandbox_table.md"
NOBODY = 65534
LIMITS = Limits(wall_s=20.0, cpu_s=5.0, memory_mb=256, processes=32, disk_mb=32, file_mb=16)


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with --json print one user's columns."""
    if "--json" in arguments:
        print(json.dumps({name: column(name) for name in ("bubblewrap", "process")}))
        return 0
    root = os.getuid() == 0
    who = "root" if root else "user"
    columns = {
        "no sandbox": unfenced(),
        f"process, {who}": column("process"),
        f"bubblewrap, {who}": column("bubblewrap"),
        "docker": column("docker"),
    }
    if root:
        for name, found in as_nobody().items():
            columns[f"{name}, user"] = found
    names = [n for n in ("no sandbox", "process, root", "process, user", "bubblewrap, root", "bubblewrap, user", "docker") if n in columns]
    OUT.write_text("\n".join(page(names, columns)) + "\n", encoding="utf-8")
    wrong = [f"{name}: {attack}: {got}" for name in names[1:] for attack, got in columns[name].items() if surprising(name, attack, got)]
    print("\n".join(wrong) or f"wrote {OUT.relative_to(ROOT)}: every attack held or known", file=sys.stderr)
    return 1 if wrong else 0


def column(backend: str) -> dict[str, str]:
    """Return attack -> "" (held) or what got through; {"refused": why} where the backend is not available."""
    try:
        sandbox = open_sandbox(backend, LIMITS, workers=1, spares=0)
    except SandboxUnavailableError as error:
        return {"refused": str(error)}
    sandbox.uid = sandbox.host_uid
    found = {}
    try:
        with Stage(sandbox.host_uid) as stage:
            for attack in ATTACKS:
                print(backend, attack.name, file=sys.stderr)
                found[attack.name] = stage.run(sandbox, attack)
    finally:
        sandbox.close()
    return found


def unfenced() -> dict[str, str]:
    """Run the harmless attacks without a sandbox."""
    uid = UID if os.getuid() == 0 else None
    attacks = [attack for attack in ATTACKS if attack.name in HARMLESS]
    with Stage(uid) as stage, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        plain = Unfenced(uid, folder)
        return {attack.name: stage.run(plain, attack) for attack in attacks}


def as_nobody() -> dict[str, dict[str, str]]:
    """Run both local backends as the user nobody."""
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [find(everybody=True).path, __file__, "--json"], cwd="/", env=environment, stdout=subprocess.PIPE, text=True,
        user=NOBODY, group=NOBODY, extra_groups=[], check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def surprising(name: str, attack: str, got: str) -> bool:
    """Say whether a result is another than the table of known ones says."""
    return attack != "refused" and bool(got) != ((name.split(",")[0], attack) in KNOWN)


def page(names: list[str], columns: dict[str, dict[str, str]]) -> list[str]:
    """Return the lines of the page."""
    lines = [
        "# Attacks on the sandboxes",
        "",
        "Written by `make sandbox-table`, which runs every program of `agentgym/sandbox/attacks.py`; do not edit.",
        "held = the program got nothing, the host is unchanged and the sandbox works on. **X** = it got through.",
        "*no sandbox* is the control, a plain subprocess: it shows that an attack is real; – = not run there, it could do harm.",
        f"Limits: {LIMITS.memory_mb} MiB, {LIMITS.processes} processes, {LIMITS.disk_mb} MiB of disk, {LIMITS.file_mb} MiB a file.",
        f"Machine: Linux {platform.release()} {platform.machine()}, Landlock version {landlock_abi()}, {_bwrap_version()}.",
        "Columns *root* and *user*: whom the training process runs as. Known gaps stand below the table.",
        "",
        f"| attack | what it tries | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for attack in ATTACKS:
        cells = [_cell(columns[name], attack.name) for name in names]
        lines.append(f"| {attack.name} | {attack.about} | {' | '.join(cells)} |")
    lines += ["", *(f"- `{backend}`, {attack}: {why}." for (backend, attack), why in KNOWN.items())]
    refused = [(name, columns[name]["refused"]) for name in names if "refused" in columns[name]]
    lines += [f"- {name}: refused here: {why}" for name, why in refused]
    return lines


def _cell(found: dict[str, str], attack: str) -> str:
    if "refused" in found:
        return "refused"
    if attack not in found:
        return "–"
    return "**X**" if found[attack] else "held"


def _bwrap_version() -> str:
    try:
        return subprocess.run([find_bwrap(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (SandboxUnavailableError, OSError, subprocess.CalledProcessError):
        return "no bubblewrap"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
