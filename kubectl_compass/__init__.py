"""`kubectl compass`: commands for operators, on a machine with a kubeconfig.

    arguments    the command line, and nothing heavy: completion reads it
    cluster      the cluster of the agent: settings, CompassConnection, leader, and calls of kubectl
    terminal     results as text, JSON or YAML; progress
    status       status, list
    logs         the log of the leader
    doctor       finds problems, and how to fix them
    actions      pair, resync, renew, reconnect, confirm-deletions, revoke
    pairing      stores the one-time token
    completion   `kubectl_complete-compass`

- Results go to standard output; progress, questions and errors to standard error.
- It reads no Secret with a private key. The facts about the certificate are in the CompassConnection.
- A one-time token comes from standard input only, and is never printed.
"""
