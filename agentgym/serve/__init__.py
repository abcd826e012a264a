"""Servers over HTTP: a retriever for training code of others. The packages they need load on demand."""
