"""Tools over the retail database of tau2-bench: orders, users, products.

Facts about the tools (names, parameters, when they refuse, which fields they set) are those of tau2-bench's retail
domain; the code is our own. Two deviations: when several items of a pending order are modified, each gets the price and
options of its own new item (released: all get those of the last), and amounts are rounded to cents.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from agentgym.envs.tool_calls.operations import tables
from agentgym.envs.tool_calls.published.arithmetic import calculated
from agentgym.errors import ToolError
from agentgym.tools import Tool, ToolContext, tool
from agentgym.types import JSON
from agentgym.worlds.tables import Row

OrderId = Annotated[str, "order id, with its #, e.g. #W0000000"]
UserId = Annotated[str, "user id, e.g. sara_doe_496"]
PaymentId = Annotated[str, "id of one of the user's payment methods, e.g. gift_card_0000000"]
ItemIds = Annotated[list[str], "item ids; one that is meant twice stands twice"]
Street = Annotated[str, "street and number"]
Unit = Annotated[str, "suite or apartment; empty where there is none"]
City = Annotated[str, "city"]
State = Annotated[str, "state, in two letters, e.g. DC"]
Country = Annotated[str, "country, e.g. USA"]
Zip = Annotated[str, "zip code"]
NewItemIds = Annotated[list[str], "new item ids, each in the place of the item that it replaces, of the same product"]


@tool
def calculate(expression: Annotated[str, "numbers, + - * / and brackets, e.g. 2 + 2"]) -> str:
    """Calculate an expression."""
    return str(round(calculated(expression), 2))


@tool
def find_user_id_by_email(email: Annotated[str, "e.g. someone@example.com"], ctx: ToolContext) -> str:
    """Find a user by e-mail address."""
    for id_, user in _all(ctx, "users"):
        if user["email"].lower() == email.lower():
            return id_
    raise ToolError("user not found")


@tool
def find_user_id_by_name_zip(
    first_name: Annotated[str, "e.g. Sara"], last_name: Annotated[str, "e.g. Doe"], zip: Zip, ctx: ToolContext
) -> str:
    """Find a user by name and zip code, where the e-mail address is not known."""
    for id_, user in _all(ctx, "users"):
        name = user["name"]
        if (name["first_name"].lower(), name["last_name"].lower()) == (first_name.lower(), last_name.lower()) and (
            user["address"]["zip"] == zip
        ):
            return id_
    raise ToolError("user not found")


@tool(name="get_order_details")
def order_details(order_id: OrderId, ctx: ToolContext) -> dict:
    """Return status and details of an order."""
    return _need(ctx, "orders", order_id)


@tool(name="get_product_details")
def product_details(product_id: Annotated[str, "product id, not an item id"], ctx: ToolContext) -> dict:
    """Return the items of a product: options, price, whether they can be had."""
    return _need(ctx, "products", product_id)


@tool(name="get_user_details")
def user_details(user_id: UserId, ctx: ToolContext) -> dict:
    """Return address, payment methods and orders of a user."""
    return _need(ctx, "users", user_id)


@tool
def list_all_product_types(ctx: ToolContext) -> dict:
    """Return the names of all products with their ids."""
    return {row["name"]: id_ for id_, row in sorted(_all(ctx, "products"), key=lambda pair: pair[1]["name"])}


@tool(mutates=True)
def cancel_pending_order(
    order_id: OrderId, reason: Annotated[str, "no longer needed, or ordered by mistake"], ctx: ToolContext
) -> dict:
    """Cancel a pending order and refund it, once the user has confirmed."""
    order = _need(ctx, "orders", order_id)
    if order["status"] != "pending":
        raise ToolError("a non-pending order cannot be cancelled")
    if reason not in ("no longer needed", "ordered by mistake"):
        raise ToolError("invalid reason: use 'no longer needed' or 'ordered by mistake'")
    refunds = [_transaction("refund", p["amount"], p["payment_method_id"]) for p in order["payment_history"]]
    for refund in refunds:
        _pay(ctx, order["user_id"], refund["payment_method_id"], -refund["amount"])
    history = [*order["payment_history"], *refunds]
    return _set(ctx, "orders", order_id, {"status": "cancelled", "cancel_reason": reason, "payment_history": history})


@tool(mutates=True)
def exchange_delivered_order_items(
    order_id: OrderId, item_ids: ItemIds, new_item_ids: NewItemIds, payment_method_id: PaymentId, ctx: ToolContext
) -> dict:
    """Exchange items of a delivered order, once the user has confirmed; only once an order."""
    order = _need(ctx, "orders", order_id)
    if order["status"] != "delivered":
        raise ToolError("a non-delivered order cannot be exchanged")
    difference, _ = _exchange(ctx, order, item_ids, new_item_ids)
    _can_pay(ctx, order["user_id"], payment_method_id, difference)
    return _set(ctx, "orders", order_id, {
        "status": "exchange requested",
        "exchange_items": sorted(item_ids),
        "exchange_new_items": sorted(new_item_ids),
        "exchange_payment_method_id": payment_method_id,
        "exchange_price_difference": difference,
    })  # fmt: skip


@tool(mutates=True)
def modify_pending_order_address(
    order_id: OrderId, address1: Street, address2: Unit, city: City, state: State, country: Country, zip: Zip, ctx: ToolContext
) -> dict:
    """Change where a pending order goes, once the user has confirmed."""
    order = _need(ctx, "orders", order_id)
    if "pending" not in order["status"]:
        raise ToolError("a non-pending order cannot be modified")
    return _set(ctx, "orders", order_id, {"address": _address(address1, address2, city, state, country, zip)})


@tool(mutates=True)
def modify_pending_order_items(
    order_id: OrderId, item_ids: ItemIds, new_item_ids: NewItemIds, payment_method_id: PaymentId, ctx: ToolContext
) -> dict:
    """Replace items of a pending order, once the user has confirmed; only once an order."""
    order = _need(ctx, "orders", order_id)
    if order["status"] != "pending":
        raise ToolError("a non-pending order cannot be modified")
    if any(old == new for old, new in zip(item_ids, new_item_ids, strict=False)):
        raise ToolError("a new item must differ from the old one")
    difference, variants = _exchange(ctx, order, item_ids, new_item_ids)
    _can_pay(ctx, order["user_id"], payment_method_id, difference)
    _pay(ctx, order["user_id"], payment_method_id, difference)
    kind = "payment" if difference > 0 else "refund"
    items, left = [dict(item) for item in order["items"]], list(range(len(order["items"])))
    for old, variant in zip(item_ids, variants, strict=True):
        place = next(n for n in left if items[n]["item_id"] == old)
        left.remove(place)  # what has come in is not replaced again
        items[place].update(item_id=variant["item_id"], price=variant["price"], options=variant["options"])
    history = [*order["payment_history"], _transaction(kind, abs(difference), payment_method_id)]
    changes = {"items": items, "payment_history": history, "status": "pending (item modified)"}
    return _set(ctx, "orders", order_id, changes)


@tool(mutates=True)
def modify_pending_order_payment(order_id: OrderId, payment_method_id: PaymentId, ctx: ToolContext) -> dict:
    """Have a pending order paid in another way, once the user has confirmed."""
    order = _need(ctx, "orders", order_id)
    if "pending" not in order["status"]:
        raise ToolError("a non-pending order cannot be modified")
    _method(ctx, order["user_id"], payment_method_id)
    history = order["payment_history"]
    if len(history) != 1 or history[0]["transaction_type"] != "payment":
        raise ToolError("a pending order with one payment is needed")
    before, amount = history[0]["payment_method_id"], history[0]["amount"]
    if before == payment_method_id:
        raise ToolError("the new payment method must differ from the present one")
    _can_pay(ctx, order["user_id"], payment_method_id, amount)
    _pay(ctx, order["user_id"], payment_method_id, amount)
    _pay(ctx, order["user_id"], before, -amount)
    new = [_transaction("payment", amount, payment_method_id), _transaction("refund", amount, before)]
    return _set(ctx, "orders", order_id, {"payment_history": [*history, *new]})


@tool(mutates=True)
def modify_user_address(
    user_id: UserId, address1: Street, address2: Unit, city: City, state: State, country: Country, zip: Zip, ctx: ToolContext
) -> dict:
    """Change the default address of a user, once the user has confirmed."""
    _need(ctx, "users", user_id)
    return _set(ctx, "users", user_id, {"address": _address(address1, address2, city, state, country, zip)})


@tool(mutates=True)
def return_delivered_order_items(
    order_id: OrderId, item_ids: ItemIds, payment_method_id: PaymentId, ctx: ToolContext
) -> dict:
    """Take items of a delivered order back, once the user has confirmed; only once an order."""
    order = _need(ctx, "orders", order_id)
    if order["status"] != "delivered":
        raise ToolError("a non-delivered order cannot be returned")
    method = _method(ctx, order["user_id"], payment_method_id)
    if method["source"] != "gift_card" and payment_method_id != order["payment_history"][0]["payment_method_id"]:
        raise ToolError("the refund goes to the original payment method or to a gift card")
    _held(order, item_ids)
    return _set(ctx, "orders", order_id, {
        "status": "return requested", "return_items": sorted(item_ids), "return_payment_method_id": payment_method_id,
    })  # fmt: skip


@tool
def transfer_to_human_agents(summary: Annotated[str, "what the user wants, and why it cannot be done here"]) -> str:
    """Hand the user over to a human agent, where the request is beyond these tools."""
    return "transferred"


TOOLS: tuple[Tool, ...] = (
    calculate, cancel_pending_order, exchange_delivered_order_items, find_user_id_by_name_zip, find_user_id_by_email,
    order_details, product_details, user_details, list_all_product_types, modify_pending_order_address,
    modify_pending_order_items, modify_pending_order_payment, modify_user_address, return_delivered_order_items,
    transfer_to_human_agents,
)  # fmt: skip


# ---- rows


def _all(ctx: ToolContext, table: str) -> list[tuple[str, Any]]:
    view = tables(ctx)
    return [(id_, view.row(table, id_)) for id_ in view.ids(table)]


def _need(ctx: ToolContext, table: str, id_: str) -> Any:
    return tables(ctx).need(table, id_, table.removesuffix("s"))


def _set(ctx: ToolContext, table: str, id_: str, fields: Row) -> Row:
    view = tables(ctx)
    view.change(table, id_, fields)
    return view.need(table, id_)


def _address(address1: str, address2: str, city: str, state: str, country: str, zip: str) -> JSON:
    return {"address1": address1, "address2": address2, "city": city, "country": country, "state": state, "zip": zip}


# ---- items and money


def _held(order: Any, item_ids: Sequence[str]) -> None:
    """Raise ToolError unless an order has each item as often as it is named."""
    have = [item["item_id"] for item in order["items"]]
    for id_ in item_ids:
        if item_ids.count(id_) > have.count(id_):
            raise ToolError(f"the order does not have item {id_[:40]!r}{' so often' if id_ in have else ''}")


def _exchange(ctx: ToolContext, order: Any, old: Sequence[str], new: Sequence[str]) -> tuple[float, list[Any]]:
    """Return what the new items cost more than the old ones, and their variants. Raises ToolError."""
    _held(order, old)
    if len(old) != len(new):
        raise ToolError(f"{len(old)} items and {len(new)} new items: as many are needed")
    items = {item["item_id"]: item for item in order["items"]}
    variants = []
    for before, after in zip(old, new, strict=True):
        variant = _need(ctx, "products", items[before]["product_id"])["variants"].get(after)
        if variant is None or not variant["available"]:
            raise ToolError(f"item {after[:40]!r} is not of the same product, or cannot be had now")
        variants.append(variant)
    return round(sum(v["price"] - items[b]["price"] for b, v in zip(old, variants, strict=True)), 2), variants


def _method(ctx: ToolContext, user_id: str, payment_method_id: str) -> Any:
    found = _need(ctx, "users", user_id)["payment_methods"].get(payment_method_id)
    if found is None:
        raise ToolError(f"the user has no payment method {payment_method_id[:40]!r}")
    return found


def _can_pay(ctx: ToolContext, user_id: str, payment_method_id: str, amount: float) -> None:
    method = _method(ctx, user_id, payment_method_id)
    if method["source"] == "gift_card" and method["balance"] < amount:
        raise ToolError("the balance of the gift card does not cover it")


def _pay(ctx: ToolContext, user_id: str, payment_method_id: str, amount: float) -> None:
    """Take an amount from a gift card (a negative one: add it); other methods keep no balance."""
    method = _method(ctx, user_id, payment_method_id)
    if method["source"] == "gift_card":
        methods = _need(ctx, "users", user_id)["payment_methods"]
        card = {**method, "balance": round(method["balance"] - amount, 2)}
        _set(ctx, "users", user_id, {"payment_methods": {**methods, payment_method_id: card}})


def _transaction(kind: Literal["payment", "refund"], amount: float, payment_method_id: str) -> Any:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": payment_method_id}
