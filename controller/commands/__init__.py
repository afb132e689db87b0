"""Commands for operators, with `kubectl exec` or on a machine with a kubeconfig."""
