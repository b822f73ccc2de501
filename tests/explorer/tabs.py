"""Tabs of Chromium that show the studio, and what the tests read of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from reperio.evaluation import read_golden
from tests.explorer.serving import EVIL, Studio

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium; on Debian: apt-get install chromium"
)
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1400, "height": 900}
PAGES = (
    *("/ask", "/ask?q=password", "/compare", "/compare?q=password", "/judge", "/judge?q=password", "/judge?show=all"),
    *("/look", "/look/fields", "/look/sources", "/look/chunks", "/look/duplicates", "/look/index", "/look/gate"),
    *(f"/look/chunk?id={quote(name)}" for name in ("password-1", "backup-twin", f"evil/{EVIL}")),
    "/nothing",
)


@contextmanager
def shown(browser: Browser, studio: Studio, viewport: dict[str, int] = DESKTOP) -> Iterator[Page]:
    """Open a tab that must not tell of an error, run a text of others, or ask anything of anybody else."""
    context = browser.new_context(viewport=viewport)  # type: ignore[arg-type]  # a size
    context.set_default_timeout(10_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "400" not in message.text else None)
    page.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda one: None if one.url.startswith(studio.address) else wrong.append(f"asked {one.url}"))
    yield page
    assert page.evaluate("window.pwned") is None
    context.close()
    assert [each for each in wrong if "404" not in each and "https://example.org" not in each] == []  # asked on purpose


def marks(studio: Studio, question: str) -> tuple[dict[str, int], tuple[str, ...]] | None:
    """Return grades and wrong ones of a question, as the file has them."""
    query = next((each for each in read_golden(studio.folder / "golden.yaml").queries if each.text == question), None)
    return None if query is None else (dict(query.grades), query.wrong)


def said(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.locator(".said")).to_contain_text(text)
