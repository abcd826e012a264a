"""1,000 genuine transcripts of Search-R1 read and scored again: which recorded scores come back, and why others do not.

    python benchmarks/transcripts.py        # writes benchmarks/results/transcripts.md

Reads transcripts/searchr1.<set>.jsonl in the folder $AGENTGYM_DATA (shared/data beside the checkout without it). Each
line holds a question, gold answers, the text of the episode, and the prediction and scores (em, acc, f1) that the
logged system wrote. Three comparisons:

1. the answer that the reader finds in the text, and the published scorers on it, against what is recorded;
2. the scorers that rewards use, against what is recorded: every difference has a cause that is derived, not assumed;
3. the actions by the rules of the tags dialect (strict), against what the logged system let pass.

Exit code 1 if a recorded score is not reproduced, or a difference has no cause.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentgym.interop.search_r1 import RECORDED, read_search_r1
from agentgym.rewards import build_suite
from agentgym.rewards.answers import robust_cover, robust_em, robust_f1
from agentgym.rewards.comparison import search_r1_em, search_r1_sub_em, squad_f1
from agentgym.rewards.normalize import robust, squad
from agentgym.rollout.logs import score_logs
from agentgym.types import Trajectory

ROOT = Path(__file__).resolve().parents[1]
SETS = ("nq", "popqa")
Measure = Callable[[str, Sequence[str]], float]
PUBLISHED: dict[str, Measure] = {"em": search_r1_em, "acc": search_r1_sub_em, "f1": squad_f1}
ROBUST: dict[str, Measure] = {"em": robust_em, "acc": robust_cover, "f1": robust_f1}
TOLERANCE = 1e-9
CAUSES = {
    "vanished gold": "a gold answer of symbols alone normalises to nothing in SQuAD's form, and nothing is in every text",
    "vanished answer": "an answer of symbols alone normalises to nothing in the robust form, and is no answer",
    "short gold": "a gold answer of at most three characters must be the whole answer: as characters it is in many words",
    "inside a word": "the gold answer is a run of characters of a longer word, not a run of words",
    "list guard": "the answer is more than eight words longer than the gold answer that it holds",
    "hyphen": "SQuAD deletes the hyphen and glues the words; the robust form parts them, so that their words count",
    "refused answer": "the answer stands in an action that the dialect refuses, so under strict rules there is none",
}
SHAPES = {
    "": "read as it stands",
    "E_RESERVED": "the model wrote an <information> block itself",
    "E_PARSE": "a thought that is not closed, or no call at all",
    "E_UNKNOWN_TOOL": "markup that looks like a call of an unknown tool",
    "E_MULTI": "more than one call in a turn",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that is not the recorded one."""

    set: str
    id: str
    measure: str
    recorded: float
    ours: float
    cause: str


@dataclass(frozen=True, slots=True)
class Replay:
    """What one set gave."""

    set: str
    n: int
    predictions: int
    """Transcripts whose answer is the recorded prediction."""
    reproduced: dict[str, int]
    """Per recorded score: transcripts on which the published scorer gives the same number."""
    robust: tuple[Difference, ...]
    strict: tuple[Difference, ...]
    codes: dict[str, int]
    """Turns by error code."""
    ends: dict[str, int]
    mean_recorded: dict[str, float]
    scored: int
    reasons: dict[str, int]
    """Why records abstain from `answer_em`."""


def replay(path: Path, name: str) -> Replay:
    """Read one set and compare."""
    records, strict = list(read_search_r1(path)), list(read_search_r1(path, strict=True))
    same, found, refused = Counter(), [], []
    for record, ruled in zip(records, strict, strict=True):
        recorded = record.info[RECORDED]["scores"]
        same.update(m for m in PUBLISHED if abs(measured(PUBLISHED[m], record) - recorded[m]) <= TOLERANCE)
        found += differences(name, record, record, ROBUST, lambda m, r=record: cause(r, m))
        refused += differences(name, record, ruled, PUBLISHED, lambda m, r=ruled: "refused answer" * (r.answer is None))
    scores = score_logs(records, build_suite("answer_em"))
    return Replay(
        set=name,
        n=len(records),
        predictions=sum((r.answer or "") == r.info[RECORDED]["pred"] for r in records),
        reproduced={m: same[m] for m in PUBLISHED},
        robust=tuple(found),
        strict=tuple(refused),
        codes=dict(Counter(t.error_code for r in records for t in r.turns)),
        ends=dict(Counter(r.end_reason for r in records)),
        mean_recorded={m: sum(r.info[RECORDED]["scores"][m] for r in records) / len(records) for m in PUBLISHED},
        scored=len(scores.records),
        reasons=scores.reasons,
    )


def golds(record: Trajectory) -> list[str]:
    return [text for gold in record.gold["answers"] for text in (gold["text"], *gold.get("aliases", ()))]


def measured(measure: Measure, record: Trajectory) -> float:
    """Return a measure of the record's answer; no answer is 0."""
    return 0.0 if record.answer is None else measure(record.answer, golds(record))


def differences(
    name: str, record: Trajectory, ours: Trajectory, measures: dict[str, Measure], why: Callable[[str], str]
) -> Iterator[Difference]:
    """Yield where a measure of `ours` is not what is recorded."""
    for measure, function in measures.items():
        recorded, value = float(record.info[RECORDED]["scores"][measure]), measured(function, ours)
        if abs(value - recorded) > TOLERANCE:
            yield Difference(name, record.id, measure, recorded, value, why(measure))


