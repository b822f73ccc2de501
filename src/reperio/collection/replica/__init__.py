"""Keep a directory in step with an origin."""
