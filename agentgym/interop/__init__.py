"""Logs of other systems in and out: ATIF, Search-R1, plain chat. One module per format, imported on demand."""
