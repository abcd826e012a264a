"""`python -m agentgym` is the command `agentgym`."""

from agentgym.cli.main import entry

if __name__ == "__main__":
    entry()
