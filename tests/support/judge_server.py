"""A judge model on the loopback interface: reads the request as a model would, and answers well or badly on purpose."""

import json
import re
from collections.abc import Callable
from typing import Any

import chat_server as srv

Decide = Callable[[str, str], tuple[bool, str]]
"""(candidate text, statement) -> (pass, quote)"""


def statements(body: dict[str, Any]) -> list[tuple[str, str]]:
    """(id, statement) of every statement in a request."""
    found = re.findall(
        r"^Statement ([0-9a-f]{12})(?: \(ABSENT\))?: (.*)$", body["messages"][1]["content"], re.MULTILINE
    )
    return [(id_, text) for id_, text in found]


def candidate(body: dict[str, Any]) -> str:
    """The text that is judged, read from between its markers."""
    found = re.search(r"^BEGIN ([0-9a-f]{12})\n(.*)\nEND \1$", body["messages"][1]["content"], re.MULTILINE)
    assert found, "the candidate must stand on one line between two equal markers"
    return json.loads(found.group(2))


def contains(word: str) -> Decide:
    """Pass texts that hold a word, quoting it."""
    return lambda text, statement: (word in text, word if word in text else "")


def judging(decide: Decide, **usage: int) -> srv.Reply:
    """Answer as a judge should."""

    def reply(handler: srv.Handler) -> None:
        text = candidate(handler.body)
        rows = []
        for id_, statement in statements(handler.body):
            passed, quote = decide(text, statement)
            rows.append({"id": id_, "quote": quote, "reasons": "because", "pass": passed})
        answer = json.dumps(rows[0] if len(rows) == 1 else {"verdicts": rows})
        choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        handler.send(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    return reply


def obeying(order: str, decide: Decide) -> srv.Reply:
    """Answer as a judge that does what a text with `order` in it says: it echoes the text. Others it judges."""

    def reply(handler: srv.Handler) -> None:
        text = candidate(handler.body)
        (srv.say(text) if order in text else judging(decide))(handler)

    return reply
