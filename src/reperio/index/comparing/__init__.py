"""Find rows that are near each other: all pairs above a threshold, exactly, or one row for all that are near it."""
