"""The results of the ablation as a page for people, with every figure beside it as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LISTS = {"dense": "dense", "lexical": "BM25", "rrf": "hybrid, RRF", "hybrid": "hybrid, convex"}


def write(found: dict[str, Any], folder: Path) -> None:
    """Write reranking.json and reranking.md, and print the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reranking.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "reranking.md").write_text(text(found))
    print(text(found))


def text(found: dict[str, Any]) -> str:
    """Return the page."""
    sets, note = found["sets"], found["note"]
    lines = [*_head(), *_retrieval(sets), *_rerankers(sets), *_cost(sets), *_verdict(sets)]
    return "\n".join([*lines, *(["", f"<sub>{note}</sub>"] if note else [])]) + "\n"


def _head() -> list[str]:
    return [
        "# What fusion and reranking add",
        "",
        "nDCG@10 (recall@10). Dense lists: exact cosine over all-MiniLM-L6-v2 vectors. BM25: bm25s, Lucene scoring, "
        "Snowball stems, English stop words. Fused: 100 of each list, by `reperio.ranking`.",
        "",
    ]


def _retrieval(found: dict[str, Any]) -> list[str]:
    lines = ["## Retrieval, all queries", "", "| set | " + " | ".join(_LISTS.values()) + " |", "|---|" + "---|" * 4]
    for name, its in found.items():
        cells = [f"{its['retrieval'][key]['ndcg']:.3f} ({its['retrieval'][key]['recall']:.3f})" for key in _LISTS]
        lines.append(f"| {name}, {its['retrieval']['dense']['queries']:,.0f} queries | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _rerankers(found: dict[str, Any]) -> list[str]:
    lines = []
    for subject in ("late interaction", "cross-encoder"):
        lines += [f"## {subject.capitalize()}", "", _ABOUT[subject], ""]
        lines += ["| set | list | as retrieved | reranked | gain | blended | gain |", "|---|---|---|---|---|---|---|"]
        for name, its in found.items():
            rows = its[subject]["rows"]
            for plain, reranked, blended in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
                lines.append(
                    f"| {name}, {plain['queries']:,.0f} queries | {_LISTS[plain['list']]} | {_measures(plain)} | "
                    f"{_measures(reranked)} | {_gain(reranked)} | {_measures(blended)} | {_gain(blended)} |"
                )
        lines.append("")
    return lines


def _measures(row: dict[str, Any]) -> str:
    return f"{row['ndcg']:.3f} ({row['recall']:.3f})"


def _gain(row: dict[str, Any]) -> str:
    return f"{row['gain']:+.3f} ± {row['margin']:.3f}"


def _cost(found: dict[str, Any]) -> list[str]:
    both = found["squad-dev"]["precision"]
    exact, close = both["float32"], both["bfloat16"]
    rates = ", ".join(
        f"{subject} {its[subject]['pairs_per_second']:.0f} pairs a second on {name}"
        for name, its in found.items()
        for subject in ("late interaction", "cross-encoder")
    )
    return [
        "## Cost",
        "",
        f"Two cores, shared with other work: {rates}. Late interaction embeds each text once for all queries here; a "
        "search on its own embeds all its candidates. The cross-encoder of the table ran in bfloat16. Over "
        f"{both['queries']} held-out questions of SQuAD-dev, hybrid: float32 nDCG@10 {exact['ndcg']:.3f} at "
        f"{exact['pairs_per_second']:.0f} pairs a second, bfloat16 {close['ndcg']:.3f} at "
        f"{close['pairs_per_second']:.0f}.",
        "",
    ]


def _verdict(found: dict[str, Any]) -> list[str]:
    lines = ["## Better than no reranking?", ""]
    for subject in ("late interaction", "cross-encoder"):
        for kind in ("dense", "lexical", "hybrid"):
            rows = {name: next(row for row in its[subject]["rows"] if _is(row, kind)) for name, its in found.items()}
            better = [name for name, row in rows.items() if row["gain"] > row["margin"]]
            worse = [name for name, row in rows.items() if row["gain"] < -row["margin"]]
            lines.append(
                f"- {subject.capitalize()} over {_LISTS[kind]}: better on {' and '.join(better) or 'none'}"
                + (f", worse on {' and '.join(worse)}" if worse else "")
                + ("." if len(better) + len(worse) == len(rows) else "; elsewhere within the margin.")
            )
    return lines


def _is(row: dict[str, Any], kind: str) -> bool:
    return bool(row["list"] == kind and row["reranked"] == "reranked")


_ABOUT = {
    "late interaction": (
        "The embedding model's own token vectors compared by MaxSim (`LateInteractionReranker`): 20 candidates, all "
        "SciFact queries, the SQuAD-dev queries of the held-out articles. Blended: the mean of both scores, each "
        "stretched to [0, 1] over the candidates. ±: half the 95% interval of the paired difference."
    ),
    "cross-encoder": (
        "The MiniLM weights fine-tuned by eval/reranking/train.py on SQuAD-dev questions of other articles "
        "(`CrossEncoderReranker`): 20 candidates. SciFact's claims and abstracts it has never seen the like of."
    ),
}
