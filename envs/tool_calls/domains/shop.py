"""shop: orders, refunds, addresses, and the rules of the house."""

from agentgym.envs.tool_calls.desk import Desk, DeskSchema
from agentgym.envs.tool_calls.operations import Operation, Rule
from agentgym.worlds.app_data import Field, Table

CUSTOMERS = Table("customers", "customer", "C", (
    Field("name", "person"), Field("email", "email"), Field("city", "city"), Field("phone", "phone"),
))  # fmt: skip
PRODUCTS = Table("products", "product", "P", (
    Field("title", "title"), Field("price", "money"), Field("stock", "count", high=60),
), share=0.6)  # fmt: skip
STATUSES = ("pending", "packed", "shipped", "delivered", "cancelled", "lost")
ORDERS = Table("orders", "order", "W", (
    Field("customer_id", "ref", table="customers"), Field("product_id", "ref", table="products"),
    Field("status", "choice", STATUSES), Field("ordered_on", "date", days=(-75, -1)), Field("total", "money"),
    Field("street", "street"), Field("speed", "choice", ("standard", "express", "pickup", "freight")),
    Field("refund", "choice", ("none",)), Field("parcel", "phone"),
), share=3.0)  # fmt: skip

SHOP = DeskSchema(
    name="shop",
    owner=CUSTOMERS,
    item=PRODUCTS,
    record=ORDERS,
    find=Operation("find_customer", "find", "customers", "Find customers by their full name.", by="name", shows=("name", "email", "city")),
    list=Operation("list_orders", "list", "orders", "List the orders of a customer.", "customer_id", "customer_id",
                   shows=("product_id.title", "total")),
    look=Operation("get_order", "get", "orders", "Read one order, with status, dates and address.", "order_id"),
    extras=(
        Operation("find_product", "find", "products", "Find products by their exact title.", by="title"),
        Operation("get_product", "get", "products", "Read one product.", "product_id"),
    ),
    actions=(
        Operation("cancel_order", "change", "orders", "Cancel an order.", "order_id", sets=(("status", "cancelled"),), wish="cancel {it}"),
        Operation("refund_order", "change", "orders", "Pay an order back to the card that paid it.", "order_id",
                  sets=(("refund", "paid"),), wish="refund {it}"),
        Operation("change_street", "change", "orders", "Change the street to which an order goes.", "order_id", takes=("street",),
                  wish="send {it} to {value}", open_wish="change the street of {it}"),
        Operation("change_speed", "change", "orders", "Change how an order is delivered.", "order_id", takes=("speed",),
                  wish="change the delivery speed of {it} to {value}", open_wish="change the delivery speed of {it}"),
    ),
    rules=(
        Rule("cancel", "cancel_order", "status", "in", ("pending", "packed"), "An order can be cancelled only while its status is pending or packed."),
        Rule("refund", "refund_order", "status", "in", ("delivered", "lost"), "An order can be refunded only if its status is delivered or lost."),
        Rule("late", "refund_order", "ordered_on", "within", 40, "Refunds end 40 days after the order was made, whatever the system lets you do.",
             enforced=False),
        Rule("much", "refund_order", "total", "at_most", 300, "You do not refund orders with a total above 300.", enforced=False),
        Rule("street", "change_street", "status", "in", ("pending", "packed"), "The street can be changed only while the status is pending or packed."),
        Rule("speed", "change_speed", "status", "in", ("pending",), "The delivery speed can be changed only while the status is pending."),
    ),
    reads=("status", "ordered_on", "total", "street", "parcel"),
    money="total",
)  # fmt: skip


def shop(size: int, seed: int) -> Desk:
    """Return the shop with so many customers."""
    return Desk(SHOP, size, seed)
