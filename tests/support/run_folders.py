"""Run folders for tests of the views: what `agentgym train` leaves behind, small and with known numbers."""

import json
from pathlib import Path
from typing import Any

from agentgym.rollout.record import to_line
from agentgym.types import Message, Score, Segment, Span, ToolResult, Trajectory, Turn

WARM, STEPS, EVERY = 3, 8, 4
TOKENS = {"0": "<search>", "1": "</search>", "2": "Irma", "3": "Bela", "4": "<answer>", "5": "</answer>"}


def success_at(step: int, seed: int = 0) -> float:
    """Held-out success that the folder holds at an evaluation."""
    return 0.25 + 0.07 * step + 0.01 * seed


def metric_lines(seed: int = 0, warm: int = WARM) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl: a warm start, steps, evaluations at 0, 4 and 8, one warning said three times."""
    lines: list[dict[str, Any]] = [
        {"phase": "warmstart", "step": s, "metrics": {"sft/loss": 3.0 - s, "time/total_cpu_s": 2.0 + s}}
        for s in range(warm)
    ]
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            p = success_at(step, seed)
            metrics = {
                "eval/success": p,
                "eval/success_low": p - 0.1,
                "eval/success_high": p + 0.1,
                "eval/success/hop": p,
            }
            lines.append({"phase": "evaluation", "step": step, "metrics": metrics, "warnings": []})
        if step == STEPS:
            break
        metrics = {
            "success": step / 10,
            "reward": step / 5,
            "turns": 2.0,
            "entropy": 1.0 - step / 10,
            "loss": -0.1 * step,
        }
        metrics |= {
            "reward/answer_em": step / 10,
            "reward/step_cost": -0.02,
            "time/total_cpu_s": 10.0 + 5 * step + seed,
            "w": 0.5,
        }
        said = [f"{90 + step}% of the groups carry no advantage"] if step in (2, 3, 5) else []
        lines.append(
            {"phase": "train", "step": step, "metrics": metrics, "warnings": said, "scales": {"s_T": 0.1 * (step + 1)}}
        )
    return lines


def trajectory(step: int = 0, member: int = 0, *, said: str = "", success: bool = True, **changes: Any) -> Trajectory:
    """An episode of one search and one answer; `said` stands in every text that comes from outside."""
    search = Turn(
        0,
        f"<search>Irma</search>{said}",
        results=(ToolResult("c1", "search", True),),
        messages=(Message.of("user", f"<information>Irma born Istrava{said}</information>"),),
        scores={"retrieval_gain": Score("turn", 1.0, weight=0.2, value=0.2, reason=f"1 of 1 found{said}")},
        reward=0.2,
        entropies=(0.5, 0.25, 0.125),
    )
    raw = 1.0 if success else 0.0
    built = Trajectory(
        id=f"t{step}-{member}",
        env_id="SearchQA-v0",
        task_id=f"task-{step}",
        prompt=(Message.of("user", f"birthplace of Irma ?{said}"),),
        turns=(search, Turn(1, f"<answer>Bela</answer>{said}", reward=0.0)),
        question=f"birthplace of Irma ?{said}",
        answer=f"Bela{said}",
        end_reason="answered",
        terminated=True,
        success=success,
        scores={"answer_em": Score("trajectory", raw, value=raw)},
        reward=raw,
        segments=(
            Segment(
                (9, 0, 2, 1, 4, 3, 5),
                (0, 1, 1, 1, 1, 1, 1),
                (0.0, -0.5, -0.25, -0.125, -1.0, -2.0, -0.75),
                (Span(0, 1, 4), Span(1, 4, 7)),
            ),
        ),
        group_id=f"g{step}",
        member=member,
        seed=(0, step, 0, member),
        gold={"answers": [{"text": f"Istrava{said}"}]},
        info={"kind": "hop"},
    )
    return built.with_(**changes)


def write_run(folder: Path, *, seed: int = 0, said: str = "", warm: int = WARM) -> Path:
    """Write a whole run folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = metric_lines(seed, warm)
    if said:
        lines[-2]["warnings"] = [f"odd{said}"]
    trajectories = []
    for line in lines:
        if line["phase"] == "train" and line["step"] % 2 == 0:
            group = [trajectory(line["step"], m, said=said, success=m == 0) for m in range(3)]
            trajectories += group
            line["advantages"] = {t.id: [0.5 - t.member, -0.25] for t in group}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "trajectories.jsonl").write_text("".join(to_line(t) + "\n" for t in trajectories), encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps(TOKENS), encoding="utf-8")
    (folder / "versions.json").write_text(json.dumps({"python": "3.11"}), encoding="utf-8")
    settings = f'seed = {seed}\nenv = "SearchQA-v0"\npolicy = "tiny"\n[train]\nsteps = {STEPS}\n[credit]\nrecipe = "turn_grpo"\n'
    (folder / "config.toml").write_text(settings, encoding="utf-8")
    return folder
