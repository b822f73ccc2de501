"""Search stored vectors exactly: score them, bound their rounding, and find the nearest of many questions at once."""
