"""`kubectl compass`: commands for operators, on a machine with a kubeconfig.

    arguments    the command line, and nothing heavy: completion reads it
    cluster      the cluster of the agent: settings, CompassConnection, leader, and calls of kubectl
    waiting      waits for the agent and shows its progress
    pairing      stores the one-time token
    actions      status, pair, resync, renew, reconnect
    in_pod       revoke, logs
    doctor       finds problems, and how to fix them
    output       results as text, JSON or YAML
    completion   `kubectl_complete-compass`

- Results go to standard output; progress, questions and errors to standard error.
- It reads no Secret with a private key. The facts about the certificate are in the CompassConnection.
- A one-time token comes from standard input only, and is never printed.
"""
