"""One object that makes no sense is skipped and logged. It never stops the others of its kind."""

import json
import logging
from typing import Any

import pytest

from tests.fake_api_server.objects import widget, widget_list
from tests.fake_api_server.server import Answer, FakeAPIServer, Raw
from tests.fake_api_server.waiting import eventually
from tests.unit.informers.conftest import Start, informer_of

Object = dict[str, Any]


def with_metadata(**metadata: Any) -> Object:
    obj = widget("odd", 5)
    obj["metadata"] |= metadata
    return obj


ODD: dict[str, Any] = {
    "no object": 7,
    "nothing": None,
    "of another kind": widget("odd", 5) | {"kind": "Gadget"},
    "without metadata": {"apiVersion": "example.com/v1", "kind": "Widget"},
    "metadata of another shape": widget("odd", 5) | {"metadata": ["name"]},
    "without a name": with_metadata(name=""),
    "a name that is no text": with_metadata(name={"a": 1}),
    "a namespace that is no text": with_metadata(namespace=7),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_in_a_list(server: FakeAPIServer, start: Start, odd: object, caplog: pytest.LogCaptureFixture) -> None:
    """The others are listed, and the watch goes on from there."""
    page = widget_list([widget("a", 1), odd, widget("b", 1)], 1)  # type: ignore[list-item]
    server.inject("list", Answer(200, body=json.dumps(page).encode()))
    informer = informer_of(server, watch_list=False)
    start(informer)
    eventually(lambda: informer.indexer.keys() == ["default/a", "default/b"])
    server.cluster.put("c")
    eventually(lambda: len(informer.indexer) == 3)
    assert server.verbs() == ["list", "watch"]
    levels = [record.levelno for record in caplog.records if record.message == "Skipped an object in a list"]
    assert levels == [logging.ERROR]


ODD_EVENTS = ODD | {"a version that is no text": with_metadata(resourceVersion=5)}


@pytest.mark.parametrize("watch_list", [False, True], ids=["watch", "streamed list"])
@pytest.mark.parametrize("odd", ODD_EVENTS.values(), ids=ODD_EVENTS.keys())
def test_in_a_watch(server: FakeAPIServer, start: Start, odd: object, watch_list: bool) -> None:
    """It ends with its kind's cache right, whatever that took."""
    server.cluster.put("a")
    server.inject("watch", Raw(json.dumps({"type": "ADDED", "object": odd}).encode() + b"\n"))
    informer = informer_of(server, watch_list=watch_list)
    start(informer)
    server.cluster.put("b")
    eventually(lambda: informer.indexer.keys() == ["default/a", "default/b"])
