"""The first lines that a bare interpreter runs in a sandbox: `python -c SOURCE FD`. Receives the rest and starts it."""

import json
import os
import sys
import types

fd = int(sys.argv[1])


def _read(size):  # noqa: ANN001, ANN202 - kept short: this goes over the command line
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


bundle = json.loads(_read(int.from_bytes(_read(4), "big")))
sys.path[:] = [path for path in sys.path if path.startswith("/")]
sys.argv[:] = [""]
for name in bundle["packages"]:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []  # type: ignore[attr-defined]
for name, source in bundle["modules"]:
    module = types.ModuleType(name)
    sys.modules[name] = module
    parent, _, leaf = name.rpartition(".")
    setattr(sys.modules[parent], leaf, module)
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
for name in bundle["preload"]:
    try:
        __import__(name)
    except ImportError:  # a small interpreter may lack it; the program will be told so too
        pass
sys.modules["agentgym.sandbox.guest.zygote"].main(fd, bundle["config"])  # type: ignore[attr-defined]
