"""Rules for connections that the clients of the API server and of Compass share."""
