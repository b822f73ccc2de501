"""One generation of files, opened, and the views that searches run over."""
