"""What runs inside a sandbox. Standard library only: the sources are sent to a bare interpreter, not installed."""
