"""One run of `ingest`: what is known of the files, what they yield, and how it comes into the collection."""
