"""`agentgym`: the one console script."""

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from agentgym.cli.parser import USAGE, Parser
from agentgym.errors import AgentGymError, MissingExtraError, ServiceError, TrainingStopped

COMMANDS = {
    "list": "environments, policies, rewards and other registered names",
    "play": "run one episode and show every turn with its scores",
    "eval": "evaluate a policy over tasks, with intervals; or compare two evaluations",
    "train": "train a policy with turn-level credit",
    "check": "check the conformance of an environment, a reward or a tool",
    "audit": "play hacks against an environment and its reward, or look for them in a log",
    "credit": "show what a credit recipe makes of recorded trajectories, turn by turn",
    "view": "show trajectories, or write the report of a run",
    "index": "build or inspect a search index",
    "serve": "answer searches over an index over HTTP, or offer an environment's tools over MCP",
    "export": "write trajectories as chat messages for supervised fine-tuning, or as ATIF documents",
}
JSON_LINES = ("export", "view")
OK, FAILED, MISSING, INTERRUPTED = 0, 1, 3, 130


def build_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(prog="agentgym", description="A gym for search and tool-use agents.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        importlib.import_module(f"agentgym.cli.{name}").add_arguments(sub)
        what = "one JSON document, or JSON lines (one an episode)," if name in JSON_LINES else "one JSON document"
        sub.add_argument("--json", action="store_true", help=f"print {what} on stdout, nothing else there")
        sub.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 fine, 1 a check failed, 2 usage, 3 missing extra, 130 interrupted."""
    formatted = warnings.formatwarning
    warnings.formatwarning = lambda message, *_args, **_line: f"warning: {message}\n"  # for people: no place in our source
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept\n")
        return INTERRUPTED
    except (MissingExtraError, ServiceError) as error:
        sys.stderr.write(f"error: {error}\n")
        return MISSING
    except TrainingStopped as error:
        sys.stderr.write(f"stopped: {error}\n")
        return FAILED
    except AgentGymError as error:
        sys.stderr.write(f"error: {error}\n")
        return USAGE
    except BrokenPipeError:  # the reader (`| head`) has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:  # a path of the command line that cannot be read or written
        more = "; make room, then run the same command again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        sys.stderr.write(f"error: {error.filename or 'input or output'}: {error.strerror or error}{more}\n")
        return USAGE
    finally:
        warnings.formatwarning = formatted


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    args = parser.parse(argv)
    if args.version:
        sys.stdout.write(f"{importlib.import_module('agentgym').__version__}\n")
        return OK
    if args.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    return importlib.import_module(f"agentgym.cli.{args.command}").run(args) or OK


def entry() -> None:
    """Console-script entry point."""
    sys.exit(main())
