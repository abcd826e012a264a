"""Reinforcement learning of a search agent in one file: model, sampling, credit and loss are all here.

    python examples/grpo_single_file.py            # about a minute of one core: success .3 -> .7
    python examples/grpo_single_file.py --steps 5 --warm 20

From AgentGym come the environments and their types alone. The agent is a transformer of 180,000 weights over words. It
first imitates careless demonstrations, then learns from its own episodes: siblings answer the same question, and each
turn is judged by what came after it, compared with what its siblings got from the same turn on.
"""

import argparse
import re
import sys
from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import agentgym  # noqa: F401 (registers the ids)
from agentgym.task import Task

WORLD = "synthetic:closed?worlds=128&kinds=1,2a,2b"
PROMPTS, GROUP, ACTION = 10, 8, 7  # questions a step, episodes of each, most tokens of an action
TURN_WEIGHT, CLIP = 0.5, (0.8, 1.28)
PIECE = re.compile(r"</?\w+>|\w+|[^\w\s]")
USER, AGENT, UNKNOWN = "[user]", "[agent]", "[unknown]"


@dataclass
class Episode:
    ids: list[int]
    spans: list[tuple[int, int]] = field(default_factory=list)  # tokens of each turn's action, [start, end)
    logprobs: list[float] = field(default_factory=list)  # of all action tokens in order, when they were sampled
    rewards: list[float] = field(default_factory=list)  # turn-scope scores, one number a turn
    outcome: float = 0.0  # trajectory-scope scores
    success: bool = False


class Words:
    def __init__(self, texts: set[str]) -> None:
        self.all = [USER, AGENT, UNKNOWN, *sorted({piece for text in texts for piece in PIECE.findall(text)})]
        self.number = {word: i for i, word in enumerate(self.all)}
        self.ends = {i for word, i in self.number.items() if word.startswith("</") and word != "</information>"}

    def read(self, text: str) -> list[int]:
        return [self.number.get(piece, self.number[UNKNOWN]) for piece in PIECE.findall(text)]

    def prompt(self, text: str) -> list[int]:
        return [self.number[USER], *self.read(text), self.number[AGENT]]

    def write(self, ids: list[int]) -> str:
        return re.sub(r"(?<=>) | (?=</)", "", " ".join(self.all[i] for i in ids))


def matrix(rows: int, columns: int, generator: torch.Generator, identity: float = 0.0) -> nn.Parameter:
    """N(0, 1 / fan-in); a share of identity lets attention copy words from the first step on."""
    weight = torch.randn(rows, columns, generator=generator) / columns**0.5
    return nn.Parameter((1 - identity) * weight + identity * torch.eye(rows, columns))


