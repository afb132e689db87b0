"""Commands for operators, with `kubectl exec` or on a machine with a kubeconfig."""

from controller.commands.doctor import doctor
from controller.commands.revoke import revoke
from controller.commands.status import cannot_tell, status

__all__ = ["cannot_tell", "doctor", "revoke", "status"]
