"""Director data -> Kubernetes objects, as pure functions over plain dicts.

* Names, fields and Secrets are those of the Go agent, to the byte: the Application Gateway looks things up by them.
* The agent owns a few fields of an Application and nothing else of it; a merge sets these and keeps the rest.
* A merge says None when there is nothing to write.
* What Kubernetes would refuse is found in advance, for each application on its own.
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
