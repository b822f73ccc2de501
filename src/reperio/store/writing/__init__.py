"""Make chunks and their vectors durable together."""
