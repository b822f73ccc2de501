"""What goes wrong with what is stored: vectors that are not their texts', chunks that are missing, or too many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from case import Case, Deployed, database, drawn, stored_anew, vector_file, writing
from healthy import chunks
from models import fewer_layers, without_normalising

_OTHER_LAYERS = 3


def scaled_vectors(case: Case) -> Deployed | None:
    """Multiply a share of the stored vectors by three, in the file."""
    with vector_file(case) as matrix:
        matrix[drawn(len(matrix), case.strength)] *= 3.0
    return None


def damaged_vectors(case: Case) -> Deployed | None:
    """Turn one bit in so many stored vectors."""
    with vector_file(case) as matrix:
        matrix.view(np.uint32)[drawn(len(matrix), case.strength / len(matrix)), 5] ^= 1 << 20
    return None


def damaged_texts(case: Case) -> Deployed | None:
    """Change one character in so many texts, in the database."""
    rows = drawn(len(case.texts.passages), case.strength / len(case.texts.passages))
    with database(case) as connection:
        for row in rows.tolist():
            connection.execute("UPDATE chunks SET text = 'X' || substr(text, 2) WHERE row = ?", (row,))
    return None


def not_normalised(case: Case) -> Deployed | None:
    """Embed a share of the passages without the model's last step, into a collection of inner products."""
    rows = drawn(len(case.texts.passages), case.strength)
    texts = [case.texts.passages[row] for row in rows]
    vectors = case.texts.passage_vectors.copy()
    vectors[rows] = case.kept.vectors(
        "not-normalised", texts, lambda some: without_normalising(case.folder).embed_passages(some)
    )
    stored_anew(case, chunks(case.texts), vectors)
    return None


def other_model(case: Case) -> Deployed | None:
    """Embed a share of the passages with a model of fewer layers: an ingestion on another machine."""
    rows = drawn(len(case.texts.passages), case.strength)
    texts = [case.texts.passages[row] for row in rows]
    vectors = case.texts.passage_vectors.copy()
    vectors[rows] = case.kept.vectors(
        f"layers-{_OTHER_LAYERS}", texts, lambda some: fewer_layers(case.folder, _OTHER_LAYERS).embed_passages(some)
    )
    stored_anew(case, chunks(case.texts), vectors)
    return None


def truncated_texts(case: Case) -> Deployed | None:
    """Embed only the first words of every text; the stored texts stay whole."""
    cut = [" ".join(text.split()[: int(case.strength)]) for text in case.texts.passages]
    vectors = case.kept.vectors(f"words-{case.strength:g}", cut, case.embedder.model.embed_passages)
    stored_anew(case, chunks(case.texts), vectors)
    return None


def shifted_rows(case: Case) -> Deployed | None:
    """Store each of the last share of the texts with the vector of the one before."""
    first = round(len(case.texts.passages) * (1 - case.strength))
    vectors = case.texts.passage_vectors.copy()
    vectors[first:] = np.roll(vectors[first:], 1, axis=0)
    stored_anew(case, chunks(case.texts), vectors)
    return None


def swapped_texts(case: Case) -> Deployed | None:
    """Swap the texts of so many pairs of chunks that answer questions; ids, metadata and vectors stay."""
    held = chunks(case.texts)
    wanted = np.random.default_rng(3).permutation(sorted({at for right in case.texts.relevant for at in right}))
    for pair in range(min(int(case.strength), len(wanted) // 2)):
        left, right = (int(at) for at in wanted[2 * pair : 2 * pair + 2])
        held[left], held[right] = (
            replace(held[left], text=held[right].text),
            replace(held[right], text=held[left].text),
        )
    stored_anew(case, held, case.texts.passage_vectors)
    return None


def missing_chunks(case: Case) -> Deployed | None:
    """Delete a share of the chunks, as an ingestion that lost some files would."""
    with writing(case) as collection:
        collection.delete(ids=[f"s{row}" for row in drawn(len(case.texts.passages), case.strength)])
    return None


def duplicates(case: Case) -> Deployed | None:
    """Ingest the chunks that answer no question, but come first for one, so many times more."""
    order = np.argsort(-(case.texts.query_vectors @ case.texts.passage_vectors.T), axis=1)[:, 0]
    often = sorted({int(row) for row, right in zip(order, case.texts.relevant, strict=True) if int(row) not in right})
    held = chunks(case.texts)
    copies = [replace(held[row], id=f"s{row}-{copy}") for row in often for copy in range(int(case.strength))]
    vectors = np.repeat(case.texts.passage_vectors[often], int(case.strength), axis=0)
    with writing(case) as collection:
        collection.add(copies, vectors=vectors)
    return None


def renamed_field(case: Case) -> Deployed | None:
    """Write a metadata field under another name, in a share of the chunks."""
    return _with_metadata(
        case, lambda own: {("section" if name == "part" else name): value for name, value in own.items()}
    )


def retyped_field(case: Case) -> Deployed | None:
    """Write the numbers of a metadata field as texts, in a share of the chunks."""
    return _with_metadata(case, lambda own: {**own, "part": str(own["part"])})


def lexical_out_of_step(case: Case) -> Deployed | None:
    """Index the words of a share of the chunks under the row after theirs."""
    rows = drawn(len(case.texts.passages) - 1, case.strength).tolist()
    with database(case) as connection:
        for row in rows:
            connection.execute("DELETE FROM lexical WHERE rowid = ?", (row,))
            connection.execute(
                "INSERT INTO lexical(rowid, written_out) VALUES (?, ?)", (row, case.texts.passages[row + 1])
            )  # fmt: skip
    return None


def lexical_missing(case: Case) -> Deployed | None:
    """Leave a share of the chunks out of the lexical index."""
    with database(case) as connection:
        for row in drawn(len(case.texts.passages), case.strength).tolist():
            connection.execute("DELETE FROM lexical WHERE rowid = ?", (row,))
    return None


def _with_metadata(case: Case, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    lost = set(drawn(len(case.texts.passages), case.strength).tolist())
    held = [
        replace(chunk, metadata=change(dict(chunk.metadata))) if row in lost else chunk
        for row, chunk in enumerate(chunks(case.texts))
    ]
    stored_anew(case, held, case.texts.passage_vectors)
