"""Loaded indexes as searches see them, one module for each library, and the codes next to a graph."""
