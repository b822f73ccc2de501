"""Texts and pages of strangers, in Chromium: nothing of them runs, loads, reads or changes anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from playwright.sync_api import Browser, Page, expect

from tests.explorer.serving import EVIL, Studio
from tests.explorer.tabs import PAGES, marks, needs_chromium, said

pytestmark = needs_chromium


def test_nothing_hostile_runs(page: Page, studio: Studio) -> None:
    """Whatever texts, ids, fields and sources hold, no page runs it, loads it, or is turned around by it."""
    for path in PAGES:
        page.goto(studio.address + path)
        assert (
            page.evaluate("document.querySelectorAll('img, iframe, script:not([src]), [onerror], [style]').length") == 0
        )
        assert "\u202e" not in page.content(), path
    page.goto(studio.address + "/ask?q=" + quote(EVIL))
    assert page.locator("input[name=q]").input_value().startswith("<script>window.pwned")
    evil = page.locator(".hit").filter(has_text="evil/").first
    expect(evil).to_contain_text("{{ 7 * 7 }}")
    evil.locator("a.id").click()
    expect(page.locator("h1")).to_contain_text("evil/<script>window.pwned = 1</script>")
    assert page.evaluate("fetch('https://example.org').then(() => 'asked', () => 'refused')") == "refused"
    page.goto(studio.address + "/judge?q=evil")
    card = page.locator(".hit").filter(has_text="evil/").first
    card.get_by_role("button", name="2 answers").click()
    said(page, "2: answers")
    assert marks(studio, "evil") == ({f"evil/{EVIL}": 2}, ())


def test_a_strangers_page_gets_nothing(browser: Browser, studio: Studio) -> None:
    """Though it knew the address: on another port or by another name, it reads, shows, loads and changes nothing."""
    before = (studio.folder / "golden.yaml").read_bytes()
    body = json.dumps({"q": "x", "id": "password-1", "grade": "2", "mode": "dense"})
    header = "{'X-Reperio-Studio': '1', 'Content-Type': 'application/json'}"
    at = studio.address
    attempts = (
        f"fetch('{at}/ask').then(() => 'read', () => 'no')",
        f"fetch('{at}/ask', {{mode: 'no-cors'}}).then(() => 'sent', () => 'no')",
        f"fetch('{at}/mark', {{method: 'POST', mode: 'no-cors', body: '{body}'}}).then(() => 'sent', () => 'no')",
        f"fetch('{at}/mark', {{method: 'POST', headers: {header}, body: '{body}'}}).then(() => 'sent', () => 'no')",
        f"new Promise((told) => {{ const one = document.createElement('script'); one.src = '{at}/static/studio.js';"
        "one.onload = () => told('loaded'); one.onerror = () => told('no'); document.body.append(one); })",
        f"new Promise((told) => {{ const one = document.createElement('iframe'); one.src = '{at}/ask';"
        "one.onload = () => told(one.contentDocument ? 'shown' : 'no'); document.body.append(one); })",
    )
    with stranger() as port:
        page = browser.new_page()
        for origin in (f"http://127.0.0.1:{port}", f"http://evil.example:{port}"):
            page.goto(origin)
            assert [page.evaluate(attempt) for attempt in attempts] == ["no"] * len(attempts), origin
        rebound = page.goto(studio.address.replace("127.0.0.1", "evil.example") + "/ask")
        assert rebound is not None
        assert rebound.status == 421
        page.close()
    assert (studio.folder / "golden.yaml").read_bytes() == before


@contextmanager
def stranger() -> Iterator[int]:
    """Serve an empty page on another port of this machine."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><body>")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
