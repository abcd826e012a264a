"""Components over pages: ranking them, picking one, cropping the region that holds the answer.

They read the events candidates, ranked, selected, page and boxes (`agentgym.rewards.events`).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from agentgym.gold import Box
from agentgym.rewards.assignment import optimal
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.events import last, words_of
from agentgym.task import Gold
from agentgym.typed import is_number
from agentgym.types import JSON, Score, Turn

MIN_IOU = 0.5
"""Overlap from which a drawn box hits a gold box."""
MAX_BOXES = 50
"""More boxes than this hit nothing."""


def ndcg(ranked: Sequence[str], gold: Sequence[str]) -> float:
    """Return the normalised discounted cumulative gain of a ranking, 0..1: an id counts at its first place only.

    Source: UniDoc-RL and VRAG, where an id that is listed twice counts twice (1.63 of 1).
    """
    wanted = set(gold)
    places = [i for i, id_ in enumerate(dict.fromkeys(ranked)) if id_ in wanted]
    most = sum(1 / math.log2(i + 2) for i in range(len(wanted)))
    return sum(1 / math.log2(i + 2) for i in places) / most if most else 0.0


def iou(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes; 0 for boxes without area."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def boxes_f1(drawn: Sequence[Box], gold: Sequence[Box]) -> float:
    """Return the F1 of drawn boxes that hit gold boxes one to one (IoU of at least .5)."""
    if not drawn or not gold or len(drawn) > MAX_BOXES:
        return 0.0
    hits = np.array([[float(iou(a, b) >= MIN_IOU) for b in gold] for a in drawn])
    return 2.0 * len(optimal(hits)) / (len(drawn) + len(gold))


class _PageComponent(Component):
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    is_outcome = False


class RerankNdcg(_PageComponent):
    """NDCG of the last ranking of pages that the policy gave, repeated pages counted once.

    Source: UniDoc-RL (retrieval reward). Deviation: duplicates are removed first.
    """

    name = "rerank_ndcg"
    needs = frozenset({"gold.doc_ids", "events.pages"})

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        ranked = words_of(last(view.turns, "ranked"))
        return Score("trajectory", ndcg(ranked, view.gold.doc_ids), reason="" if ranked else "nothing ranked")


class SelectHit(_PageComponent):
    """1 if the page picked last is the first gold page among its candidates, or the top one where none is gold.

    Source: UniDoc-RL (selection reward).
    """

    name = "select_hit"
    needs = frozenset({"gold.doc_ids", "events.pages"})

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        picked, candidates = _picked(view.turns)
        if not picked or not candidates:
            return Score("trajectory", 0.0, reason="nothing picked")
        right = next((id_ for id_ in candidates if id_ in view.gold.doc_ids), candidates[0])
        return Score("trajectory", float(picked == right), reason="hit" if picked == right else "another page")


class RoiF1(_PageComponent):
    """F1 of the boxes drawn in the last crop of each page against gold's regions, at IoU ≥ .5.

    A box around the whole page hits nothing small. Where gold needs no crop: 0 either way, so that leaving out what
    nobody asked for pays nothing (UniDoc pays 1); `page_steps` shares the weight with the other terms instead.

    Source: UniDoc-RL (region reward).
    """

    name = "roi_f1"
    needs = frozenset({"gold.regions", "events.pages"})

    def complaint(self, gold: Gold) -> str:
        """Refuse regions without area."""
        return _no_area(gold)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        raw, drawn = _regions(view)
        return Score("trajectory", raw, reason=f"{drawn} boxes drawn")


class PageSteps(_PageComponent):
    """Mean of rerank_ndcg, select_hit and roi_f1; where no crop is needed and none was made, of the first two.

    Source: UniDoc-RL's process terms, .1 each. Deviation: a crop that nobody needs lowers the mean, none is left out.
    """

    name = "page_steps"
    needs = frozenset({"gold.doc_ids", "events.pages"})

    def complaint(self, gold: Gold) -> str:
        """Refuse regions without area, and a crop that is required nowhere."""
        if gold.crop_required and not gold.regions:
            return "it requires a crop and names no regions; add them"
        return _no_area(gold)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        parts = {name: component.score(view, None).raw or 0.0 for name, component in _RANKED}
        region, drawn = _regions(view)
        if view.gold.crop_required or drawn:
            parts["roi_f1"] = region if view.gold.crop_required else 0.0
        return Score("trajectory", sum(parts.values()) / len(parts), parts=parts)


def _picked(turns: Sequence[Turn]) -> tuple[str, list[str]]:
    """Return the page picked last, and the candidates that it was picked from."""
    picked: tuple[str, list[str]] = "", []
    candidates: list[str] = []
    for turn in turns:
        for result in turn.results:
            if not result.ok:
                continue
            candidates = words_of(result.events.get("candidates")) or candidates
            selected = result.events.get("selected")
            picked = (selected, candidates) if isinstance(selected, str) else picked
    return picked


def _no_area(gold: Gold) -> str:
    for page, boxes in gold.regions.items():
        if not boxes or any(iou(box, box) <= 0 for box in boxes):
            return f"the regions of page {page!r} have no area: {boxes!r}; write [x0, y0, x1, y1] with x0 < x1, y0 < y1"
    return ""


def _regions(view: EpisodeView) -> tuple[float, int]:
    """Return the F1 over all pages, and how many boxes were drawn."""
    drawn = _drawn(view.turns)
    n_drawn, n_gold = sum(map(len, drawn.values())), sum(map(len, view.gold.regions.values()))
    if not n_drawn or not n_gold:
        return 0.0, n_drawn
    hits = 0.0
    for page, gold in view.gold.regions.items():
        boxes = drawn.get(page, [])
        hits += boxes_f1(boxes, gold) * (len(boxes) + len(gold)) / 2
    return 2.0 * hits / (n_drawn + n_gold), n_drawn


def _drawn(turns: Sequence[Turn]) -> dict[str, list[Box]]:
    crops: dict[str, list[Box]] = {}
    for turn in turns:
        for result in turn.results:
            page, boxes = result.events.get("page"), result.events.get("boxes")
            if result.ok and isinstance(page, str) and isinstance(boxes, list):
                crops[page] = [box for given in boxes if (box := _box(given)) is not None]
    return crops


def _box(given: JSON) -> Box | None:
    if isinstance(given, list) and len(given) == 4 and all(map(is_number, given)):
        return float(given[0]), float(given[1]), float(given[2]), float(given[3])
    return None


_RANKED: tuple[tuple[str, Component], ...] = (("rerank_ndcg", RerankNdcg()), ("select_hit", SelectHit()))
rerank_ndcg = RerankNdcg()
select_hit = SelectHit()
roi_f1 = RoiF1()
page_steps = PageSteps()
