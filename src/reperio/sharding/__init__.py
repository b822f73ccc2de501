"""Collections that outgrow one host: shards of one, each an ordinary collection."""
