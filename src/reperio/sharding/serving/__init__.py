"""Serve shards: ask all of them, and merge what they say into the answer of one collection."""
