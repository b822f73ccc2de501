"""Share the open files of a collection among all calls."""
