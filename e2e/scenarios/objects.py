"""What is in a cluster by kind, namespace and name: to find what an installation has left behind."""

import time

from e2e.scenarios.target import Target

_KINDS = (
    "clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,deployments,pods,poddisruptionbudgets,"
    "networkpolicies,priorityclasses,leases,secrets,configmaps,services,customresourcedefinitions,"
    "mutatingadmissionpolicies,mutatingadmissionpolicybindings"
)
_OBJECTS = "compassconnections,applications"


def objects(target: Target) -> set[str]:
    """ "Kind Namespace Name" of what an installation could leave, but Events; namespace <none> where there is none."""
    served = target.kubectl("api-resources", "--output", "name")
    kinds = f"{_KINDS},{_OBJECTS}" if "compassconnections" in served else _KINDS
    columns = "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name"
    table = target.kubectl("get", kinds, "--all-namespaces", "--no-headers", "--output", columns)
    return {" ".join(line.split()) for line in table.splitlines()}


def stable_objects(target: Target) -> set[str]:
    """The objects when two looks, a second apart, see the same; else nothing."""
    first = objects(target)
    time.sleep(1)
    return first if first == objects(target) else set()


def added_since(target: Target, before: set[str]) -> set[str]:
    """What is there now, when nothing comes and goes any more, and was not before; Pods have new names each time."""
    left = target.wait_for("an end of what is coming and going", lambda: stable_objects(target)) - before
    return {one for one in left if not one.startswith("Pod ")}
