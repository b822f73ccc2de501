"""Write what the gate found, for people and machines."""

from reperio.evaluation.reports.documents import as_text, to_annotations, to_json, to_junit, to_markdown
from reperio.evaluation.reports.page import to_html
from reperio.evaluation.reports.terminal import print_report

__all__ = ["as_text", "print_report", "to_annotations", "to_html", "to_json", "to_junit", "to_markdown"]
