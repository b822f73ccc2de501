"""Find chunks by their words."""
