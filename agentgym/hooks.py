"""Every extension point on one page.

Where a name of these registries is taken, "MODULE:NAME" or "FILE.py:NAME" is taken too (`agentgym.named`).

A plugin is a distribution with an entry point in the group "agentgym.plugins" that names a module or a
function; on loading it calls `add` of the registries below. AGENTGYM_PLUGINS limits which plugins load
(comma-separated names; empty = none). Environments are registered with gymnasium itself. docs/registering.md has
examples.

    from agentgym import hooks
    hooks.POLICIES.add("mine", "my_package.policy:MyPolicy")
"""

from collections.abc import Callable
from typing import Any

from agentgym.registry import Registry

POLICIES: Registry[Callable[..., Any]] = Registry("policy")
"""`(**options) -> agentgym.rollout.policy.Policy`"""

COMPONENTS: Registry[Callable[..., Any]] = Registry("component")
"""`(**options) -> agentgym.rewards.component.Component`"""

SUITES: Registry[Any] = Registry("suite")
"""`() -> suite`: a named preset of components with weights"""

CHECKLISTS: Registry[Any] = Registry("checklist")
"""A `Checklist`, used as reward "checklist:<name>" """

JUDGES: Registry[Callable[..., Any]] = Registry("judge")
"""`(**options) -> judge`"""

DIALECTS: Registry[Callable[..., Any]] = Registry("dialect")
"""`() -> agentgym.dialects.Dialect`"""

TOOLS: Registry[Any] = Registry("tool")
"""An `agentgym.tools.Tool`, usually made by `@agentgym.tool`"""

RETRIEVERS: Registry[Callable[..., Any]] = Registry("retriever")
"""`(passages, **options) -> agentgym.retrieval.protocol.Retriever`"""

WORLDS: Registry[Any] = Registry("world")
"""`(**parameters) -> world`, or of ToolCalls-v0 a `Family` or a `TaskSource` as it is"""

TASK_FORMATS: Registry[Callable[..., Any]] = Registry("task-format")
"""`(path, **options) -> Sequence[agentgym.task.Task]`"""

TRAJECTORY_FORMATS: Registry[Callable[..., Any]] = Registry("trajectory-format")
"""`(path, **options) -> Iterable[agentgym.types.Trajectory]`"""

RECIPES: Registry[Callable[..., Any]] = Registry("recipe")
"""`(config: agentgym.credit.CreditConfig, **options) -> agentgym.credit.Recipe`: how scores become advantages"""

SINKS: Registry[Callable[..., Any]] = Registry("sink")
"""`(out: Path, recipe: Mapping) -> agentgym.view.sinks.Sink`: a dashboard that takes a run's metrics (`log_to`)"""

SANDBOXES: Registry[Callable[..., Any]] = Registry("sandbox")
"""`(limits, **options) -> agentgym.sandbox.Sandbox`"""

DIALECTS.add("tags", "agentgym.dialects.tags:TagsDialect")
DIALECTS.add("json", "agentgym.dialects.json_calls:JsonDialect")
DIALECTS.add("chat", "agentgym.dialects.chat:ChatDialect")
RETRIEVERS.add("bm25", "agentgym.retrieval.bm25:BM25Retriever.from_passages")
RETRIEVERS.add("tantivy", "agentgym.retrieval.tantivy_backend:TantivyRetriever.from_passages")
RETRIEVERS.add("dense", "agentgym.retrieval.dense:DenseRetriever.from_passages")
RETRIEVERS.add("hybrid", "agentgym.retrieval.fusion:HybridRetriever.from_passages")
SINKS.add("tensorboard", "agentgym.view.sinks:TensorboardSink")
SINKS.add("wandb", "agentgym.view.sinks:WandbSink")
SINKS.add("trackio", "agentgym.view.sinks:TrackioSink")
SANDBOXES.add("bubblewrap", "agentgym.sandbox.bubblewrap:BubblewrapSandbox")
SANDBOXES.add("process", "agentgym.sandbox.process:ProcessSandbox")
SANDBOXES.add("docker", "agentgym.sandbox.docker:DockerSandbox")
JUDGES.add("rule", "agentgym.judges.rules:RuleJudge")
JUDGES.add("program", "agentgym.judges.rules:ProgramJudge")
JUDGES.add("stub", "agentgym.judges.rules:StubJudge")
JUDGES.add("endpoint", "agentgym.judges.endpoint_judge:endpoint_judge")
TRAJECTORY_FORMATS.add("cm2", "agentgym.rewards.cm2:read_cm2")
TRAJECTORY_FORMATS.add("agentgym", "agentgym.rollout.record:read_trajectories")
TRAJECTORY_FORMATS.add("atif", "agentgym.interop.atif:read_atif")
TRAJECTORY_FORMATS.add("search_r1", "agentgym.interop.search_r1:read_search_r1")
TRAJECTORY_FORMATS.add("trl", "agentgym.interop.trainer_logs:read_trl")
TRAJECTORY_FORMATS.add("verl", "agentgym.interop.trainer_logs:read_verl")
TRAJECTORY_FORMATS.add("chat", "agentgym.interop.chat_jsonl:read_chat")
for _module, _names in {
    "recipes": ("turn_grpo", "grpo", "per_index"),
    "outcome": ("dr_grpo", "rloo", "dapo", "rlpr", "prof", "noisy_backward", "noisy_forward"),
    "rubrics": ("e_grpo", "c_grpo", "trust_grpo", "atom_searcher"),
    "turns": ("igpo", "matchtir", "cm2", "gigpo", "empg"),
    "vector": ("mrn", "gdpo"),
    "later": ("ppr", "prime", "rank_grpo", "ggpo", "prl", "frozen", "discount_schedule"),
    "probes": ("spae", "p2s"),
    "counterfactual": ("counterfactual",),
    "decoupled": ("drpo",),
    "newest": ("tips", "pica", "siop", "slate", "a2tgpo"),
}.items():
    for _name in _names:
        RECIPES.add(_name, f"agentgym.credit.{_module}:{_name}")
