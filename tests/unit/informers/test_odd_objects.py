"""One object that makes no sense is skipped and logged. It never stops the others of its kind."""

import json
import logging
from typing import Any

import pytest

from informers import ApiError
from informers.lister_watcher import read_page
from tests.fake_api_server.objects import WIDGETS, widget, widget_list
from tests.fake_api_server.server import FakeAPIServer, Raw
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
def test_in_a_list(odd: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The others are listed."""
    others = [widget("a", 1), widget("b", 1)]
    page = read_page(widget_list([others[0], odd, others[1]], 7, "next"), WIDGETS)
    assert page == (others, "7", "next")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_items_without_a_type_get_that_of_the_resource() -> None:
    """Lists of built-in kinds omit it."""
    obj = widget("a", 1)
    bare = {"metadata": obj["metadata"], "spec": {}}
    assert read_page(widget_list([bare], 1), WIDGETS).items == [obj]


def test_an_empty_list_may_be_null_and_without_a_version() -> None:
    """Go sends null for an empty slice."""
    assert read_page({"kind": "WidgetList", "metadata": {}, "items": None}, WIDGETS) == ([], "", "")


@pytest.mark.parametrize(
    "answer",
    [
        {"a": 1},
        {"kind": "WidgetList", "metadata": {}},
        {"kind": "WidgetList", "metadata": {}, "items": {}},
        {"kind": "WidgetList", "items": []},
        {"kind": "Table", "metadata": {}, "items": []},
    ],
    ids=str,
)
def test_an_answer_that_is_no_list(answer: Object) -> None:
    """It must not look like a list without objects."""
    with pytest.raises(ApiError, match="the answer to a list of widgets is no list") as caught:
        read_page(answer, WIDGETS)
    assert caught.value.reason == "UnexpectedServerResponse"


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
