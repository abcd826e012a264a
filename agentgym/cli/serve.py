"""`agentgym serve`: services over HTTP."""

import argparse
import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from agentgym.cli.options import add_env_arguments, existing_text
from agentgym.cli.parser import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    search = actions.add_parser("retrieval", help="answer searches over an index, as the servers of search-agent training do")
    search.add_argument("index", type=existing_text, help="folder made by `agentgym index build`, or a file of passages")
    search.add_argument("--retriever", default="bm25", help="bm25, dense, hybrid or another registered name (default: bm25)")
    search.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1; 0.0.0.0 is every one)")
    search.add_argument("--port", type=whole_number(0), default=8000, help="0 takes a free one (default: 8000)")
    search.add_argument("--topk", type=whole_number(1), default=3, help="passages a query where the client does not say (default: 3)")
    search.add_argument("--threads", type=whole_number(1), default=1, help="searches at once (default: 1)")
    search.add_argument("--max-batch", type=whole_number(1), default=64, help="queries of one search (default: 64)")
    search.add_argument("--max-queue", type=whole_number(1), default=2048, help="queries that may wait before clients are sent away (default: 2048)")
    search.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    search.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    tools = actions.add_parser("mcp", help="an environment's tools as an MCP server, over stdin and stdout or HTTP")
    add_env_arguments(tools)
    tools.add_argument("--http", action="store_true", help="serve over HTTP at /mcp; without it over stdin and stdout")
    tools.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    tools.add_argument("--port", type=whole_number(0), default=8000, help="0 takes a free one (default: 8000)")
    tools.add_argument("--seed", type=whole_number(0), default=0, help="seed of the first episode (default: 0)")
    tools.add_argument("--out", type=Path, help="file to append the records of ended episodes to (JSON lines)")
    tools.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    tools.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    return _run_mcp(args) if args.action == "mcp" else _run_retrieval(args)


def _run_mcp(args: argparse.Namespace) -> int:
    from agentgym.cli.options import check_env_id, env_kwargs
    from agentgym.serve import mcp
    from agentgym.serve.run import address, listen
    from agentgym.serve.run import run as serve

    check_env_id(args.env)
    episodes = mcp.EpisodeServer(args.env, env_kwargs(args), seed=args.seed, out=args.out)
    with contextlib.suppress(KeyboardInterrupt):
        if not args.http:
            asyncio.run(mcp.serve_stdio(episodes))
            return 0
        bound = listen(args.host, args.port)
        bound.listen()  # who reads the address may connect at once, and waits
        url = f"{address(bound)}/mcp"

        def ready(stop: Callable[[], None]) -> None:
            if args.json:
                sys.stdout.write(json.dumps({"url": url, "env": args.env}) + "\n")
                sys.stdout.flush()
            elif not args.quiet:
                sys.stderr.write(f"{args.env} at {url}; Ctrl-C ends\n")

        with bound:
            serve(mcp.http_app(episodes, args.host), bound, ready=ready)
    episodes.close()
    return 0


def _run_retrieval(args: argparse.Namespace) -> int:
    """Serve searches until interrupted."""
    from agentgym.retrieval.backends import check_name, open_corpus
    from agentgym.serve.retrieval import RetrievalServer, ServeConfig
    from agentgym.serve.run import address, listen
    from agentgym.serve.run import run as serve

    logging.basicConfig(level=logging.ERROR if args.quiet else logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    check_name(args.retriever)
    config = ServeConfig(topk=args.topk, threads=args.threads, max_batch=args.max_batch, max_queue=args.max_queue)
    server = RetrievalServer(lambda: open_corpus(args.index, args.retriever), config, name=args.index)
    bound = listen(args.host, args.port)
    url = f"{address(bound)}/retrieve"

    def ready(stop: Callable[[], None]) -> None:
        server.on_failed_start = stop
        if args.json:
            sys.stdout.write(json.dumps({"url": url, "index": args.index, "retriever": args.retriever}) + "\n")
            sys.stdout.flush()
        elif not args.quiet:
            sys.stderr.write(f"{args.index} ({args.retriever}) at {url}; SIGHUP opens the index anew, Ctrl-C ends\n")

    with bound, contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how a server ends
        serve(server.app, bound, ready=ready)
    return int(server.never_loaded)
