"""Find the nearest rows of a query, by an index or exactly."""
