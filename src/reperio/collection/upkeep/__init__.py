"""Build, check and mend what a collection consists of."""
