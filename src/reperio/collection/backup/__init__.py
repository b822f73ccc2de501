"""Copy a collection: as a whole, or as one more state in a folder of them."""