def cause(record: Trajectory, measure: str) -> str:
    """Return why the robust scorer and the published one differ; empty if no known cause fits."""
    answer, names = record.answer or "", golds(record)
    held = [g for g in names if squad(g) in squad(answer)]
    if measure == "acc" and any(not squad(g) for g in held):
        return "vanished gold"
    if not robust(answer):
        return "vanished answer"
    if measure == "acc":
        if held and all(f" {robust(g)} " not in f" {robust(answer)} " for g in held):
            return "inside a word"
        if held and all(len(robust(g)) <= 3 for g in held if f" {robust(g)} " in f" {robust(answer)} "):
            return "short gold"
        return "list guard" if held else ""
    if any("-" in text for text in (answer, *names)) and _parted(answer, names, measure):
        return "hyphen"
    return ""


def _parted(answer: str, names: Sequence[str], measure: str) -> bool:
    """Whether the published scorer agrees with the robust one once hyphens are spaces."""
    parted = PUBLISHED[measure](answer.replace("-", " "), [n.replace("-", " ") for n in names])
    return abs(parted - ROBUST[measure](answer, names)) <= TOLERANCE


def report(results: Sequence[Replay]) -> str:
    """Return the page."""
    n = sum(r.n for r in results)
    lines = [
        f"# {n:,} transcripts of Search-R1, replayed",
        "",
        "Written by `make transcripts`; the test `tests/integration/test_transcripts.py` holds the counts.",
        "",
        "## Recorded scores come back",
        "The reader takes each transcript apart (`docs/logs.md`); the published scorers score the answer it finds.",
        "",
        "| set | transcripts | answer = recorded prediction | " + " | ".join(f"{m} reproduced" for m in PUBLISHED) + " | recorded em / acc / f1 |",
        "|---|---|---|" + "---|" * (len(PUBLISHED) + 1),
    ]
    for r in results:
        means = " / ".join(f"{r.mean_recorded[m]:.3f}" for m in PUBLISHED)
        same = " | ".join(f"{r.reproduced[m]} of {r.n}" for m in PUBLISHED)
        lines.append(f"| {r.set} | {r.n} | {r.predictions} of {r.n} | {same} | {means} |")
    lines += [
        "",
        f"Scored with `answer_em`: {sum(r.scored for r in results)}. Abstained, never counted as 0:",
        "",
        *(f"- {r.set}, {count}: {reason}" for r in results for reason, count in r.reasons.items()),
        "",
        "## How episodes end, and what the tags dialect says of their turns",
        "| set | " + " | ".join(ends := sorted({e for r in results for e in r.ends})) + " |",
        "|---|" + "---|" * len(ends),
        *(f"| {r.set} | " + " | ".join(str(r.ends.get(e, 0)) for e in ends) + " |" for r in results),
        "",
        "| turns with | meaning | " + " | ".join(r.set for r in results) + " |",
        "|---|---|" + "---|" * len(results),
    ]
    for code in sorted({c for r in results for c in r.codes}):
        counts = " | ".join(str(r.codes.get(code, 0)) for r in results)
        lines.append(f"| {f'`{code}`' if code else 'no error'} | {_escaped(SHAPES[code])} | {counts} |")
    lines += ["", *_table("## Where the scorers of rewards differ from what is recorded", results, "robust")]
    lines += ["", *_table("## Where strict reading differs from what is recorded", results, "strict")]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("<information>", "`<information>`")


def _table(title: str, results: Sequence[Replay], which: str) -> list[str]:
    found = [d for r in results for d in getattr(r, which)]
    n = sum(r.n for r in results)
    intro = {
        "robust": f"`answer_em`, `answer_cover` and `answer_f1` against em, acc and f1: {len(found)} of {3 * n:,} numbers differ.",
        "strict": "`strict=True` lets nothing run that the dialect refuses: of"
        f" {sum(t.get('E_RESERVED', 0) + t.get('E_PARSE', 0) + t.get('E_UNKNOWN_TOOL', 0) for t in (r.codes for r in results))}"
        f" such turns {len({d.id for d in found})} carried an answer that earned something in the log.",
    }[which]
    rows = [f"| {d.set} | {d.id} | {d.measure} | {d.recorded:.3f} | {d.ours:.3f} | {d.cause} |" for d in found]
    head = ["| set | id | score | recorded | ours | cause |", "|---|---|---|---|---|---|"]
    causes = [f"- **{name}**: {CAUSES[name]}." for name in CAUSES if any(d.cause == name for d in found)]
    return [title, intro, "", *head, *rows, "", *causes]


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay, write the page, say whether everything is reproduced or explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "transcripts.md")
    args = parser.parse_args(arguments)
    data = Path(os.environ.get("AGENTGYM_DATA") or ROOT.parent / "shared" / "data") / "transcripts"
    if not data.is_dir():
        print(f"{data}: no such folder; set AGENTGYM_DATA to the folder that holds transcripts/", file=sys.stderr)
        return 2
    results = [replay(data / f"searchr1.{name}.jsonl", name) for name in SETS]
    args.out.write_text(report(results), encoding="utf-8")
    print(f"wrote {args.out}")
    whole = all(r.predictions == r.n and set(r.reproduced.values()) == {r.n} for r in results)
    explained = all(d.cause in CAUSES for r in results for d in (*r.robust, *r.strict))
    return 0 if whole and explained else 1


if __name__ == "__main__":
    sys.exit(main())
