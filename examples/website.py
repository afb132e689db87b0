"""A controller for a kind of its own: each Website gets a ConfigMap with its page, and a status that names the page.

    kubectl apply -f examples/website.yaml
    python -m examples.website --kubeconfig ~/.kube/config
    kubectl create -f - <<< '{"apiVersion": "example.com/v1", "kind": "Website",
                              "metadata": {"name": "hello", "namespace": "default"}, "spec": {"title": "Hello"}}'
    kubectl get websites,configmaps

- The ConfigMap has an owner reference to its Website. Kubernetes deletes it together with the Website. The controller
  undoes changes of it.
- Two replicas can run. One of them works, and the other one follows when it has ended.
"""

import argparse
import html
from collections.abc import Iterable
from typing import Any

from controller.runtime import Controller, LeaderElectionConfig, Manager, Metrics, Result, logs, stop_on_signals
from informers import Client, ListerWatcher, Resource, SharedInformer, make_key, object_key, split_key

WEBSITE = Resource("example.com", "v1", "websites", "Website")
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")
# The cache has only ConfigMaps with this label, not those of the whole cluster.
LABEL = "example.com/website"

Object = dict[str, Any]


class WebsiteReconciler:
    """Keys are namespace/name of a Website."""

    def __init__(self, client: Client, websites: SharedInformer, pages: SharedInformer) -> None:
        self._client = client
        self._websites = websites.indexer
        self._pages = pages.indexer

    def reconcile(self, key: str) -> Result:
        namespace, name = split_key(key)
        website = self._websites.get(name, namespace)
        if website is None:
            return Result()  # Kubernetes deletes the page
        present = self._pages.get(name, namespace)
        page = _page(website, present)
        if present is None:
            self._client.create(CONFIG_MAP, page)
        elif page != present:
            # With the resourceVersion that was read: a Conflict, and a retry, if another client has changed the page.
            self._client.update(CONFIG_MAP, page)
        status = {"observedGeneration": website["metadata"]["generation"], "page": name}
        if website.get("status") != status:
            self._client.patch(WEBSITE, name, {"status": status}, namespace=namespace, subresource="status")
        return Result()


def _page(website: Object, present: Object | None) -> Object:
    """The ConfigMap of a Website. What other clients have added to the present one stays."""
    base: Object = present or {"metadata": {}}
    metadata = website["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    owner = {"apiVersion": WEBSITE.api_version, "kind": WEBSITE.kind, "name": name, "uid": metadata["uid"]}
    title = html.escape(website["spec"]["title"])
    return {
        **base,
        "metadata": {
            **base["metadata"],
            "name": name,
            "namespace": namespace,
            "labels": {**base["metadata"].get("labels", {}), LABEL: name},
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
        },
        "data": {**base.get("data", {}), "index.html": f"<html><title>{title}</title><h1>{title}</h1></html>\n"},
    }


def _keys_of_owner(page: Object) -> Iterable[str]:
    """Keys of the Website that owns a ConfigMap."""
    metadata = page["metadata"]
    owners = metadata.get("ownerReferences", ())
    return [make_key(owner["name"], metadata["namespace"]) for owner in owners if owner["kind"] == WEBSITE.kind]


def build(
    client: Client, metrics: Metrics, election: LeaderElectionConfig, *, health_port: int | None = None
) -> Manager:
    """A manager that runs the controller in all namespaces."""
    manager = Manager(client, metrics=metrics, leader_election=election, health_port=health_port)
    websites = SharedInformer(ListerWatcher(client, WEBSITE), name="websites", metrics=metrics)
    pages = SharedInformer(ListerWatcher(client, CONFIG_MAP, label_selector=LABEL), name="pages", metrics=metrics)
    manager.add_informer(websites)
    manager.add_informer(pages)

    def controllers(client: Client) -> Iterable[Controller[str]]:
        """The controllers of one term of leadership. The API server gets no request of this client after the term."""
        reconciler = WebsiteReconciler(client, websites, pages)
        controller = Controller("website", reconciler.reconcile, workers=2, metrics=metrics, kind=WEBSITE.kind)
        controller.watches(websites, lambda website: [object_key(website)])
        controller.watches(pages, _keys_of_owner)
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
    build(client, metrics, election, health_port=8090).run(stop)


if __name__ == "__main__":
    main()
