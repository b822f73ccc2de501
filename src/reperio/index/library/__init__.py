"""FAISS itself: loaded, called, and its files read and written. Nothing else imports it."""
