"""Native tool calls through chat templates: 10,000 random conversations per template, each turn checked for drift.

    python benchmarks/chat_templates.py [CONVERSATIONS] [--first N] [--only NAME ...] [--write]

The checks are those of tests/support/chat_fuzz.py. Where TRL is installed, the published templates that it carries get a
tenth as many. With --write the counts go into benchmarks/results/chat_templates.md. Takes about 10 CPU-ms a conversation.
"""

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))

from chat_fuzz import Fuzzer  # noqa: E402
from chat_templates import ORIGINALS, TEMPLATES  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", nargs="?", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first conversation")
    parser.add_argument("--only", nargs="*", default=[*TEMPLATES, *(f"published {name}" for name in ORIGINALS if find_spec("trl"))])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rows = []
    for name in args.only:
        fuzzer, started = Fuzzer(name.removeprefix("published ")), time.process_time()
        for seed in range(args.first, args.first + (args.n if name in TEMPLATES else args.n // 10)):
            fuzzer.run(seed)
        found, spent = fuzzer.found, time.process_time() - started
        rows.append(
            f"| {name} | {found.conversations:,} | {found.turns:,} | {found.exact:,} | {found.rewrites:,} | 0 | {1000 * spent / found.turns:.1f} |"
        )
        print(rows[-1], flush=True)
    if args.write:
        (HERE / "results" / "chat_templates.md").write_text(HEAD.format(n=args.n) + "\n".join(rows) + "\n", encoding="utf-8")


HEAD = """# Native tool calls through chat templates

`python benchmarks/chat_templates.py {n} --write`: random conversations (thoughts, parallel calls, nested arguments, tool
results, follow-up questions, broken calls, texts that spell out special tokens) run as the driver runs them. A completion
whose context is not the ledger's to the token, a context that does not read as the template renders the conversation, or a
special token that some text brought in ends the run with an error. The first templates are written in the formats of their
families (`tests/support/chat_templates.py`), "published" ones are the families' own, as TRL carries them; tokenizers are
small ones with the families' special tokens. Templates of gpt-oss, Gemma 4 and Muse are not among them: calls in their
forms are not read.

"compared" counts contexts that were compared with the template's own text, "rewritten" those that the template wrote anew
(thoughts stripped from history, tools moved to the last question), each of which begins a token segment. CPU-ms is per
turn, all checks included.

| template | conversations | turns | compared | rewritten | drift | CPU-ms |
|---|---|---|---|---|---|---|
"""

if __name__ == "__main__":
    main()
