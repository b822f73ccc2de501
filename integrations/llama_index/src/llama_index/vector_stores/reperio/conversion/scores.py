"""Similarities: what LlamaIndex cuts off and averages, made of the core's scores. Higher is better in every mode.

| mode | metric | similarity |
|---|---|---|
| DEFAULT, MMR | cosine | the cosine, −1 to 1 |
| DEFAULT, MMR | inner product | the inner product |
| DEFAULT, MMR | L2 | 1 / (1 + distance²), 0 to 1 |
| SPARSE, TEXT_SEARCH | any | BM25, above 0 |
| HYBRID | any | the fused score, 0 to 1 |
| SEMANTIC_HYBRID | any | the reranker's |

The core's own score under L2 is −distance²: of those, a `SimilarityPostprocessor` would keep none.
"""

from __future__ import annotations

from reperio import Metric


def to_similarity(score: float, metric: Metric | str, *, dense: bool) -> float:
    """Return the similarity of one hit.

    Args:
        score: `reperio.Hit.score`.
        metric: of the collection.
        dense: whether the score is that of the vectors; others stay as they are.
    """
    if dense and metric == Metric.L2:
        return 1.0 / (1.0 + max(-score, 0.0))
    return float(score)
