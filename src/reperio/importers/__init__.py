"""Bring in what other stores have written: one folder for each of them."""
