"""The pages: from a request to HTML, or JSON for what a key or button does."""
