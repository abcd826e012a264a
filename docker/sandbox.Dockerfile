# The image of the sandbox "docker": an interpreter, a user, an empty workspace. Nothing of AgentGym is in it; its
# sources are sent to the interpreter when a container starts. Build it where the engine runs:
#   docker build -f docker/sandbox.Dockerfile -t agentgym-sandbox docker
# Another base (a digest in CI, a local one without a registry): --build-arg BASE_IMAGE=...
ARG BASE_IMAGE=python:3.11.14-slim-bookworm
FROM ${BASE_IMAGE}

# Programs need the standard library only: no package is installed, now or later.
RUN ["/usr/local/bin/python3", "-c", "import os; os.makedirs('/work', exist_ok=True); os.makedirs('/agentgym', exist_ok=True)"]

USER 61005:61005
WORKDIR /work
ENTRYPOINT []
CMD ["/usr/local/bin/python3", "--version"]
