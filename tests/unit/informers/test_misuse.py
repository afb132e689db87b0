"""A wrong program is an error that names both sides. It must not look like an empty cluster."""

from collections.abc import Iterable
from typing import Any

import pytest

from informers import (
    Indexer,
    Resource,
    WrongKind,
)
from informers.lister_watcher import read_page
from tests.fake_api_server.objects import WIDGETS, widget, widget_list
from tests.fake_api_server.server import FakeAPIServer
from tests.fake_api_server.waiting import eventually
from tests.unit.informers.conftest import Start, informer_of

NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
GADGETS = Resource(WIDGETS.group, WIDGETS.version, WIDGETS.plural, "Gadget")


class TestKind:
    """The kind of the Resource is not that of the server's objects."""

    @pytest.mark.parametrize("watch_list", [False, True])
    @pytest.mark.parametrize("names", ["a", "a b"])
    def test_an_informer_never_syncs(self, server: FakeAPIServer, start: Start, watch_list: bool, names: str) -> None:
        for name in names.split():
            server.cluster.put(name)
        informer = informer_of(server, GADGETS, watch_list=watch_list)
        start(informer)
        eventually(lambda: isinstance(informer.last_error, WrongKind))
        assert "'Gadget'" in str(informer.last_error)
        assert "'Widget'" in str(informer.last_error)
        assert not informer.has_synced

    def test_a_streamed_list_without_objects_is_an_error_too(self, server: FakeAPIServer, start: Start) -> None:
        """The bookmark at its end has the kind."""
        informer = informer_of(server, GADGETS, watch_list=True)
        start(informer)
        eventually(lambda: isinstance(informer.last_error, WrongKind))
        assert "'Widget'" in str(informer.last_error)
        assert not informer.has_synced

    @pytest.mark.parametrize(
        ("list_kind", "kind"), [("WidgetList", "Widget"), (None, "Widget"), (7, "Widget"), ("WidgetList", None)]
    )
    def test_a_page_is_an_error(self, list_kind: object, kind: object) -> None:
        """Built-in objects have no kind in lists. Then the kind of the list counts: Widgets must not become Gadgets."""
        page = widget_list([widget("a", 1) | {"kind": kind}], 1) | {"kind": list_kind}
        with pytest.raises(WrongKind, match="have the kind 'Widget' on the server"):
            read_page(page, GADGETS)


def test_an_index_function_that_returns_a_text() -> None:
    """Each of its characters would be a value of the index."""

    def by_name(obj: dict[str, Any]) -> Iterable[str]:
        name: str = obj["metadata"]["name"]
        return name

    indexer = Indexer(WIDGETS, {"by-name": by_name})
    with pytest.raises(TypeError, match="index function returned the text 'abc', not a collection"):
        indexer.put("default/abc", widget("abc", 1), "1")


def test_a_read_needs_a_namespace_where_the_kind_has_one() -> None:
    """None would say that the object does not exist."""
    indexer = Indexer(WIDGETS)
    indexer.put("default/a", widget("a", 1), "1")
    assert indexer.get("a", "default")
    for namespace in (None, ""):
        with pytest.raises(ValueError, match="Widget 'a' is namespaced, but no namespace was given"):
            indexer.get("a", namespace)
    with pytest.raises(ValueError, match="the name of a Widget is empty"):
        indexer.get("", "default")
    with pytest.raises(ValueError, match="Node is cluster-scoped, but namespace 'default' was given"):
        Indexer(NODES).get("a", "default")
    with pytest.raises(ValueError, match="Node is cluster-scoped"):
        Indexer(NODES).list("default")
