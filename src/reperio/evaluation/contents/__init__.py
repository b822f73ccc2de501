"""What a collection holds, in figures small enough to be kept and compared: sources, fields, texts and vectors."""
