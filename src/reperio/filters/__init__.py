"""Filters on metadata: one typed tree, whatever dialect it came from; docs/filters.md says what each operator means.

Pure: the tree knows neither SQL nor FAISS. `matches` is the plain evaluation; `columns` does it for all rows.
"""

from reperio.filters.building import Field, field
from reperio.filters.matching import matches
from reperio.filters.operands import Operator
from reperio.filters.parsing import join_path, parse, parse_path, to_dict
from reperio.filters.readings import holds_wholly, listed_fields
from reperio.filters.tree import EVERYTHING, And, Condition, Filter, Not, Or, all_of, any_of, none_of

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
    "holds_wholly",
    "join_path",
    "listed_fields",
    "matches",
    "none_of",
    "parse",
    "parse_path",
    "to_dict",
]
