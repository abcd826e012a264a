"""A confined process that runs Python: once, or call after call with its state kept.

A holder is an idle process whose memory is the session's Python state. A call forks it: the copy runs the code and
becomes the new holder; the old one waits, so that a call that is killed leaves the state as it was. Everything
here runs beside the program in one process, so nothing it says is believed outside: it can hurt only itself.
"""

import ast
import linecache
import os
import signal
import socket
import sys
import threading
import traceback
import types
from typing import Any

from agentgym.sandbox.guest import frames

_MAX_TEXT = 65_536


def null_output() -> None:
    """Point stdin, stdout and stderr at /dev/null."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def fresh_namespace(seed: int) -> dict[str, Any]:
    """Make a new `__main__` and seed the generators of the standard library."""
    import random  # noqa: TID251 - the program's generator, not ours

    random.seed(seed)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as every Python program has it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    return module.__dict__


def rehearse() -> None:
    """Go once through what every program will go through, so that forks find it set up rather than do it each."""
    import atexit  # noqa: F401 - loaded here, used after a program
    import base64  # noqa: F401

    main = sys.modules["__main__"]
    namespace = fresh_namespace(0)
    _execute("x = [str(i) for i in range(3)]\nprint(end='')\nx", namespace, 0)
    try:
        raise ValueError("rehearsal")
    except ValueError as error:
        _report(error)
    sys.modules["__main__"] = main
    linecache.cache.clear()


def once(control: socket.socket, namespace: dict[str, Any]) -> None:
    """Receive files and code, run it, exit as a Python program does."""
    message, _ = frames.receive(control)
    if message is None:
        os._exit(0)
    reply = _write_files(message) or _execute(message["code"], namespace, 1)
    own = os.getpid()
    _end_program(own)
    _send(control, reply)
    os._exit(reply["exit"] & 0xFF)


def hold(control: socket.socket, namespace: dict[str, Any]) -> None:
    """Wait for calls; never returns. Each is run by a fork of this process."""
    while True:
        own = os.getpid()
        try:
            message, fds = frames.receive(control, max_fds=3)
        except (frames.FrameError, OSError):
            os._exit(0)
        if message is None or len(fds) != 3:
            os._exit(0)
        drawn = _random_state()
        try:
            middle = os.fork()
            if middle == 0 and os.fork():
                os._exit(0)  # the zygote becomes the parent, sees the end and has the last word
        except OSError:  # no process left: hang up
            if os.getpid() != own:
                os._exit(0)
            middle = -1
        if middle == 0:
            _restore_random(drawn)
            control.close()
            control = socket.socket(fileno=fds[0])
            _take_call(control, fds[1], fds[2], message, namespace)
            continue
        if middle > 0:
            os.waitpid(middle, 0)
        for fd in fds:
            os.close(fd)


def _random_state() -> Any:
    """A fork seeds the generator of `random` anew; a session goes on where it was."""
    import random  # noqa: TID251 - the program's generator, not ours

    try:
        return random.getstate()
    except BaseException:  # noqa: BLE001 - the program may have replaced it
        return None


def _restore_random(state: Any) -> None:
    import random  # noqa: TID251 - the program's generator, not ours

    try:
        random.setstate(state)
    except BaseException:  # noqa: BLE001 - the program may have replaced it
        pass


def _take_call(control: socket.socket, out: int, err: int, message: dict[str, Any], namespace: dict[str, Any]) -> None:
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    if "folder" in message:
        os.chdir(message["folder"])
        for name in ("HOME", "PWD"):
            os.environ[name] = message["folder"]
    _send(control, {"pid": os.getpid()})
    order, _ = frames.receive(control)
    if order is None:
        os._exit(0)
    if "code" in order:
        reply = _execute(order["code"], namespace, order["cell"])
        _flush()
        null_output()
    else:
        null_output()
        reply = {"exit": 0}
    _send(control, reply)


def _execute(source: str, namespace: dict[str, Any], cell: int) -> dict[str, Any]:
    """Run code; the value of a last expression is the result, as in an interactive interpreter."""
    own, name = os.getpid(), f"<cell {cell}>"
    reply: dict[str, Any] = {"exit": 0, "value": "", "error": ""}
    try:
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        tree = ast.parse(source, name)
        end = tree.body[-1] if tree.body else None
        last = ast.Expression(end.value) if isinstance(end, ast.Expr) else None
        if last is not None:
            tree.body.pop()
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            value = eval(compile(last, name, "eval"), namespace)
            reply["value"] = "" if value is None else repr(value)[:_MAX_TEXT]
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except SystemExit as leaving:
        code = leaving.code
        if code is not None and not isinstance(code, int):
            _say(f"{code}\n")
        reply["exit"] = 0 if code is None else code & 0xFF if isinstance(code, int) else 1
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        reply.update(exit=1, error=type(error).__name__[:200])
        _say(_report(error))
    if os.getpid() != own:  # a child that the program forked came back: it is no session
        _flush()
        os._exit(0)
    return reply


def _report(error: BaseException) -> str:
    try:
        trace = error.__traceback__
        while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell"):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace, limit=-20)
        text = "".join(lines)
        return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2]}\n...\n{text[-_MAX_TEXT // 2 :]}"
    except BaseException:  # noqa: BLE001 - __str__ of the program's exceptions is its code too
        return f"{type(error).__name__}\n"


def _write_files(message: dict[str, Any]) -> dict[str, Any] | None:
    import base64

    for path, content in message.get("files", {}).items():
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "wb") as file:
                file.write(base64.b64decode(content))
        except OSError as error:
            _say(f"{path}: {error.strerror}\n")
            return {"exit": 1, "value": "", "error": "OSError"}
    return None


def _say(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - the program may have replaced or closed it
        pass


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: BLE001 - the program may have replaced or closed it
            pass


def _end_program(own: int) -> None:
    import atexit

    try:
        atexit._run_exitfuncs()
    except BaseException as error:  # noqa: BLE001 - the program's code
        _say(_report(error))
    _flush()
    if os.getpid() != own:
        os._exit(0)


def _send(control: socket.socket, message: dict[str, Any]) -> None:
    # a handler of the program's, e.g. of an alarm, must not run between its code and its report
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF})
    try:
        frames.send(control, message)
    except (OSError, frames.FrameError):
        os._exit(0)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF})
