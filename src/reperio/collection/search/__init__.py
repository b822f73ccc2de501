"""Turn questions into hits."""
