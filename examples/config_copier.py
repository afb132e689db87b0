"""A controller for objects of others: copies ConfigMaps into the namespaces that an annotation names.

    python -m examples.config_copier --kubeconfig ~/.kube/config
    kubectl annotate configmap settings example.com/copy-to=team-a,team-b
    kubectl get configmaps --all-namespaces --selector example.com/copied-from

What it shows:

- Copies are in other namespaces, so owner references cannot clean them up. A finalizer keeps a ConfigMap from going
  away until its copies are deleted.
- Copies lead back to their source by their annotations: one that somebody changes or deletes comes back.
- An index finds the copies of a source without looking at all of them.
"""

import argparse
import logging
from collections.abc import Iterable
from typing import Any

from controller.runtime import (
    Controller,
    Manager,
    Metrics,
    ReconcileFailed,
    Result,
    add_finalizer,
    all_of,
    annotations_changed,
    any_of,
    create_or_update,
    is_being_deleted,
    logs,
    negate,
    remove_finalizer,
    stop_on_signals,
)
from informers import Client, NotFound, Resource, ResourceListerWatcher, SharedInformer, object_key, split_key

CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
COPY_TO = "example.com/copy-to"
COPIED_FROM = "example.com/copied-from"
FINALIZER = "example.com/config-copier"
BY_SOURCE = "source"

log = logging.getLogger(__name__)

Object = dict[str, Any]


def source_of(copy: Object) -> list[str]:
    """Key of the ConfigMap that this one is a copy of; the index function of BY_SOURCE."""
    source = (copy["metadata"].get("annotations") or {}).get(COPIED_FROM)
    return [source] if source else []


class Reconciler:
    """Keyed by namespace/name of a ConfigMap that is, or was, copied."""

    def __init__(self, client: Client, config_maps: SharedInformer) -> None:
        self._client = client
        self._config_maps = config_maps.lister()

    def __call__(self, key: str) -> Result:
        namespace, name = split_key(key)
        source = self._config_maps.get(name, namespace)
        wanted = set() if source is None or is_being_deleted(source) else _targets(source)
        if source is not None and wanted:
            # Before the first copy: nothing is left behind, whenever this process ends.
            source = add_finalizer(self._client, CONFIG_MAP, source, FINALIZER)
        for copy in self._config_maps.by_index(BY_SOURCE, key):
            if copy["metadata"]["namespace"] not in wanted:
                self._delete(copy)
        problems = [self._copy(source, target) for target in sorted(wanted)] if source is not None else []
        if source is not None and not wanted:
            remove_finalizer(self._client, CONFIG_MAP, source, FINALIZER)
        if any(problems):
            raise ReconcileFailed("; ".join(filter(None, problems)))
        return Result()

    def _copy(self, source: Object, namespace: str) -> str:
        """Gives what is wrong: one namespace that is missing must not hold up the others."""
        name = source["metadata"]["name"]
        present = self._config_maps.get(name, namespace)
        if present is not None and source_of(present) != [object_key(source)]:
            return f"{namespace}/{name} exists and is no copy of {object_key(source)}"

        def change(copy: Object) -> None:
            copy["metadata"]["annotations"] = {COPIED_FROM: object_key(source)}
            copy["metadata"]["labels"] = {COPIED_FROM: "true"}
            copy["data"] = source.get("data") or {}

        wanted: Object = {"metadata": {"name": name, "namespace": namespace}}
        try:
            create_or_update(self._client, CONFIG_MAP, wanted, present, change)
        except NotFound as error:
            return f"{namespace}/{name}: {error}"
        return ""

    def _delete(self, copy: Object) -> None:
        metadata = copy["metadata"]
        try:
            self._client.delete(CONFIG_MAP, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
        except NotFound:
            return
        log.info("Copy deleted", extra={"copy": object_key(copy)})


def _targets(source: Object) -> set[str]:
    metadata = source["metadata"]
    text = (metadata.get("annotations") or {}).get(COPY_TO, "")
    return {namespace.strip() for namespace in text.split(",")} - {"", metadata["namespace"]}


def data_changed(old: Object | None, new: Object | None, /) -> bool:
    """A predicate of this controller's own: ConfigMaps have no generation."""
    return old is None or new is None or old.get("data") != new.get("data")


def deletion_began(old: Object | None, new: Object | None, /) -> bool:
    """Another one: the object is there until its finalizers are gone, so this comes as a change."""
    return old is None or new is None or is_being_deleted(old) != is_being_deleted(new)


def is_copy(old: Object | None, new: Object | None, /) -> bool:
    """Copies are no sources, whatever else is written on them."""
    obj = new or old
    return obj is not None and bool(source_of(obj))


CHANGED = all_of(negate(is_copy), any_of(annotations_changed, data_changed, deletion_began))


def build(client: Client, metrics: Metrics, *, health_address: str = "") -> Manager:
    """A manager that runs the controller, without leader election: for a single replica."""
    manager = Manager(client, metrics=metrics, health_address=health_address)
    config_maps = SharedInformer(
        ResourceListerWatcher(client, CONFIG_MAP),
        name="config-maps",
        indexers={BY_SOURCE: source_of},
        metrics=metrics,
    )
    manager.add_informer(config_maps)

    def controllers(client: Client) -> Iterable[Controller[str]]:
        reconciler = Reconciler(client, config_maps)
        controller: Controller[str] = Controller("config-copier", reconciler, metrics=metrics, kind=CONFIG_MAP.kind)
        controller.watches(config_maps, lambda obj: [object_key(obj)], predicate=CHANGED)
        controller.watches(config_maps, source_of)
        return [controller]

    manager.add_controllers(controllers)
    return manager


def main() -> None:
    parser = argparse.ArgumentParser(description="Copies ConfigMaps into other namespaces.")
    parser.add_argument("--kubeconfig", help="default: $KUBECONFIG, in-cluster, ~/.kube/config")
    options = parser.parse_args()
    logs.setup()
    stop = stop_on_signals()
    metrics = Metrics()
    client = Client.load(options.kubeconfig, user_agent="config-copier-example", metrics=metrics)
    build(client, metrics, health_address=":8090").run(stop)


if __name__ == "__main__":
    main()
