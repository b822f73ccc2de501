"""Train an index on a sample, and fill it."""
