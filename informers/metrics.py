"""The metrics of this package. Exporters override the hooks; these do nothing.

All hooks are called often and must be quick and thread-safe.

The measurements are those of client-go (tools/metrics, tools/cache/reflector_metrics.go, informer_metrics.go); the
exporter defines names and buckets.
"""


class RequestMetrics:
    """Requests to the API server."""

    def request(self, *, verb: str, code: str, host: str, seconds: float) -> None:
        """A request ended after `seconds`. `code` is "<error>" without an answer. `verb` is the HTTP method."""

    def retry(self, *, verb: str, code: str, host: str) -> None:
        """A request is retried, as the answer with status `code` requests."""


class InformerMetrics:
    """Reflectors and informers; `name` is the informer's name."""

    def listed(self, name: str, *, seconds: float, items: int) -> None:
        """A LIST was read, with all its pages."""

    def watch_started(self, name: str) -> None:
        """A watch request is about to be sent."""

    def watch_ended(self, name: str, *, seconds: float, events: int, short: bool) -> None:
        """A watch ended. `short`: it took less than a second and had no event."""

    def resource_version(self, name: str, version: str) -> None:
        """The store has reached this resourceVersion, which is opaque to this package."""

    def processed(self, name: str, *, seconds: float, items: int) -> None:
        """A change, or a list of `items`, was written to the store and to the buffers of the handlers."""
