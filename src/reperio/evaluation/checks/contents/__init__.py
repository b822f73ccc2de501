"""Compare what a collection holds with the baseline: sources, fields, access, texts and vectors."""
