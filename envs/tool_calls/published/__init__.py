"""Task sets that others published, read from their own files, with tools of ours over their data."""
