"""What the agent logs, as far as scenarios look for it. A unit test finds a message that was changed."""

ACQUIRED = "Acquired the Lease"
LOST = "Leader election lost"
STARTING = "Starting"
STOPPED = "Stopped"

CREATED = "Created"
UPDATED = "Updated"
DELETED = "Deleted"
