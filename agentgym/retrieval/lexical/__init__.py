"""The engine lucene: Lucene's BM25 with its English analyzer, from memory-mapped arrays of any size."""
