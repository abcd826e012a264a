"""The names of all built-in components and suites; nothing is imported before its name is used."""

from agentgym import hooks

_COMPONENTS = {
    "answer_em": "answers:AnswerEM",
    "answer_f1": "answers:AnswerF1",
    "answer_cover": "answers:AnswerCover",
    "retrieval_gain": "retrieval:RetrievalGain",
    "query_novelty": "retrieval:QueryNovelty",
    "information_gain": "information:InformationGain",
    "all_valid": "costs:AllValid",
    "step_cost": "costs:StepCost",
    "call_cost": "costs:CallCost",
    "invalid_action": "costs:InvalidAction",
    "forgery": "costs:Forgery",
    "answer_set_f1": "answer_sets:AnswerSetF1",
    "answer_number": "answer_numbers:AnswerNumber",
    "format_ladder": "ladder:FormatLadder",
    "information_gain_log": "information:LogInformationGain",
    "query_quality": "queries:QueryQuality",
    "info_density": "queries:InfoDensity",
    "entity_match": "entities:EntityMatch",
    "citation_rubric": "citations:CitationRubric",
    "citation_rubric_judged": "judged:JudgedCitationRubric",
    "citation_precision": "citations:CitationPrecision",
    "nugget_coverage": "nuggets:NuggetCoverage",
    "nugget_coverage_judged": "judged:JudgedNuggetCoverage",
    "path_potential": "paths:PathPotential",
    "action_reference": "paths:ActionReference",
    "reference_probability": "probability:ReferenceProbability",
    "self_aligned": "probability:SelfAligned",
    "log_ratio": "log_ratio:LogRatio",
    "checklist": "checklist_reward:ChecklistReward",
    "checklist_met": "checklist_reward:ChecklistMet",
    "call_match": "calls:CallMatch",
    "trace_match": "traces:TraceMatch",
    "matchtir": "traces:MatchTIR",
    "state_match": "states:StateMatch",
    "state_partial": "states:StatePartial",
    "state_assert": "states:StateAssert",
    "communicate": "replies:Communicate",
    "ask_gain": "replies:AskGain",
    "milestones": "milestones:Milestones",
    "task_success": "outcomes:TaskSuccess",
    "solved": "outcomes:Solved",
    "action_match": "actions:ActionMatch",
    "hierarchical_action": "actions:HierarchicalAction",
    "shop_r1": "actions:ShopR1",
    "gui_success": "gui:GuiSuccess",
    "webshop_score": "shopping:WebShopScore",
    "rerank_ndcg": "documents:RerankNdcg",
    "select_hit": "documents:SelectHit",
    "roi_f1": "documents:RoiF1",
    "page_steps": "documents:PageSteps",
    "atomic_thought": "thoughts:AtomicThought",
}
_SUITES = ("search", "search_ig", "search_cited", "search_gated", "graph", "tools", "gui")

for _name, _target in _COMPONENTS.items():
    hooks.COMPONENTS.add(_name, f"agentgym.rewards.{_target}")
for _name in _SUITES:
    hooks.SUITES.add(_name, f"agentgym.rewards.presets:{_name}")
