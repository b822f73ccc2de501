"""The golden set: questions that people wrote, and what should come."""
