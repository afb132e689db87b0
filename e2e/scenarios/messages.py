"""What the agent logs, as far as scenarios look for it. A unit test finds a message that was changed."""

ACQUIRED = "Acquired the Lease"
LOST = "Leader election lost"
STARTING = "Starting"
STOPPED = "Stopped"

FETCHED = "Fetched from the Director"
CREATED = "Created"
UPDATED = "Updated"
DELETED = "Deleted"

RENEWING = "Renewing the certificate"
RENEWED = "Certificate renewed"
REVOKED = "the certificate was revoked by an operator"
