"""Keep shards: split, merge, check, mend, back up, restore and optimize them."""
