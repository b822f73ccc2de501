"""Ranked lists in, ranked lists out: fusion, reranking, diversity. No database, no index; models only where used."""

from reperio.ranking.cross_encoder import CrossEncoderReranker
from reperio.ranking.diversity import distinct, mmr, plain_text
from reperio.ranking.fusion import RANK_CONSTANT, Fused, Ranked, convex, reciprocal_rank
from reperio.ranking.late_interaction import LateInteractionReranker, TokenEmbedder
from reperio.ranking.reranking import CallableReranker, rerank

__all__ = [
    "RANK_CONSTANT",
    "CallableReranker",
    "CrossEncoderReranker",
    "Fused",
    "LateInteractionReranker",
    "Ranked",
    "TokenEmbedder",
    "convex",
    "distinct",
    "mmr",
    "plain_text",
    "reciprocal_rank",
    "rerank",
]
