"""What ingestion has stored: its records, and the ids by which it knows its own chunks."""
