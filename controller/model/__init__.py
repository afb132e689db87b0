"""Convert data of the Director to Kubernetes objects, with pure functions over plain dicts.

* Names, fields and Secrets are byte for byte those of the Go agent, because the Application Gateway uses them as keys.
* The agent owns a few fields of an Application. A merge sets these and keeps all others.
* A merge returns None if there is nothing to write.
* Objects that Kubernetes would refuse are detected before the write, for each application separately.
"""

from controller.model.application import (
    API_VERSION,
    KIND,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ConversionSettings,
    Desired,
    desired_application,
    is_managed,
    merge_application,
)
from controller.model.desired import DesiredSet, Problem, Reason, desired_set
from controller.model.secrets import SECRETS_SELECTOR, DesiredSecret, merge_secret

__all__ = [
    "API_VERSION",
    "KIND",
    "MANAGED_BY",
    "MANAGED_BY_LABEL",
    "SECRETS_SELECTOR",
    "ConversionSettings",
    "Desired",
    "DesiredSecret",
    "DesiredSet",
    "Problem",
    "Reason",
    "desired_application",
    "desired_set",
    "is_managed",
    "merge_application",
    "merge_secret",
]
