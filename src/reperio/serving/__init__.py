"""What the servers above the facade share: a port of this machine alone, a token, and what is in a collection."""
