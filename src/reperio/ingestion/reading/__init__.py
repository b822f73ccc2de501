"""Files → items, each format by its own reader."""
