"""What is in a cluster by kind, namespace and name, to tell what an installation has left behind."""

import time

from e2e.scenarios.stage import Stage

_KINDS = (
    "clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,deployments,pods,poddisruptionbudgets,"
    "networkpolicies,priorityclasses,leases,secrets,configmaps,services,customresourcedefinitions,"
    "mutatingadmissionpolicies,mutatingadmissionpolicybindings"
)
_OBJECTS = "compassconnections,applications"


def inventory(stage: Stage) -> set[str]:
    """ "Kind Namespace Name" of what an installation could leave, but Events; namespace <none> where there is none."""
    served = stage.kubectl("api-resources", "--output", "name")
    kinds = f"{_KINDS},{_OBJECTS}" if "compassconnections" in served else _KINDS
    columns = "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name"
    table = stage.kubectl("get", kinds, "--all-namespaces", "--no-headers", "--output", columns)
    return {" ".join(line.split()) for line in table.splitlines()}


def settled(stage: Stage) -> set[str]:
    """The inventory when two looks, a second apart, see the same; else nothing."""
    first = inventory(stage)
    time.sleep(1)
    return first if first == inventory(stage) else set()


def new(stage: Stage, before: set[str]) -> set[str]:
    """What is there now, when nothing comes and goes any more, and was not before; Pods have new names each time."""
    left = stage.wait_for("an end of what is coming and going", lambda: settled(stage)) - before
    return {one for one in left if not one.startswith("Pod ")}
