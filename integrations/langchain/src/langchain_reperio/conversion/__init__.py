"""Convert between the framework's kinds of values and Reperio's: documents, metadata, filters, scores, embedders."""
