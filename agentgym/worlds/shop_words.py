"""Every word that a shop of the closed setting may hold."""

from agentgym.worlds.app_data import NOUNS
from agentgym.worlds.closed_words import PEOPLE

STATUSES = ("pending", "packed", "shipped", "delivered", "lost", "returned")
CODES = tuple(f"w{n}" for n in range(10, 100))
"""Ids of orders."""
REQUEST_WORDS = ("status", "cancel", "refund", "order", "friend", "of", "the", "which", "?", ".")
RESULT_WORDS = ("cancelled", "refunded", "nobody", "only", "no", "nothing", "waiting")


def shop_vocabulary() -> tuple[str, ...]:
    """Return every token that requests, results and rules of closed shops may hold, in a fixed order."""
    return REQUEST_WORDS + RESULT_WORDS + STATUSES + PEOPLE + tuple(NOUNS) + CODES
