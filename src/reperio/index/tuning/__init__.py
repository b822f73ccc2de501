"""Measure which effort gives which recall."""
