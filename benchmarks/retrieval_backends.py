"""One search library on one corpus, measured in a process of its own: `benchmarks/retrieval.py` calls this.

    python benchmarks/retrieval_backends.py build agentgym corpus.jsonl index/
    python benchmarks/retrieval_backends.py search agentgym index/ queries.json

Prints one JSON line. CPU is user and system time of the process and its children. It imports what a library needs only
where that library is measured, so that pyserini may live in an environment of its own.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

K, BATCH = 3, 64
K_COMPARED = 10
Search = Callable[[list[str], int], list[list[tuple[str, float]]]]
"""(queries, k) -> (id, score) lists."""


def rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of a corpus."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["id"], row["contents"]


def build_agentgym(corpus: Path, out: Path) -> None:
    from agentgym.retrieval import build_index

    build_index(corpus, out, processes=1)


def open_agentgym(out: Path, *, numba: bool = True) -> Search:
    from agentgym.retrieval.lexical.retriever import open_lexical

    retriever = open_lexical(out, numba=numba)
    id_at = retriever.passages.id_at

    def search(queries: list[str], k: int) -> list[list[tuple[str, float]]]:
        return [[(id_at(i), s) for i, s in zip(d.tolist(), v.tolist(), strict=True)] for d, v in retriever.rank(queries, k)]

    return search


def bm25s_tokenizer() -> Callable[[Any], Any]:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    return lambda texts: bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)


def build_bm25s(corpus: Path, out: Path) -> None:
    import bm25s

    index = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    index.index(bm25s_tokenizer()([text for _, text in rows(corpus)]), show_progress=False)
    index.save(str(out))
    (out / "ids.json").write_text(json.dumps([doc_id for doc_id, _ in rows(corpus)]), encoding="utf-8")


def open_bm25s(out: Path, *, numba: bool) -> Search:
    import bm25s

    index = bm25s.BM25.load(str(out), mmap=True)
    if numba:
        index.backend = "numba"
        index.activate_numba_scorer()
    ids = json.loads((out / "ids.json").read_text(encoding="utf-8"))
    tokenize = bm25s_tokenizer()

    def search(queries: list[str], k: int) -> list[list[tuple[str, float]]]:
        tokens = tokenize(queries)
        kept = [i for i, ids in enumerate(tokens.ids) if ids]
        if len(kept) < len(queries):  # it refuses queries of stop words alone
            found = dict(zip(kept, search([queries[i] for i in kept], k) if kept else (), strict=True))
            return [found.get(i, []) for i in range(len(queries))]
        docs, scores = index.retrieve(tokens, k=k, show_progress=False, n_threads=0)
        return [[(ids[i], float(s)) for i, s in zip(d, v, strict=True)] for d, v in zip(docs.tolist(), scores.tolist(), strict=True)]

    return search


def tantivy_schema() -> Any:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("text", stored=False, tokenizer_name="en_stem")
    builder.add_text_field("id", stored=True, tokenizer_name="raw")
    return builder.build()


def build_tantivy(corpus: Path, out: Path) -> None:
    import tantivy

    out.mkdir(parents=True, exist_ok=True)
    writer = tantivy.Index(tantivy_schema(), path=str(out)).writer(heap_size=512 << 20, num_threads=1)
    for doc_id, text in rows(corpus):
        writer.add_document(tantivy.Document(id=doc_id, text=text))
    writer.commit()
    writer.wait_merging_threads()


def open_tantivy(out: Path) -> Search:
    import re

    import tantivy

    index = tantivy.Index(tantivy_schema(), path=str(out))
    index.reload()
    searcher, words = index.searcher(), re.compile(r"\w+")

    def search(queries: list[str], k: int) -> list[list[tuple[str, float]]]:
        found = []
        for query in queries:
            parsed, _ = index.parse_query_lenient(" ".join(words.findall(query)), ["text"])
            hits = searcher.search(parsed, limit=k, count=False).hits
            found.append([(searcher.doc(address)["id"][0], score) for score, address in hits])
        return found

    return search


def build_pyserini(corpus: Path, out: Path) -> None:
    from agentgym.retrieval.pyserini_backend import use_bundled_java

    use_bundled_java()
    import importlib.util

    spec = importlib.util.find_spec("pyserini")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    jar = next((Path(next(iter(spec.submodule_search_locations))) / "resources" / "jars").glob("anserini-*-fatjar.jar"))
    folder = out.parent / f"{out.name}-json"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "corpus.jsonl"
    if not link.exists():
        link.symlink_to(corpus.resolve())
    java = str(Path(os.environ["JAVA_HOME"]) / "bin" / "java") if "JAVA_HOME" in os.environ else "java"
    subprocess.run(
        [java, "-Xmx4g", "-cp", str(jar), "io.anserini.index.IndexCollection", "-collection", "JsonCollection", "-input",
         str(folder), "-index", str(out), "-generator", "DefaultLuceneDocumentGenerator", "-threads", "1", "-optimize"],
        check=True, capture_output=True,
    )  # fmt: skip


def open_pyserini(out: Path) -> Search:
    from agentgym.retrieval.pyserini_backend import _searcher_class

    searcher = _searcher_class()(str(out))
    searcher.set_bm25(0.9, 0.4)

    def search(queries: list[str], k: int) -> list[list[tuple[str, float]]]:
        if len(queries) == 1:
            return [[(h.docid, float(h.score)) for h in searcher.search(queries[0], k=k)]]
        found = searcher.batch_search(queries, [str(i) for i in range(len(queries))], k=k, threads=1)
        return [[(h.docid, float(h.score)) for h in found.get(str(i), [])] for i in range(len(queries))]

    return search


BUILDS = {"agentgym": build_agentgym, "bm25s": build_bm25s, "tantivy": build_tantivy, "pyserini": build_pyserini}
OPENS: dict[str, Callable[[Path], Search]] = {
    "agentgym": open_agentgym,
    "agentgym, no numba": lambda out: open_agentgym(out, numba=False),
    "bm25s": lambda out: open_bm25s(out, numba=True),
    "bm25s, no numba": lambda out: open_bm25s(out, numba=False),
    "tantivy": open_tantivy,
    "pyserini": open_pyserini,
}


def cpu_s() -> float:
    """Return CPU seconds of this process and of its children that ended."""
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def memory_mb() -> dict[str, float]:
    """Return the resident memory of this process: its own, and pages of files that other processes can share."""
    fields = {}
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            fields[name] = int(value.split()[0]) / 1024
    return {"anonymous_mb": round(fields.get("RssAnon", 0)), "mapped_mb": round(fields.get("RssFile", 0))}


def measure_build(name: str, corpus: Path, out: Path) -> dict[str, Any]:
    """Build and return CPU seconds, wall seconds, peak memory and size."""
    before, started = cpu_s(), time.perf_counter()
    BUILDS[name](corpus, out)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    text = sum((out / n).stat().st_size for n in ("blocks.bin", "block_bounds.npy", "block_firsts.npy") if (out / n).exists())
    return {
        "build_cpu_s": round(cpu_s() - before, 1), "build_wall_s": round(time.perf_counter() - started, 1),
        "build_peak_mb": round(peak), "index_mb": round((size - text) / 1e6, 1), "text_mb": round(text / 1e6, 1),
    }  # fmt: skip


def measure_search(name: str, out: Path, queries: dict[str, list[str]]) -> dict[str, Any]:
    """Open, search every kind one query at a time and in batches, and return times, memory and the hits."""
    started = time.perf_counter()
    search = OPENS[name](out)
    opened = time.perf_counter()
    first = next(iter(queries.values()))[0]
    search([first], K)
    result: dict[str, Any] = {"open_s": round(opened - started, 3), "first_answer_s": round(time.perf_counter() - started, 3), "kinds": {}}
    search(next(iter(queries.values()))[:BATCH], K)
    for kind, texts in queries.items():
        for text in texts[:30]:
            search([text], K)
        times = []
        before = time.process_time()
        for text in texts:
            begun = time.perf_counter()
            search([text], K)
            times.append(time.perf_counter() - begun)
        cpu = time.process_time() - before
        before, begun = time.process_time(), time.perf_counter()
        for i in range(0, len(texts), BATCH):
            search(texts[i : i + BATCH], K)
        batch_cpu, batch_wall = time.process_time() - before, time.perf_counter() - begun
        times.sort()
        result["kinds"][kind] = {
            "cpu_ms": round(1000 * cpu / len(texts), 4), "p50_ms": round(1000 * times[len(times) // 2], 3),
            "p95_ms": round(1000 * times[len(times) * 95 // 100], 3), "batch_cpu_ms": round(1000 * batch_cpu / len(texts), 4),
            "batch_per_s": round(len(texts) / batch_wall),
        }  # fmt: skip
    result |= memory_mb()
    result["hits"] = {kind: [search([t], K_COMPARED)[0] for t in texts] for kind, texts in queries.items()}
    return result


if __name__ == "__main__":
    action, backend, source, target = sys.argv[1:5]
    if action == "build":
        body = measure_build(backend, Path(source), Path(target))
    else:
        body = measure_search(backend, Path(source), json.loads(Path(target).read_text(encoding="utf-8")))
    sys.stdout.write("\n" + json.dumps(body) + "\n")
