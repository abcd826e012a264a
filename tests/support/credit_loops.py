"""Every recipe once more, in plain loops over episodes, written from the formulas: no arrays, no blocks."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agentgym.credit import CreditArrays
from agentgym.seeding import stream

Advantages = list[list[float]]
WEIGHTS, ITEM_WEIGHTS = [1.0, 0.5, -0.25], [0.5, 0.3, 0.2]


@dataclass
class Row:
    """One episode."""

    group: int
    turns: list[float]
    outcome: float
    states: list[int] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


def some_rows(seed: int) -> list[Row]:
    """Ragged groups of 1 to 7 episodes with 1 to 4 turns, few distinct values, so that ties are common."""
    rng = stream("loops", seed)
    rows = []
    for group in range(4):
        for _ in range(1 if group == 2 else int(rng.integers(2, 8))):
            n = int(rng.integers(1, 5))
            more = {
                "entity_match": float(rng.integers(0, 3)) / 2, "citation_rubric": float(rng.random()),
                "atomic_thought": float(rng.random()), "self_aligned": float(rng.random()), "format_error": bool(rng.random() < 0.2),
                "overlong": bool(rng.random() < 0.2), "channels": rng.integers(0, 3, 3).astype(float).tolist(),
                "items": rng.integers(0, 2, (n, 3)).tolist(), "eligible": rng.integers(0, 2, (n, 3)).tolist(),
                "accuracy": rng.random(n).tolist(), "confidence": rng.random(n).tolist(),
                "masked": rng.integers(0, 2, n).tolist(), "log_ratio": rng.normal(size=n).tolist(),
                "potential": rng.random(5).tolist(), "mode_support": rng.random((5, 2)).tolist(),
                "mode_reliability": rng.random(2).tolist(),
                "continued_outcome": np.where(rng.random(5) < 0.6, rng.random(5), np.nan).tolist(),
                "continued_turns": rng.normal(size=5).tolist(),
                "n_tokens": int(rng.integers(1, 100)), "mean_logprob": -float(rng.random()),
                "suffix_gain": rng.normal(size=n).tolist(), "useful": rng.integers(0, 2, n).tolist(),
            }  # fmt: skip
            rows.append(
                Row(group, np.round(rng.normal(size=n), 1).tolist(), float(rng.integers(0, 2)),
                    rng.integers(0, 3, n).tolist(), rng.random(n).tolist(), more)
            )  # fmt: skip
    return rows


def as_arrays(rows: Sequence[Row]) -> CreditArrays:
    width = max(len(r.turns) for r in rows)

    def padded(values: Sequence[Sequence[Any]]) -> np.ndarray:
        one = np.asarray(values[0])
        out = np.full((len(rows), width, *one.shape[1:]), 0, one.dtype)
        for i, row in enumerate(values):
            out[i, : len(row)] = row
        return out

    def column(name: str) -> np.ndarray:
        return np.array([r.more[name] for r in rows])

    extras = {
        "state": padded([r.states for r in rows]), "entropy": padded([r.entropy for r in rows]),
        "items": padded([r.more["items"] for r in rows]), "eligible": padded([r.more["eligible"] for r in rows]),
        **{name: padded([r.more[name] for r in rows]) for name in ("accuracy", "confidence", "masked", "log_ratio", "suffix_gain", "useful")},
        "item_weights": np.array(ITEM_WEIGHTS), "channel_weights": np.array(WEIGHTS),
        **{n: column(n)[:, : width + 1] for n in ("continued_outcome", "continued_turns")},
        **{n: column(n) for n in ("n_tokens", "mean_logprob")},
        "potential": column("potential")[:, : width + 1], "mode_support": column("mode_support")[:, : width + 1],
        **{f"score:{n}": column(n) for n in ("entity_match", "citation_rubric", "atomic_thought", "self_aligned")},
        **{n: column(n) for n in ("format_error", "overlong", "channels", "mode_reliability")},
    }  # fmt: skip
    n = len(rows)
    mask = np.arange(width) < np.array([len(r.turns) for r in rows])[:, None]
    return CreditArrays(
        padded([r.turns for r in rows]), mask, np.array([r.outcome for r in rows]), np.array([r.group for r in rows]),
        np.ones(n, bool), np.ones(n, bool), extras=extras,
    )  # fmt: skip


def peers(rows: Sequence[Row], row: Row) -> list[Row]:
    return [r for r in rows if r.group == row.group]


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def z(value: float, values: Sequence[float], eps: float = 1e-6, lone: float = 0.0) -> float:
    if len(values) < 2:
        return lone
    std = statistics.stdev(values)
    return 0.0 if std < 1e-9 else (value - mean(values)) / (std + eps)


def to_go(values: Sequence[float], gamma: float = 1.0) -> list[float]:
    return [sum(gamma ** (j - k) * values[j] for j in range(k, len(values))) for k in range(len(values))]


def spread(rows: Sequence[Row], value: Callable[[Row], float]) -> Advantages:
    return [[value(row)] * len(row.turns) for row in rows]


def z_of(rows: Sequence[Row], score: Callable[[Row], float]) -> Advantages:
    return spread(rows, lambda row: z(score(row), [score(r) for r in peers(rows, row)]))


def loo(row: Row, rows: Sequence[Row], score: Callable[[Row], float]) -> float:
    others = [score(r) for r in peers(rows, row) if r is not row]
    return score(row) - mean(others) if others else 0.0


def placed(row: Row) -> list[float]:
    """Return the turn scores with the outcome on the last."""
    return [*row.turns[:-1], row.turns[-1] + row.outcome] if row.turns else []


def at(values: Sequence[float], k: int) -> float:
    return values[k] if k < len(values) else 0.0


def turn_grpo(rows: Sequence[Row], turns: Callable[[Row], list[float]], weight: float = 1.0) -> Advantages:
    out = []
    for row in rows:
        own = to_go(turns(row))
        others = [to_go(turns(r)) for r in peers(rows, row) if r is not row]
        trajectory = loo(row, rows, lambda r: r.outcome)
        out.append([
            (weight * (x - mean(at(o, k) for o in others)) if others else 0.0) + trajectory for k, x in enumerate(own)
        ])  # fmt: skip
    return out


def alive(rows: Sequence[Row]) -> Advantages:
    out = []
    for row in rows:
        own = to_go(row.turns)
        others = [to_go(r.turns) for r in peers(rows, row) if r is not row]
        level = []
        for k, x in enumerate(own):
            there = [o[k] for o in others if k < len(o)]
            level.append(x - mean(there) if there else x)
        out.append([x + loo(row, rows, lambda r: r.outcome) for x in level])
    return out


def per_index(rows: Sequence[Row]) -> Advantages:
    out = []
    for row in rows:
        centred = []
        for k, r in enumerate(row.turns):
            there = [p.turns[k] for p in peers(rows, row) if k < len(p.turns)]
            centred.append(r - mean(there) if len(there) > 1 else 0.0)
        group = [p.outcome for p in peers(rows, row)]
        o = row.outcome - mean(group) if len(group) > 1 else 0.0
        out.append([x + o for x in to_go(centred)])
    return out


def prof(rows: Sequence[Row], keep: int) -> Advantages:
    kept: list[Row] = []
    for g in sorted({r.group for r in rows}):
        members = [r for r in rows if r.group == g]
        right = sorted((r for r in members if r.outcome >= 0.5), key=lambda r: -mean(r.turns))
        wrong = sorted((r for r in members if r.outcome < 0.5), key=lambda r: mean(r.turns))
        n = min(max(keep // 2, keep - len(wrong)), len(right))
        kept += right[:n] + wrong[: keep - n]
    kept = [r for r in rows if any(r is one for one in kept)]
    scored = {id(r): z(r.outcome, [p.outcome for p in peers(kept, r)]) for r in kept}
    return [[scored.get(id(r), 0.0)] * len(r.turns) for r in rows]


def e_grpo(rows: Sequence[Row], alpha: float) -> Advantages:
    def score(row: Row) -> float:
        top = max(r.more["entity_match"] for r in peers(rows, row))
        rate = row.more["entity_match"] / top if top > 0 else 0.0
        if row.more["format_error"] or row.more["overlong"]:
            return 0.0
        return row.outcome if row.outcome >= 0.5 else alpha * rate

    return z_of(rows, score)


def c_grpo(rows: Sequence[Row], alpha: float, released: bool) -> Advantages:
    def score(row: Row) -> float:
        top = 1.0 if released else max(r.more["citation_rubric"] for r in peers(rows, row))
        rubric = row.more["citation_rubric"] / top if top > 0 else 0.0
        return (1 - alpha) * row.outcome + alpha * row.outcome * rubric

    return z_of(rows, score)


def trust_grpo(rows: Sequence[Row], alpha: float, step: int, horizon: float) -> Advantages:
    def score(row: Row) -> float:
        right = [r.more["atomic_thought"] for r in peers(rows, row) if r.outcome >= 0.5]
        wrong = [r.more["atomic_thought"] for r in peers(rows, row) if r.outcome < 0.5]
        gamma = 1.0 if not right or not wrong or mean(right) >= mean(wrong) else math.exp(mean(right) - mean(wrong))
        return row.outcome + gamma * alpha * math.exp(-step / horizon) * row.more["atomic_thought"]

    return z_of(rows, score)


def atom_searcher(rows: Sequence[Row], weight: float, step: int, n_steps: int) -> Advantages:
    w = weight * (1 - step / n_steps)

    def score(row: Row) -> float:
        return -1.0 if row.more["format_error"] else w * row.more["atomic_thought"] + (1 - w) * row.outcome

    return z_of(rows, score)


def pop_z(value: float, values: Sequence[float], std: bool) -> float:
    if len(values) < 2:
        return 0.0
    centred = value - mean(values)
    return centred / (math.sqrt(statistics.pvariance(values) + 1e-8) + 1e-6) if std else centred


def igpo_joint(rows: Sequence[Row], gamma: float, std: bool) -> Advantages:
    out = []
    for row in rows:
        pool = [x for r in peers(rows, row) for x in placed(r)]
        out.append(to_go([pop_z(x, pool, std) for x in placed(row)], gamma))
    return out


def igpo_separate(rows: Sequence[Row], gamma: float, std: bool) -> Advantages:
    out = []
    for row in rows:
        gains = [x for r in peers(rows, row) for x in r.turns[:-1]]
        outcomes = [r.outcome for r in peers(rows, row)]
        values = [pop_z(x, gains, std) for x in row.turns[:-1]]
        out.append(to_go([*values, pop_z(row.outcome, outcomes, std)], gamma))
    return out


def matchtir(rows: Sequence[Row], discount: float) -> Advantages:
    out = []
    for row in rows:
        total = sum(placed(row))
        a = z(total, [sum(placed(r)) for r in peers(rows, row)], lone=total / (1 + 1e-6))
        returns = [to_go(placed(r), discount) for r in peers(rows, row)]
        own = to_go(placed(row), discount)
        level = []
        for k, x in enumerate(own):
            level.append(z(x, [r[k] for r in returns if k < len(r)], lone=x / (1 + 1e-6)))
        out.append([(a + b) / 2 for b in level])
    return out


def cm2_trajectory(rows: Sequence[Row], n: int) -> Advantages:
    def score(row: Row) -> float:
        return sum(row.turns) / n

    return spread(rows, lambda row: score(row) - mean(score(r) for r in peers(rows, row)))


def cm2_turn(rows: Sequence[Row], min_count: int) -> Advantages:
    out = []
    for row in rows:
        there = [[r.turns[k] for r in peers(rows, row) if k < len(r.turns)] for k in range(len(row.turns))]
        out.append([x - mean(t) if len(t) >= min_count else 0.0 for x, t in zip(row.turns, there, strict=True)])
    return out


def cm2_step(rows: Sequence[Row], weights: Sequence[float]) -> Advantages:
    def ever(row: Row, c: int) -> float:
        return max((m[c] * e[c] for m, e in zip(row.more["items"], row.more["eligible"], strict=True)), default=0.0)

    out = []
    for row in rows:
        values = []
        for met, eligible in zip(row.more["items"], row.more["eligible"], strict=True):
            total = sum(w for w, e in zip(weights, eligible, strict=True) if e)
            gain = sum(
                w * (met[c] - mean(ever(r, c) for r in peers(rows, row))) for c, w in enumerate(weights) if eligible[c]
            )
            values.append(gain / total if total else 0.0)
        out.append(values)
    return out


def gigpo(rows: Sequence[Row], gamma: float, omega: float, *, over_rows: bool, std: bool, others: bool) -> Advantages:
    def episode(row: Row) -> float:
        total = sum(placed(row))
        if others:
            return loo(row, rows, lambda r: sum(placed(r)))
        pool = [sum(placed(r)) for r in peers(rows, row) for _ in (r.turns if over_rows else [0])]
        if len(pool) < 2:
            return 0.0
        return z(total, pool) if std else total - mean(pool)

    out = []
    for row in rows:
        own, values = to_go(placed(row), gamma), []
        for k, x in enumerate(own):
            same = [
                (r, to_go(placed(r), gamma)[j])
                for r in peers(rows, row) for j, s in enumerate(r.states) if s == row.states[k]
            ]  # fmt: skip
            if others:
                elsewhere = [v for r, v in same if r is not row]
                step = x - mean(elsewhere) if elsewhere else x
            elif len(same) < 2:
                step = 0.0
            else:
                step = z(x, [v for _, v in same]) if std else x - mean(v for _, v in same)
            values.append(episode(row) + omega * step)
        out.append(values)
    return out


def empg(rows: Sequence[Row], k: float, k_next: float, zeta: float) -> Advantages:
    every = [h for r in rows for h in r.entropy]
    low, high = min(every), max(every)

    def h(x: float) -> float:
        return (x - low) / (high - low + 1e-8)

    norm = mean(math.exp(-k * h(x)) for x in every)
    base = z_of(rows, lambda r: r.outcome)
    out = []
    for row, a in zip(rows, base, strict=True):
        bonus = [zeta * math.exp(-k_next * h(x)) for x in row.entropy[1:]] + [0.0]
        out.append([x * math.exp(-k * h(e)) / norm + b for x, e, b in zip(a, row.entropy, bonus, strict=False)])
    centre = mean(x for r in out for x in r)
    return [[x - centre for x in r] for r in out]


def channels(rows: Sequence[Row], weights: Sequence[float], batch: bool) -> Advantages:
    def score(row: Row) -> float:
        return sum(
            w * z(row.more["channels"][c], [r.more["channels"][c] for r in peers(rows, row)], eps=1e-4)
            for c, w in enumerate(weights)
        )

    pool = [score(r) for r in rows]
    return spread(rows, lambda row: z(score(row), pool, eps=1e-4) if batch else score(row))


def slate(rows: Sequence[Row]) -> Advantages:
    out = []
    for row in rows:
        there = [
            [r.turns[j] for r in peers(rows, row) for j, s in enumerate(r.states) if s == state] for state in row.states
        ]
        out.append([z(x, t) for x, t in zip(row.turns, there, strict=True)])
    return out


def a2tgpo(rows: Sequence[Row]) -> Advantages:
    out = []
    for row in rows:
        gains = []
        for k, r in enumerate(row.turns[:-1]):
            gains.append(z(r, [p.turns[k] for p in peers(rows, row) if k < len(p.turns) - 1]))
        o = z(row.outcome, [p.outcome for p in peers(rows, row)])
        n = len(gains)
        out.append([o + sum(gains[k:]) / math.sqrt(max(n - k, 1)) for k in range(len(row.turns))])
    return out


def potential(rows: Sequence[Row], alpha: float, zero: bool) -> Advantages:
    def gains(row: Row) -> list[float]:
        phi = list(row.more["potential"][: len(row.turns) + 1])
        if zero and row.turns:
            phi[-1] = 0.0
        return [alpha * (b - a) for a, b in itertools.pairwise(phi)]

    return turn_grpo(rows, gains)


def whitened(rows: Advantages, inside: float, outside: float) -> Advantages:
    every = [x for row in rows for x in row]
    std = math.sqrt(statistics.variance(every) + inside) + outside
    return [[(x - mean(every)) / std for x in row] for row in rows]


def spae(rows: Sequence[Row], alpha: float, xi: float, saturated: float) -> Advantages:
    potentials = [
        [1.5 * a * c + 0.5 * a - c for a, c in zip(r.more["accuracy"], r.more["confidence"], strict=True)] for r in rows
    ]
    rises = [[0.0, *(b - a for a, b in itertools.pairwise(p))] for p in potentials]
    every = [x for r in rises for x in r]
    grown = [[math.exp((x - min(every)) / (max(every) - min(every) + 1e-8)) for x in r] for r in rises]
    centre = mean(x for r in grown for x in r)
    out = []
    for row, phi, g in zip(rows, potentials, grown, strict=True):
        group = [r.outcome for r in peers(rows, row)]
        a = row.outcome - mean(group) if len(group) > 1 else 0.0
        f = [1 - alpha * (1 - math.exp(-sum(x > saturated for x in phi[:k]))) for k in range(len(phi))]
        out.append([a * fk + xi * (gk - centre) for fk, gk in zip(f, g, strict=True)])
    return whitened(out, 0.0, 1e-8)


def prime(rows: Sequence[Row], turn: float, outcome: float, whiten: bool) -> Advantages:
    out = []
    for row in rows:
        members = peers(rows, row)
        n = len(members)
        base = sum(mean(r.turns) for r in members)
        values = [turn * ((x * n - base) / (n - 1) if n > 1 else 0.0) for x in row.turns]
        values[-1] += outcome * loo(row, rows, lambda r: r.outcome)
        out.append(to_go(values))
    return whitened(out, 1e-8, 0.0) if whiten else out


def rank(rows: Sequence[Row], own: bool) -> Advantages:
    out = []
    for row in rows:
        values = [(r.turns if own else to_go(r.turns)) for r in peers(rows, row)]
        mine = row.turns if own else to_go(row.turns)
        out.append([z(x, [v[k] for v in values if k < len(v)], eps=1e-4) for k, x in enumerate(mine)])
    return out


def masked(rows: Sequence[Row]) -> Advantages:
    base = z_of(rows, lambda r: r.outcome)
    return [[0.0 if m else x for x, m in zip(a, r.more["masked"], strict=True)] for a, r in zip(base, rows, strict=True)]


def p2s(rows: Sequence[Row]) -> Advantages:
    def score(row: Row) -> float:
        if row.more["format_error"]:
            return -1.0
        return row.outcome if any(r.outcome >= 0.5 for r in peers(rows, row)) else row.more["self_aligned"]

    return z_of(rows, score)


def counterfactual(rows: Sequence[Row], weight: float) -> Advantages:
    def total(row: Row) -> float:
        return row.outcome + weight * sum(row.turns)

    out = []
    for row in rows:
        others = [total(r) for r in peers(rows, row) if r is not row]
        known: dict[int, float] = {len(row.turns): total(row)}
        for k in range(1, len(row.turns)):
            later = row.more["continued_outcome"][k] + weight * row.more["continued_turns"][k]
            if not math.isnan(row.more["continued_outcome"][k]):
                known[k] = later + weight * sum(row.turns[:k])
        if others:
            known[0] = mean(others)
        values = []
        for k in range(len(row.turns)):
            before = [known[j] for j in range(k, -1, -1) if j in known]
            after = next(known[j] for j in range(k + 1, len(row.turns) + 1) if j in known)
            values.append(after - before[0] if before else 0.0)
        out.append(values)
    return out


def drpo(rows: Sequence[Row], tau: float, lam: float, longest: float) -> Advantages:
    def coefficient(row: Row) -> float:
        group = peers(rows, row)
        right, wrong = [r for r in group if r.outcome], [r for r in group if not r.outcome]
        if not right or not wrong:
            return 0.0
        if row.outcome:
            short = {id(r): math.exp((1 - r.more["n_tokens"] / longest) / lam) for r in right}
            return len(group) * short[id(row)] / sum(short.values())
        likely = {id(r): math.exp(r.more["mean_logprob"] / tau) for r in wrong}
        return -len(group) * likely[id(row)] / sum(likely.values())

    return spread(rows, coefficient)
