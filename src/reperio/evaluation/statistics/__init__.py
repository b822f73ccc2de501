"""Measures of rankings, and whether two of them differ by more than chance."""
