"""The catalogue: every kind of accident that is put into a healthy collection, one at a time, at several strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import content_faults as content
import index_faults as index
import serving_faults as serving
from case import Case, Deployed
from healthy import CODES, INNER_PRODUCT, PLAIN, Kind, prompted


@dataclass(frozen=True)
class Fault:
    """One kind of accident.

    Attributes:
        name: in the table, with the unit of the strength.
        apply: puts it in, and says how the copy is deployed.
        strengths: at which it is put in.
        kind: of the healthy collection.
        integrity: red is demanded always, whatever the answers.
    """

    name: str
    apply: Callable[[Case], Deployed | None]
    strengths: tuple[float, ...]
    kind: Kind = PLAIN
    integrity: bool = False


FAULTS = (
    Fault("nprobe divided by", index.fewer_probes, (2, 4, 16)),
    Fault("lists and codes trained on a wrong sample, share", index.wrong_training, (0.5, 0.9, 1.0), CODES),
    Fault("index file of another collection", index.foreign_snapshot, (1,), integrity=True),
    Fault("index of another ingestion, share of its rows", index.foreign_rows, (0.05, 0.3, 1.0), integrity=True),
    Fault("index older than the newest rows, share", index.stale_tail, (0.01, 0.1), integrity=True),
    Fault("tail dropped, share", index.dropped_tail, (0.01, 0.1), integrity=True),
    Fault("another metric (1 l2, 2 inner product)", index.other_metric, (1, 2)),
    Fault("effort and candidates times", index.dearer_search, (5, 50)),
    Fault("rows fetched and rescored, times", serving.needless_rows, (5, 50)),
    Fault("vectors scaled in the file, share", content.scaled_vectors, (0.001, 0.05, 1.0), integrity=True),
    Fault("vectors with a bit turned", content.damaged_vectors, (1, 50), integrity=True),
    Fault("texts with a byte changed", content.damaged_texts, (1, 50), integrity=True),
    Fault("not normalised before storing, share", content.not_normalised, (0.01, 0.05, 0.2), INNER_PRODUCT),
    Fault("query prompt missing, of 1 word", serving.lost_prompt, (1,), prompted(1)),
    Fault("query prompt missing, of 12 words", serving.lost_prompt, (12,), prompted(12)),
    Fault("query prompt of 12 words missing outside", serving.prompt_lost_outside, (12,), prompted(12)),
    Fault("needless query prompt outside, words", serving.needless_prompt, (2, 6, 12)),
    Fault("another model by the same name, layers of 6", serving.other_model_by_name, (5, 4, 3)),
    Fault("questions by another model outside, layers of 6", serving.other_model_outside, (5, 4, 3)),
    Fault("passages by another model (3 layers), share", content.other_model, (0.01, 0.05, 0.2)),
    Fault("texts cut before embedding, words", content.truncated_texts, (64, 16, 4)),
    Fault("chunks missing, share", content.missing_chunks, (0.01, 0.05, 0.2)),
    Fault("vectors shifted by one row, share", content.shifted_rows, (0.05, 0.2, 1.0)),
    Fault("texts swapped, pairs", content.swapped_texts, (1, 20, 100)),
    Fault("duplicates of wrong top hits", content.duplicates, (1, 5, 12)),
    Fault("filter ignored, share of questions", serving.ignored_filter, (0.3, 1.0)),
    Fault("filters wrong for a share of the rows", serving.wrong_filters, (0.001, 0.05, 0.3)),
    Fault("metadata field renamed, share", content.renamed_field, (0.1, 1.0)),
    Fault("metadata values of another type, share", content.retyped_field, (0.1, 1.0)),
    Fault("words under the next row, share", content.lexical_out_of_step, (0.05, 1.0)),
    Fault("words missing, share", content.lexical_missing, (0.05, 1.0)),
)


def named(name: str) -> Fault:
    """Return the fault of a name."""
    return next(fault for fault in FAULTS if fault.name == name)
