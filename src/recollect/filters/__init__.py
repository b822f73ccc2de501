"""Filters on metadata: one typed tree, whatever dialect it came from; docs/filters.md says what each operator means.

Pure: the tree knows neither SQL nor FAISS. `matches` is the plain evaluation; `store.columns` does it for all rows.
"""

from recollect.filters.building import Field, field
from recollect.filters.matching import matches
from recollect.filters.operands import Operator
from recollect.filters.parsing import join_path, parse, parse_path, to_dict
from recollect.filters.tree import EVERYTHING, And, Condition, Filter, Not, Or, all_of, any_of, none_of

__all__ = [
    "EVERYTHING",
    "And",
    "Condition",
    "Field",
    "Filter",
    "Not",
    "Operator",
    "Or",
    "all_of",
    "any_of",
    "field",
    "join_path",
    "matches",
    "none_of",
    "parse",
    "parse_path",
    "to_dict",
]
