"""The page of faults names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "what-can-go-wrong.md"


def test_each_fault_has_a_test() -> None:
    """Each row of docs/what-can-go-wrong.md names at least one test function, and each is in the file it says."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| (?!fault |-)", line)]
    assert len(rows) > 30
    for row in rows:
        file, named = "", re.findall(r"`(tests/[\w/]+\.py)?::(test_\w+)`", row)
        assert named, row
        for path, function in named:
            file = path or file
            assert re.search(rf"^def {function}\(", (ROOT / file).read_text(encoding="utf-8"), flags=re.M), row


def test_links_of_the_security_page_lead_somewhere() -> None:
    """Relative links of both pages are files."""
    for page in (PAGE, ROOT / "docs" / "security.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), link
