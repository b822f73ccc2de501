"""Evaluate filters for all rows at once."""