class Layer(nn.Module):
    def __init__(self, size: int, heads: int, depth: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, small = heads, (2 * depth) ** -0.5
        self.q, self.v = matrix(size, size, generator), matrix(size, size, generator, 0.7)
        self.k = nn.Parameter((matrix(size, size, generator).data + self.q.data) / 2)
        self.o = nn.Parameter(matrix(size, size, generator, 0.7).data * small)
        self.up, self.gate = (matrix(3 * size, size, generator) for _ in range(2))
        self.down = nn.Parameter(matrix(size, 3 * size, generator).data * small)

    def forward(self, x: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        b, t, d = x.shape
        h = F.rms_norm(x, (d,))
        q, k, v = ((h @ w.T).view(b, t, self.heads, -1).transpose(1, 2) for w in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(rotate(q, turns), rotate(k, turns), v, is_causal=True)
        x = x + attended.transpose(1, 2).reshape(b, t, d) @ self.o.T
        h = F.rms_norm(x, (d,))
        return x + (F.silu(h @ self.gate.T) * (h @ self.up.T)) @ self.down.T


def rotate(x: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    cos, sin = (part[: x.shape[2]] for part in turns)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


class Model(nn.Module):
    def __init__(self, n_words: int, seed: int, size: int = 64, depth: int = 3, heads: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.words = matrix(n_words, size, generator)
        self.layers = nn.ModuleList(Layer(size, heads, depth, generator) for _ in range(depth))
        self.out = nn.Parameter(self.words.data.clone())
        angles = torch.outer(torch.arange(1024.0), 1000.0 ** -torch.linspace(0, 1, size // heads // 2 + 1)[:-1])
        self.angles = (angles.cos(), angles.sin())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words[ids]
        for layer in self.layers:
            x = layer(x, self.angles)
        return F.rms_norm(x, (x.shape[-1],))

    def logprobs(self, rows: list[list[int]], at: list[list[int]]) -> torch.Tensor:
        """Return the log-probabilities of the tokens at the places `at` of each row, one after the other."""
        ids = pad(rows)
        row, place = torch.tensor([(b, p) for b, places in enumerate(at) for p in places]).T
        return -F.cross_entropy(self(ids)[row, place - 1] @ self.out.T, ids[row, place], reduction="none")


def pad(rows: list[list[int]]) -> torch.Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


@torch.no_grad()
def complete(model: Model, words: Words, contexts: list[list[int]], rng: np.random.Generator) -> list[tuple]:
    """Sample one action for each context: tokens and their log-probabilities."""
    done, live = [([], []) for _ in contexts], list(range(len(contexts)))
    while live:
        rows = [contexts[i] + done[i][0] for i in live]
        last = model(pad(rows))[range(len(rows)), [len(row) - 1 for row in rows]]
        logp = torch.log_softmax(last @ model.out.T, -1).numpy()
        for i, values, pick in zip(live, logp, (logp + rng.gumbel(size=logp.shape)).argmax(-1), strict=True):
            done[i][0].append(int(pick))
            done[i][1].append(float(values[pick]))
        live = [i for i in live if done[i][0][-1] not in words.ends and len(done[i][0]) < ACTION]
    return done


def play(envs: list[gym.Env], tasks: list[Task], words: Words, model: Model, rng: np.random.Generator) -> list[Episode]:
    """Play one episode per task, all at once."""
    episodes = [Episode(words.prompt(env.reset(options={"task": task})[0])) for env, task in zip(envs, tasks, strict=False)]
    live = list(range(len(tasks)))
    while live:
        actions = complete(model, words, [episodes[i].ids for i in live], rng)
        live = [i for i, action in zip(live, actions, strict=True) if not over(envs[i], episodes[i], words, *action)]
    return episodes


def over(env: gym.Env, episode: Episode, words: Words, ids: list[int], logprobs: list[float]) -> bool:
    """Take one turn and record it; return whether the episode is over."""
    observation, _, *ends, info = env.step(words.write(ids))
    episode.spans.append((len(episode.ids), len(episode.ids) + len(ids)))
    episode.ids += ids
    episode.logprobs += logprobs
    scores = info["rewards"]
    episode.rewards.append(sum(s["value"] for s in scores.values() if s["scope"] == "turn"))
    if not any(ends):
        episode.ids += words.prompt(observation)
        return False
    episode.outcome = sum(s["value"] for s in scores.values() if s["scope"] == "trajectory")
    episode.success = scores["answer_em"]["value"] == 1.0
    return True


def demonstrate(env: gym.Env, task: Task, rng: np.random.Generator) -> list[str]:
    """Return observation, action, observation, ... of the environment's own solution, spoilt by noise."""
    texts, ended = [env.reset(options={"task": task})[0]], False
    while not ended:
        action = env.unwrapped.oracle_action(rng, 0.6)
        observation, _, *ends, _ = env.step(action)
        texts, ended = [*texts, action, observation], any(ends)
    return texts[:-1]


def rows_of(words: Words, texts: list[str]) -> tuple[list[int], list[int]]:
    """Return a demonstration's tokens and the places of its actions, which are every other text."""
    pieces = [words.read(text) if k % 2 else words.prompt(text) for k, text in enumerate(texts)]
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    return [i for piece in pieces for i in piece], [p for k in range(1, len(pieces), 2) for p in range(ends[k - 1], ends[k])]


def credit(episodes: list[Episode], scales: list[np.ndarray]) -> list[np.ndarray]:
    """One advantage per turn: return-to-go and outcome, each minus the other siblings' mean, over a scale of earlier steps."""
    to_go = np.zeros((len(episodes), max(len(e.rewards) for e in episodes)))  # what is over earns 0 from there on
    for row, e in zip(to_go, episodes, strict=True):
        row[: len(e.rewards)] = np.cumsum(e.rewards[::-1])[::-1]
    levels = []
    for values in (to_go, np.array([[e.outcome] for e in episodes])):
        x = values.reshape(-1, GROUP, values.shape[1])
        levels.append((x - (x.sum(1, keepdims=True) - x) / (GROUP - 1)).reshape(values.shape))
    s_turn, s_outcome = np.maximum(np.sqrt(np.mean(scales[-10:], 0)), 0.05) if scales else (1.0, 1.0)
    live = np.concatenate([row[: len(e.rewards)] for row, e in zip(levels[0], episodes, strict=True)])
    scales.append(np.array([np.mean(live**2), np.mean(levels[1] ** 2)]))
    both = TURN_WEIGHT * levels[0] / s_turn + levels[1] / s_outcome
    return [row[: len(e.rewards)] for row, e in zip(both, episodes, strict=True)]


def learn(model: Model, optimizer: torch.optim.Optimizer, episodes: list[Episode], advantages: list[np.ndarray], tokens: float) -> None:
    """Take one optimiser step on some episodes; `tokens` is a constant, so that length changes no weight."""
    new = model.logprobs([e.ids for e in episodes], [[p for span in e.spans for p in range(*span)] for e in episodes])
    old = torch.tensor([x for e in episodes for x in e.logprobs])
    value = torch.cat([torch.full((end - start,), a[k]) for e, a in zip(episodes, advantages, strict=True) for k, (start, end) in enumerate(e.spans)])
    ratio = (new - old).exp()
    update(model, optimizer, -torch.minimum(ratio * value, ratio.clamp(*CLIP) * value).sum() / (len(episodes) * tokens))


def update(model: Model, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def main(arguments: list[str]) -> tuple[float, float]:
    """Imitate, then learn; return held-out success before and after learning."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"steps": 70, "warm": 160, "demonstrations": 900, "tasks": 160, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    envs = [gym.make("SearchQA-v0", world=WORLD, observation="compact", k=2) for _ in range(max(PROMPTS * GROUP, args.tasks))]
    train, held_out = (envs[0].unwrapped.tasks(split) for split in ("train", "dev"))
    shown = [demonstrate(envs[0], train[int(rng.integers(len(train)))], rng) for _ in range(args.demonstrations)]
    words = Words({text for texts in shown for text in texts})
    model, rows = Model(len(words.all), args.seed), [rows_of(words, texts) for texts in shown]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    for n in range(args.warm):
        optimizer.param_groups[0]["lr"] = 5e-3 * min((n + 1) / 30, 1 - n / args.warm)
        batch = [rows[int(i)] for i in rng.integers(len(rows), size=32)]
        update(model, optimizer, -model.logprobs([ids for ids, _ in batch], [at for _, at in batch]).mean())

    def held_out_success() -> float:
        episodes = play(envs, [held_out[i] for i in range(args.tasks)], words, model, np.random.default_rng(1))
        return float(np.mean([e.success for e in episodes]))

    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    before, scales, tokens = held_out_success(), [], sum(len(at) for _, at in rows) / len(rows)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(words.all)} words; held-out success {before:.3f}")
    for n in range(args.steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - n / args.steps)
        tasks = [train[int(i)] for i in rng.integers(len(train), size=PROMPTS) for _ in range(GROUP)]
        episodes = play(envs, tasks, words, model, rng)
        advantages = credit(episodes, scales)
        for share in np.array_split(rng.permutation(len(episodes)), 2):  # two updates, the second off-policy
            learn(model, optimizer, [episodes[i] for i in share], [advantages[i] for i in share], tokens)
        if n % 10 == 9:
            success, turns = (np.mean(values) for values in zip(*((e.success, len(e.rewards)) for e in episodes), strict=True))
            print(f"step {n + 1:3d}: success {success:.3f}, turns {turns:.2f}")
    after = held_out_success()
    print(f"held-out success {before:.3f} -> {after:.3f}")
    return before, after


if __name__ == "__main__":
    main(sys.argv[1:])
