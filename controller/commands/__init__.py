"""What an operator runs beside the agent, through ``kubectl exec`` or from a desk with a kubeconfig."""

from controller.commands.doctor import doctor
from controller.commands.revoke import revoke
from controller.commands.status import cannot_tell, status

__all__ = ["cannot_tell", "doctor", "revoke", "status"]
