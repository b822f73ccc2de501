"""From chunks to a commit."""
