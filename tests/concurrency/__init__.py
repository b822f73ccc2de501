"""Many threads and many processes over one collection: nothing stale, foreign or half there is ever seen."""
