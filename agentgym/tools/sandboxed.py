"""`python_tool` and `shell_tool`: what a policy writes runs in a sandbox, one session an episode.

Both use the same session, so a file that one writes is there for the other. What a program does wrong (raises, hangs,
prints for ever, forks, kills itself) is in the result; a sandbox that is gone is a ServiceError, and the episode
abstains. No sandbox on the machine is an error that says what to install; nothing falls back to a weaker one.
"""

from collections.abc import Callable, Mapping
from typing import Any

from agentgym import hooks
from agentgym.errors import ConfigError
from agentgym.sandbox import ExecResult, Limits, Sandbox, Session, shared_sandbox
from agentgym.tools.tool import Tool, ToolContext, tool
from agentgym.types import JSON

SESSION = "sandbox"
"""Key of the session: of a service that the environment lends, or else of the resource that the tools open."""
_WORDS = {
    "wall": "it took longer than {wall_s:g} s",
    "cpu": "it used more than {cpu_s:g} s of CPU time",
    "memory": "it used more than {memory_mb} MiB",
    "processes": "it started more than {processes} processes",
    "output": "it printed far more than {output_bytes} bytes",
    "disk": "it wrote more than {disk_mb} MiB",
    "signal": "a signal ended it",
}


def python_tool(
    sandbox: Sandbox | str = "bubblewrap",
    *,
    limits: Limits | None = None,
    files: Mapping[str, bytes | str] | None = None,
    keeps_state: bool = True,
    name: str = "python",
) -> Tool:
    """Return a tool that runs Python code in a sandbox.

    Args:
        sandbox: a sandbox, or the name of a backend.
        limits: of the session and of each call; None takes the sandbox's own.
        files: path -> content, in the workspace from the start.
        keeps_state: names and files stay for the next call of the episode; without, each call begins anew.
        name: what the policy calls it.

    Raises:
        ConfigError: the backend is not known.
    """
    box = _sandbox(sandbox)
    begun = dict(files or {})

    def kept(code: str, ctx: ToolContext) -> dict[str, JSON]:
        """Run Python code. Names and files stay for the next call; there is no network.

        code: The program. The value of its last expression is shown.
        """
        return _told(*_run(_session(ctx, box, limits, begun), lambda s: s.run(code)))

    def fresh(code: str, ctx: ToolContext) -> dict[str, JSON]:
        """Run Python code. Every call begins anew; there is no network.

        code: The program. The value of its last expression is shown.
        """
        with box().open(limits, files=begun, seed=_seed(ctx)) as session:
            return _told(*_run(session, lambda s: s.run(code)))

    return _made(kept if keeps_state else fresh, name, live=keeps_state)


def shell_tool(
    sandbox: Sandbox | str = "bubblewrap",
    *,
    limits: Limits | None = None,
    files: Mapping[str, bytes | str] | None = None,
    name: str = "shell",
) -> Tool:
    """Return a tool that runs shell commands in a sandbox; arguments and faults as `python_tool`."""
    box = _sandbox(sandbox)
    begun = dict(files or {})

    def command_line(command: str, ctx: ToolContext) -> dict[str, JSON]:
        """Run a command with /bin/sh. Files stay for the next call; there is no network.

        command: The command line.
        """
        return _told(*_run(_session(ctx, box, limits, begun), lambda s: s.shell(command)))

    return _made(command_line, name, live=True)


def _made(fn: Callable[..., Any], name: str, *, live: bool) -> Tool:
    made = tool(name=name, slow=True)(fn)
    return Tool(made.spec, made.fn, context=made.context, slow=True, live=live)


def _sandbox(given: Sandbox | str) -> Callable[[], Sandbox]:
    """Return what gives the sandbox; a backend by name is made (and probed) at its first use."""
    if isinstance(given, Sandbox):
        return lambda: given
    if not isinstance(given, str):
        raise ConfigError(f"sandbox={given!r:.80}: give a sandbox or the name of a backend")
    if given not in hooks.SANDBOXES:
        hooks.SANDBOXES.resolve(given)  # raises with the nearest name
    return lambda: shared_sandbox(given)


def _session(
    ctx: ToolContext, box: Callable[[], Sandbox], limits: Limits | None, files: Mapping[str, bytes | str]
) -> Session:
    if SESSION in ctx.services:
        return ctx.services[SESSION]
    return ctx.opened(SESSION, lambda: box().open(limits, files=files, seed=_seed(ctx)))


def _seed(ctx: ToolContext) -> int:
    return int(ctx.rng.integers(2**31))


def _run(session: Session, call: Callable[[Session], ExecResult]) -> tuple[ExecResult, Limits]:
    return call(session), session.limits


def _told(result: ExecResult, limits: Limits) -> dict[str, JSON]:
    """Return what the policy reads: only what there is to say."""
    told: dict[str, JSON] = {
        "stdout": result.stdout,
        "stderr": result.stderr,
        "value": result.value,
        "error": result.error,
        "exit_code": result.exit_code if result.exit_code not in (0, None) else "",
    }
    if result.killed_by:
        values = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
        told["killed"] = _WORDS.get(result.killed_by, f"ended by {result.killed_by}").format(**values)
        if not result.state_kept:
            told["killed"] += "; names are as before the call"
    if result.truncated:
        told["truncated"] = True
    return {key: value for key, value in told.items() if value != ""}
