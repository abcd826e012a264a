"""shop:closed: a shop over a fixed vocabulary of some 260 words, redrawn for each seed, for policies of any size.

Each world draws 16 customers, who is whose friend, and all orders anew, so nothing can be memorised. A customer has one
order or two; who means one of two must be asked. The rules are the same everywhere: an order is cancelled only while
pending or packed, refunded only if delivered or lost.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from agentgym.envs.tool_calls.domain import TableDomain
from agentgym.envs.tool_calls.draft import Draft, Step, ask, told
from agentgym.envs.tool_calls.operations import tables
from agentgym.envs.tool_calls.talk import Wish
from agentgym.errors import ToolError
from agentgym.gold import Constraint
from agentgym.seeding import stream
from agentgym.task import Answer, Limits, Task
from agentgym.tools import Tool, ToolContext, tool
from agentgym.types import ToolCall, Turn
from agentgym.worlds.app_data import NOUNS
from agentgym.worlds.closed_words import PEOPLE
from agentgym.worlds.shop_words import CODES, STATUSES
from agentgym.worlds.tables import Row, Tables

LIMITS = Limits(max_turns=8, max_calls_per_turn=1, max_result_chars=1_000)
ALLOWED = {"cancel": ("pending", "packed"), "refund": ("delivered", "lost")}
DONE = {"cancel": "cancelled", "refund": "refunded"}
KINDS = ("status", "do", "refuse", "own_status", "own_do", "own_refuse", "which", "friend_status", "friend_do")
RULES = """You work at the desk of a shop. Orders are cancelled only while pending or packed, and refunded only if \
delivered or lost. Refuse what is not allowed, with the id and the status of the order. Your last words are the id of \
the order, and its status where that was asked for. Who has two orders must be asked which is meant."""


@tool
def orders(name: Annotated[str, "of a customer"], ctx: ToolContext) -> str:
    """List what a customer has ordered."""
    view = tables(ctx)
    return " | ".join(str(view.need("orders", id_)["item"]) for id_ in view.where("orders", "customer", name)) or "nothing"


@tool
def order(item: Annotated[str, "that was ordered"], ctx: ToolContext) -> str:
    """Give the id and the status of the order of an item."""
    view = tables(ctx)
    return " | ".join(f"{id_} {view.need('orders', id_)['status']}" for id_ in view.where("orders", "item", item)) or "nothing"


@tool
def friend(name: Annotated[str, "of a customer"], ctx: ToolContext) -> str:
    """Say who the friend of a customer is."""
    row = tables(ctx).row("customers", name)
    return str(row["friend"]) if row else "nobody"


def _act(ctx: ToolContext, action: str, id_: str) -> str:
    view = tables(ctx)
    row = view.need("orders", id_, "order")
    if row["status"] not in ALLOWED[action]:
        raise ToolError(f"only {' '.join(ALLOWED[action])}")
    view.change("orders", id_, {"status": DONE[action]})
    return f"{id_} {DONE[action]}"


@tool(mutates=True)
def cancel(id: Annotated[str, "of an order"], ctx: ToolContext) -> str:
    """Cancel an order."""
    return _act(ctx, "cancel", id)


@tool(mutates=True)
def refund(id: Annotated[str, "of an order"], ctx: ToolContext) -> str:
    """Pay an order back."""
    return _act(ctx, "refund", id)


TOOLS: tuple[Tool, ...] = (orders, order, friend, cancel, refund)


class ClosedShop(TableDomain):
    """One closed shop."""

    name = "shop:closed"
    terse = True
    kinds = KINDS
    talk = ("ask_user", "finish", "refuse")

    def __init__(self, size: int, seed: int) -> None:
        """Draw customers and orders; `size` is the number of customers, every second one with two orders."""
        rng = stream("closed-shop", seed)
        names = [PEOPLE[int(i)] for i in rng.permutation(len(PEOPLE))[:size]]
        owners = [*names, *names[: size // 2]]
        items, codes = rng.permutation(len(NOUNS))[: len(owners)], rng.permutation(len(CODES))[: len(owners)]
        friends = rng.permutation(size)
        rows: dict[str, Row] = {
            CODES[int(code)]: {"customer": name, "item": NOUNS[int(item)], "status": _one(STATUSES, rng)}
            for name, item, code in zip(owners, items, codes, strict=True)
        }
        people: dict[str, Row] = {names[int(a)]: {"friend": names[int(b)]} for a, b in zip(friends, np.roll(friends, 1), strict=True)}
        self.rows = Tables({"customers": people, "orders": rows})

    @property
    def starts(self) -> Sequence[str]:
        """The customers."""
        return list(self.rows["customers"])

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the five tools."""
        return TOOLS

    def rules(self, task: Task) -> str:
        """Return the rules of all closed shops."""
        return RULES

    def draft(self, kind: str, start: str, rng: np.random.Generator) -> Draft | None:
        """Return a task about an order of a customer, or of the customer's friend."""
        far, kind = kind.startswith("friend_"), kind.removeprefix("friend_")
        owner = str(self.rows["customers"][start]["friend"]) if far else start
        own = [(id_, self.rows["orders"][id_]) for id_ in self.rows.index("orders", "customer")[owner]]
        by_item = kind in ("status", "do", "refuse") and not far
        what = kind.removeprefix("own_")
        if not by_item and (len(own) == 2) != (what == "which"):
            return None
        action = ("cancel", "refund")[int(rng.integers(2))]
        fits = [(id_, row) for id_, row in own if what == "status" or (row["status"] in ALLOWED[action]) == (what != "refuse")]
        if not fits:
            return None
        id_, row = fits[int(rng.integers(len(fits)))]
        meant = str(row["item"]) if by_item else f"order of friend of {start}" if far else f"order of {start}"
        question = f"status of {meant} ?" if what == "status" else f"{action} {meant} ."
        way = [Step("friend", {"name": start})] if far else []
        way += [] if by_item else [Step("orders", {"name": owner})]
        way += [ask("which order ?")] if what == "which" else []
        way.append(Step("order", {"item": row["item"]}))
        if what == "status":
            return Draft(question, (*way, _close("finish", id_, row)))
        if what == "refuse":
            mine = ("m0", (Constraint(call=action, arguments={"id": id_}),))
            return Draft(question, (*way, _close("refuse", id_, row)), forbidden=(mine,))
        mines = tuple((f"m{n}", (Constraint(call=action, arguments={"id": other}),)) for n, (other, _) in enumerate(own) if other != id_)
        plan = (*way, Step(action, {"id": id_}, after_all=True), told("finish", id_, Answer(id_)))
        wishes = (Wish("which", f"the {row['item']} .", ("which", "order", "item")),) if what == "which" else ()
        return Draft(question, plan, wishes=wishes, forbidden=mines)

    def slip(self, task: Task, turns: Sequence[Turn], rng: np.random.Generator) -> ToolCall:
        """Close with a guess, look at somebody else, act on what comes to hand."""
        seen = " ".join([task.question, *(str(r.data) for t in turns for r in t.results if r.ok)]).split()
        ids, names = [w for w in seen if w in self.rows["orders"]], [w for w in seen if w in PEOPLE]
        items, roll = [w for w in seen if w in NOUNS], rng.random()
        if ids and roll < 0.5:
            id_ = _one(ids, rng)
            status = str(self.rows["orders"][id_]["status"])
            if roll < 0.2:
                return ToolCall("finish", {"message": _one((id_, f"{id_} {status}"), rng)})
            if roll < 0.3:
                return ToolCall("refuse", {"reason": f"{id_} {status}"})
            return ToolCall(_one(("cancel", "refund"), rng), {"id": id_})
        if items and (roll < 0.75 or not names):
            return ToolCall("order", {"item": _one(items, rng)})
        return ToolCall(_one(("orders", "friend"), rng), {"name": _one(names or PEOPLE, rng)})


def _close(name: str, id_: str, row: Row) -> Step:
    return told(name, f"{id_} {row['status']}", Answer(id_), Answer(str(row["status"])))


def _one(values: Sequence[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]


def closed_shop(size: int, seed: int) -> ClosedShop:
    """Return the closed shop of a seed."""
    return ClosedShop(size, seed)
