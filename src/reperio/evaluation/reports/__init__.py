"""What the gate found, for people and machines."""

from recollect.evaluation.reports.documents import as_text, to_json, to_junit, to_markdown
from recollect.evaluation.reports.page import to_html
from recollect.evaluation.reports.terminal import print_report

__all__ = ["as_text", "print_report", "to_html", "to_json", "to_junit", "to_markdown"]
