"""Readers of corpora: each turns files of one format into passages, one at a time."""

from agentgym.retrieval.formats.registry import FORMATS, CorpusFormat, format_of, read_corpus, source_files

__all__ = ["FORMATS", "CorpusFormat", "format_of", "read_corpus", "source_files"]
