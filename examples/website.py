"""A controller for a kind of its own: each Website gets a ConfigMap with its page, and a status that says so.

    kubectl apply -f examples/website.yaml
    python -m examples.website --kubeconfig ~/.kube/config
    kubectl create -f - <<< '{"apiVersion": "example.com/v1", "kind": "Website",
                              "metadata": {"name": "hello", "namespace": "default"}, "spec": {"title": "Hello"}}'
    kubectl get websites,configmaps

What it shows:

- The ConfigMap belongs to its Website by an owner reference. Kubernetes deletes it together with the Website, and a
  change of the ConfigMap by somebody else leads back to the Website, so it is undone.
- Only changes of spec and labels are reconciled: writing the status is no reason to reconcile again.
- Two replicas can run; one of them works, and the other follows within seconds when it is gone.
"""

import argparse
import html
import logging
from collections.abc import Iterable
from typing import Any

from controller.runtime import (
    Controller,
    LeaderElectionConfig,
    Manager,
    Metrics,
    Result,
    any_of,
    create_or_update,
    generation_changed,
    keys_of_owners,
    labels_changed,
    logs,
    set_controller,
    stop_on_signals,
)
from informers import Client, Resource, ResourceListerWatcher, SharedInformer, object_key, split_key

WEBSITE = Resource("example.com", "v1", "websites", "Website")
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
# The cache holds the ConfigMaps of this controller, not those of the whole cluster.
LABEL = "example.com/website"
CHANGED = any_of(generation_changed, labels_changed)

log = logging.getLogger(__name__)

Object = dict[str, Any]


class Reconciler:
    """Keyed by namespace/name of a Website."""

    def __init__(self, client: Client, websites: SharedInformer, config_maps: SharedInformer) -> None:
        self._client = client
        self._websites = websites.lister()
        self._config_maps = config_maps.lister()

    def __call__(self, key: str) -> Result:
        namespace, name = split_key(key)
        website = self._websites.get(name, namespace)
        if website is None:
            return Result()  # it is gone, and Kubernetes deletes what it owned
        self._make_page(website)
        self._tell(website)
        return Result()

    def _make_page(self, website: Object) -> None:
        metadata = website["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        title = html.escape(website["spec"]["title"])

        def change(config_map: Object) -> None:
            config_map["metadata"]["labels"] = {**(metadata.get("labels") or {}), LABEL: name}
            config_map["data"] = {"index.html": f"<html><title>{title}</title><h1>{title}</h1></html>\n"}
            set_controller(config_map, {"apiVersion": WEBSITE.api_version, "kind": WEBSITE.kind, **website})

        present = self._config_maps.get(name, namespace)
        wanted: Object = {"metadata": {"name": name, "namespace": namespace}}
        create_or_update(self._client, CONFIG_MAP, wanted, present, change)

    def _tell(self, website: Object) -> None:
        name, namespace = website["metadata"]["name"], website["metadata"]["namespace"]
        status = {"observedGeneration": website["metadata"]["generation"], "page": name}
        if website.get("status") != status:
            # A patch, not an update: the cache may not show yet what this controller has written a moment ago.
            self._client.patch(WEBSITE, name, {"status": status}, namespace=namespace, subresource="status")
            log.info("Website published", extra={"title": website["spec"]["title"]})


def build(
    client: Client, metrics: Metrics, *, election: LeaderElectionConfig | None = None, health_address: str = ""
) -> Manager:
    """A manager that runs the controller in all namespaces."""
    manager = Manager(client, metrics=metrics, leader_election=election, health_address=health_address)
    websites = SharedInformer(ResourceListerWatcher(client, WEBSITE), name="websites", metrics=metrics)
    config_maps = SharedInformer(
        ResourceListerWatcher(client, CONFIG_MAP, label_selector=LABEL), name="config-maps", metrics=metrics
    )
    manager.add_informer(websites)
    manager.add_informer(config_maps)

    def controllers(client: Client) -> Iterable[Controller[str]]:
        reconciler = Reconciler(client, websites, config_maps)
        controller: Controller[str] = Controller("website", reconciler, workers=2, metrics=metrics, kind=WEBSITE.kind)
        controller.watches(websites, lambda obj: [object_key(obj)], predicate=CHANGED)
        controller.watches(config_maps, keys_of_owners(WEBSITE))
        return [controller]

    manager.add_controllers(controllers)
    return manager


def main() -> None:
    parser = argparse.ArgumentParser(description="Publishes Websites as ConfigMaps.")
    parser.add_argument("--kubeconfig", help="default: $KUBECONFIG, in-cluster, ~/.kube/config")
    parser.add_argument("--lease-namespace", default="default", help="where the Lease of the replicas is")
    options = parser.parse_args()
    logs.setup()
    stop = stop_on_signals()
    metrics = Metrics()
    client = Client.load(options.kubeconfig, user_agent="website-example", metrics=metrics)
    election = LeaderElectionConfig(name="website-example", namespace=options.lease_namespace)
    build(client, metrics, election=election, health_address=":8090").run(stop)


if __name__ == "__main__":
    main()
