"""Texts → pieces that fit the embedder, cut where headings, paragraphs and sentences end."""
