# Everything that trains, evaluates and serves retrieval. Build it from the top of the repository:
#   docker build -f docker/trainer.Dockerfile -t agentgym-trainer .
# A GPU build of torch: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
ARG BASE_IMAGE=python:3.11.14-slim-bookworm
FROM ${BASE_IMAGE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# The sandbox of tools that run code; python3 is what its programs get (/usr/local is not bound into it).
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap python3-minimal libpython3-stdlib \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/agentgym
COPY constraints.txt ./
RUN python -m pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY agentgym ./agentgym
COPY envs ./envs
COPY policies ./policies
RUN python -m pip install --no-cache-dir -c constraints.txt ".[fast,train,serve,parquet]" \
 && mkdir -p /runs /index \
 && chown 61006:61006 /runs

USER 61006:61006
WORKDIR /runs
ENV OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HOME=/runs/.cache
ENTRYPOINT ["agentgym"]
CMD ["--help"]
