"""Open one generation of files, and make the views that searches run over."""
