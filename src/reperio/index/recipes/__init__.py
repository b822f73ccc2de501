"""Choose an index by rule. Pure: FAISS is not needed to ask."""
