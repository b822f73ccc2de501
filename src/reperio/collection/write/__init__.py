"""Turn chunks into commits."""
