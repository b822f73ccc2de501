"""Documents that are packed: ZIP files with XML or pages in them."""
