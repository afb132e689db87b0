"""Names and paths of resource types, keys of objects, and the order of their versions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource type. `group` is "" for the core group, `plural` the name in paths, `kind` the name in objects."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of an object, or of a subresource.

        The collection of a namespaced resource without a namespace contains all namespaces. A subresource may have
        several segments. Raises ValueError for an object of a namespaced resource without a namespace, for a
        cluster-scoped resource with one, and for text that is not a segment of a path.
        """
        self.check_names(namespace, name)
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace:
            parts += ["namespaces", self._segment("namespace", namespace)]
        parts.append(self.plural)
        if name:
            parts.append(self._segment("name", name))
            if subresource:
                parts += [self._segment("subresource", part) for part in subresource.split("/")]
        return "/".join(parts)

    def key(self, name: str, namespace: str | None = None) -> str:
        """The key of the object. Raises ValueError as check_names()."""
        self.check_names(namespace, name)
        return make_key(name, namespace)

    def check_names(self, namespace: str | None, name: str | None) -> None:
        """Raise ValueError for a namespaced object without a namespace, and for a cluster-scoped resource with one."""
        if namespace and not self.namespaced:
            raise ValueError(f"{self.kind} is cluster-scoped, but namespace {namespace!r} was given")
        if name is not None and not name:
            raise ValueError(f"the name of a {self.kind} is empty")
        if name and self.namespaced and not namespace:
            raise ValueError(f"{self.kind} {name!r} is namespaced, but no namespace was given")

    def _segment(self, what: str, text: str) -> str:
        """The text as one segment of a path. Raises ValueError (client-go rest.IsValidPathSegmentName).

        DELETE of the object "." would delete the collection, and of ".." the namespace: servers and HTTP libraries
        resolve both, encoded or not.
        """
        if text in ("", ".", "..") or "/" in text or "%" in text:
            raise ValueError(
                f"the {what} {text!r} of a {self.kind} cannot be in a URL: it must not be empty, '.' or '..', and must "
                "not contain '/' or '%'"
            )
        return quote(text, safe="")


def object_key(obj: Mapping[str, Any]) -> str:
    """ "namespace/name", or "name" for a cluster-scoped object (client-go: MetaNamespaceKeyFunc).

    Raises ValueError if the object has no metadata or no name, or if one of them has the wrong type.
    """
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        raise ValueError(f"a {obj.get('kind') or 'object'} without metadata.name has no key")
    namespace = metadata.get("namespace")
    if namespace is not None and not isinstance(namespace, str):
        raise ValueError(f"{obj.get('kind') or 'object'} {name}: metadata.namespace is no text")
    return f"{namespace}/{name}" if namespace else name


def make_key(name: str, namespace: str | None = None) -> str:
    """The key of the object with this name."""
    return f"{namespace}/{name}" if namespace else name


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name) of a key; the namespace of a cluster-scoped object is ""."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def is_older(version: str, than: str) -> bool:
    """Whether the first resourceVersion is known to be older. False also where the order is unknown.

    Since Kubernetes 1.35 the versions of one kind may be compared as integers (KEP-5504, apimachinery
    util/resourceversion). Servers whose versions are not decimal numbers promise equality only.
    """
    if not (_is_number(version) and _is_number(than)):
        return False
    return (len(version), version) < (len(than), than)


def _is_number(version: str) -> bool:
    """A positive decimal number without leading zeros, of any length."""
    return version.isascii() and version.isdecimal() and version[0] != "0"
