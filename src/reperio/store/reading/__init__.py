"""Read one commit."""
