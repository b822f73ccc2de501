"""Serve collections to agents by the Model Context Protocol; above the facade, and by its public surface alone."""
