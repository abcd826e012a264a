"""Domains: each a schema with rules and tools in one file."""
