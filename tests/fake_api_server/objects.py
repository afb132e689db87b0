"""Objects and answers in the shapes of the API."""

from typing import Any

from informers import Resource

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")

Object = dict[str, Any]


def widget(name: str, version: str | int, *, namespace: str = "default", uid: str = "", **spec: Any) -> Object:
    """A Widget; its uid is derived from the name unless given."""
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": spec}


def widget_list(items: list[Object], version: str | int, continue_: str = "") -> Object:
    """A page of a list."""
    metadata = {"resourceVersion": str(version)}
    if continue_:
        metadata["continue"] = continue_
    return {"apiVersion": "example.com/v1", "kind": "WidgetList", "metadata": metadata, "items": items}


def bookmark(version: str | int, *, ends_initial_events: bool = False) -> Object:
    """The object of a BOOKMARK event."""
    metadata: Object = {"resourceVersion": str(version)}
    if ends_initial_events:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata}


def status(code: int, reason: str, message: str = "", **details: Any) -> Object:
    """A Status of a failure."""
    body: Object = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return body | {"message": message or f"{reason} it is"} | ({"details": details} if details else {})
