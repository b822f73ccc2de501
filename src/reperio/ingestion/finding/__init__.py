"""Paths → the files to read, and what is passed over."""
