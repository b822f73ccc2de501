"""Build shards: partitions of a source are read, embedded and spread, then each shard is written from its parts."""
