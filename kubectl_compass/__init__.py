"""`kubectl compass`: what an operator asks of the agent, from a machine with a kubeconfig.

    arguments    the command line, and nothing heavy: completion reads it
    cluster      the cluster with the agent in it: settings, CompassConnection, leader, and kubectl for what needs it
    waiting      wait for the agent and tell how far it is
    pairing      where the one-time token goes
    actions      status, pair, resync, renew, reconnect
    in_pod       revoke, logs
    doctor       what is wrong, and how to fix it
    output       results as text, JSON or YAML
    completion   `kubectl_complete-compass`

- Results go to standard output; progress, questions and errors to standard error.
- It reads no Secret with a key in it: what there is to say of the certificate is in the CompassConnection.
- A one-time token comes from standard input only, and is never printed.
"""
