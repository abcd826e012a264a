from collections.abc import Iterator

import chat_server as srv
import pytest


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[srv.ChatServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with srv.serving() as running:
        yield running
