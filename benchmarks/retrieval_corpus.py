"""The synthetic corpus and the queries of `benchmarks/retrieval.py`: equal seeds give equal files.

    python benchmarks/retrieval_corpus.py 1000000 /tmp/corpus.jsonl

Words follow Zipf-Mandelbrot (exponent 1.05) over a vocabulary that grows with the corpus; the ranks at the top are
English stop and question words, the others are pronounceable and made up. Each passage has a topic: three words that it
repeats, as real text does. It has a title of two of them and 100 words.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agentgym.seeding import stream

TOP = ["the", "of", "and", "in", "to", "a", "was", "is", "for", "on", "as", "by", "with", "he", "at", "from", "his", "it", "an", "were", "are", "which", "be", "this", "that", "or", "had", "first", "not", "but", "also", "have", "has", "one", "two", "new", "their", "after", "its", "who", "they", "been", "other", "when", "time", "during", "all", "into", "there", "may", "more", "school", "years", "over", "only", "between", "used", "some", "what", "where", "year", "name", "most", "made", "up", "city", "known", "can", "state", "world", "war", "part", "most", "such", "about", "where", "film", "many", "most", "found", "born", "called", "three", "however", "then", "most", "under", "most", "while", "later", "county"]
WORDS, BATCH = 100, 20_000
_ONSETS = ["b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "br", "cr", "dr", "gr", "pr", "st", "tr", "sh", "th", "ch"]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "io", "ou"]
_CODAS = ["", "", "n", "r", "s", "l", "t", "m", "nd", "st"]


def vocabulary(n: int) -> np.ndarray:
    """Return n distinct words in the order of their frequency."""
    top = list(dict.fromkeys(TOP))
    parts = (len(_ONSETS), len(_VOWELS), len(_CODAS))
    syllables = [o + v + c for o in _ONSETS for v in _VOWELS for c in _CODAS[1:]]
    syllables = list(dict.fromkeys(syllables))
    order = stream("benchmark words", *parts).permutation(len(syllables) ** 2)[: n - len(top)]
    made = [syllables[i // len(syllables)] + syllables[i % len(syllables)] for i in order.tolist()]
    if len(made) + len(top) < n:
        extra = n - len(made) - len(top)
        made += [f"{made[i % len(made)]}{syllables[i // len(made) % len(syllables)]}{'' if i < len(made) else i}" for i in range(extra)]
    return np.array((top + made)[:n], dtype=object)


def cumulative(n: int) -> np.ndarray:
    """Return the cumulative probability of the ranks."""
    weights = 1.0 / (np.arange(n) + 2.7) ** 1.05
    return np.cumsum(weights) / weights.sum()


def size_of_vocabulary(n: int) -> int:
    """Return the vocabulary of a corpus of n passages (Heaps' law, about that of Wikipedia)."""
    return int(3_000 * (n / 100) ** 0.6)


def passages(n: int) -> Iterator[dict[str, str]]:
    """Yield the rows of a corpus of n passages."""
    words, edges = vocabulary(size_of_vocabulary(n)), cumulative(size_of_vocabulary(n))
    for first in range(0, n, BATCH):
        rng = stream("benchmark passages", n, first)
        count = min(BATCH, n - first)
        ranks = edges.searchsorted(rng.random((count, WORDS)))
        topic = edges.searchsorted(rng.uniform(edges[len(TOP)], 1.0, (count, 3)))
        ranks = np.where(rng.random((count, WORDS)) < 0.12, np.take_along_axis(topic, rng.integers(0, 3, (count, WORDS)), 1), ranks)
        for i, (row, title) in enumerate(zip(words[ranks], words[topic[:, :2]], strict=True)):
            yield {"id": str(first + i), "contents": f'"{" ".join(title).title()}"\n{" ".join(row)}.'}


def write_corpus(n: int, path: Path) -> None:
    """Write a corpus as JSON lines in the shape of wiki-18."""
    with path.open("w", encoding="utf-8") as file:
        for row in passages(n):
            file.write(json.dumps(row) + "\n")


def queries(n_passages: int, n: int, kind: str) -> list[str]:
    """Return n queries over a corpus.

    easy: 3 to 10 words of one passage. hard: 3 to 10 content words drawn by their frequency in the corpus. natural: a
    question with stop words around two topic words of a passage and one or two words drawn by frequency.
    """
    rng = stream("benchmark queries", n_passages, kind)
    size = size_of_vocabulary(n_passages)
    words, edges = vocabulary(size), cumulative(size)
    found = []
    texts = iter(passages(n_passages))
    for _ in range(n):
        length = int(rng.integers(3, 11))
        if kind == "hard":
            ranks = edges.searchsorted(rng.uniform(edges[len(TOP)], 1.0, length))
            found.append(" ".join(words[ranks]))
            continue
        row = next(texts)
        title, _, body = row["contents"].partition("\n")
        if kind == "easy":
            body_words = body.rstrip(".").split()
            found.append(" ".join(body_words[i] for i in rng.choice(len(body_words), length, replace=False)))
        else:
            medium = words[edges.searchsorted(rng.uniform(edges[len(TOP)], edges[min(5_000, size - 1)], int(rng.integers(1, 3))))]
            form = ("what is the name of the {m} in {t}", "who was the {m} that made {t}", "when did {t} become the first {m}")[int(rng.integers(3))]
            found.append(form.format(m=" ".join(medium), t=title.strip('"')))
    return found


if __name__ == "__main__":
    write_corpus(int(sys.argv[1]), Path(sys.argv[2]))
