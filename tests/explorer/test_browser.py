"""Every way through the studio in Chromium, by clicks and keys; one browser and one server for all."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import reperio
from reperio import CallableReranker, Chunk
from reperio.evaluation import read_golden
from tests.conftest import TrigramEmbedder
from tests.explorer.serving import EVIL, GOLDEN, LOG, Studio, fill, served

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; on Debian: apt-get install chromium")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1400, "height": 900}
PAGES = (
    *("/ask", "/ask?q=password", "/compare", "/compare?q=password", "/judge", "/judge?q=password", "/judge?show=all"),
    *("/look", "/look/fields", "/look/sources", "/look/chunks", "/look/duplicates", "/look/index", "/look/gate"),
    *(f"/look/chunk?id={quote(name)}" for name in ("password-1", "backup-twin", f"evil/{EVIL}")),
    "/nothing",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    fill(folder / "kb")
    fill(folder / "before", 6)
    (folder / "log.jsonl").write_text(LOG)
    (folder / "golden.yaml").write_text(GOLDEN)
    longest = CallableReranker(lambda _, texts: [float(len(text)) for text in texts])
    with served(
        folder,
        golden=folder / "golden.yaml",
        log=folder / "log.jsonl",
        others=[folder / "before"],
        report=folder / "report.json",
        reranker=longest,
    ) as found:
        yield found


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


@pytest.fixture
def page(browser: Browser, studio: Studio) -> Iterator[Page]:
    (studio.folder / "golden.yaml").unlink(missing_ok=True)
    (studio.folder / "golden.yaml").write_text(GOLDEN)
    with shown(browser, studio) as found:
        yield found


def marks(studio: Studio, question: str) -> tuple[dict[str, int], tuple[str, ...]] | None:
    """Return grades and wrong ones of a question, as the file has them."""
    query = next((each for each in read_golden(studio.folder / "golden.yaml").queries if each.text == question), None)
    return None if query is None else (dict(query.grades), query.wrong)


def said(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.locator(".said")).to_contain_text(text)


def test_asking(page: Page, studio: Studio) -> None:
    """A question by keys; words, ranks, parts of scores and times; modes, reranker, filter and errors by clicks."""
    page.goto(studio.address + "/")
    page.keyboard.type("resetting passwords")  # the box has the focus
    page.keyboard.press("Enter")
    hits = page.locator(".hit")
    expect(hits).to_have_count(10)
    assert {"Resetting", "passwords"} <= set(page.locator(".hit mark").all_inner_texts())
    parts = hits.first.locator(".parts").inner_text()
    assert re.search(r"dense\s*#\d+", parts)
    assert re.search(r"lexical\s*#\d+", parts)
    assert "fused" in parts
    assert "embed the question" in page.locator(".stages").inner_text()
    page.get_by_role("radio", name="lexical").click()  # asked again at once
    page.wait_for_url(re.compile("mode=lexical"))
    assert "embed" not in page.locator(".stages").inner_text()
    page.get_by_label("rerank").click()
    page.wait_for_url(re.compile("rerank=1"))
    assert "rerank" in page.locator(".stages").inner_text()
    facet = page.locator("details.facet").filter(has=page.get_by_text("lang", exact=True))
    facet.get_by_text("de", exact=True).click()
    expect(page.locator(".active-filter")).to_contain_text('{"lang": "de"}')
    assert set(page.locator(".hit .fields").all_inner_texts())
    assert all("lang\nde" in text for text in page.locator(".hit .fields").all_inner_texts())
    facet.get_by_text("en", exact=True).click()
    expect(page.locator(".active-filter")).to_contain_text('{"lang": {"$in": ["de", "en"]}}')
    page.get_by_text("clear").click()
    expect(page.locator(".active-filter")).to_have_count(0)
    page.get_by_text("Finer").click()
    page.locator("textarea[name=where]").fill('{"lang":')
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_contain_text("the filter is no JSON")
    assert page.locator("input[name=q]").input_value() == "resetting passwords"  # to be mended there
    assert page.locator("textarea[name=where]").input_value() == '{"lang":'


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


def test_judging_by_keys(page: Page, studio: Studio) -> None:
    """From the list to a question of the log, marks by keys, undone one by one; the file says the same at each step."""
    question = "my printer is broken"
    page.goto(studio.address + "/judge")
    expect(page.locator(".questions .state").first).to_have_text("draft")
    page.get_by_text(question).click()
    expect(page.locator(".asked")).to_contain_text("asked 3×")
    ids = page.locator(".hit a.id").all_inner_texts()
    for keys, expected in (
        ("j2", ({ids[0]: 2}, ())),
        ("j0", ({ids[0]: 2}, (ids[1],))),
        ("j3", ({ids[0]: 2, ids[2]: 3}, (ids[1],))),
        ("k1", ({ids[0]: 2, ids[2]: 3, ids[1]: 1}, ())),
        ("x", ({ids[0]: 2, ids[2]: 3}, ())),
    ):
        for key in keys:
            page.keyboard.press(key)
        said(page, "mark taken away" if keys == "x" else f"{keys[-1]}:")
        assert marks(studio, question) == expected
        number = len(expected[0]) + len(expected[1])
        expect(page.locator("[data-judged]")).to_have_text(str(number))
        expect(page.locator(".asked .state")).to_have_text("judged")
    expect(page.locator('.hit[data-graded="3"]')).to_have_count(1)
    for expected_marks in (({ids[0]: 2, ids[2]: 3, ids[1]: 1}, ()), ({ids[0]: 2, ids[2]: 3}, (ids[1],))):
        with page.expect_navigation():
            page.keyboard.press("u")
        assert marks(studio, question) is not None
        assert marks(studio, question)[0] == expected_marks[0]  # type: ignore[index]  # it was asserted
    for _ in range(3):
        with page.expect_navigation():
            page.keyboard.press("u")
    assert (studio.folder / "golden.yaml").read_text() == GOLDEN
    page.keyboard.press("u")
    said(page, "nothing to undo")
    before = page.url
    page.keyboard.press("n")
    page.wait_for_url(lambda url: url != before)
    page.keyboard.press("p")
    page.wait_for_url(before)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("undo what you did last")


def test_a_draft_is_reworded_confirmed_and_removed(page: Page, studio: Studio) -> None:
    """By its form, a key and a button; nothing else in the file changes."""
    draft, fresh = "The invoice number 3 explains it in a few words.", "which invoice is the third?"
    page.goto(f"{studio.address}/judge?q={quote(draft)}")
    page.get_by_label("The question in other words").fill(fresh)
    page.get_by_text("Reword").click()
    page.wait_for_url(re.compile("third"))
    expect(page.locator("h1")).to_have_text(fresh)
    with page.expect_navigation():
        page.keyboard.press("c")
    expect(page.locator(".draft")).to_have_count(0)
    (query,) = [each for each in read_golden(studio.folder / "golden.yaml").queries if each.text == fresh]
    assert (dict(query.expect), query.tags) == ({"invoice-3": 1}, ())
    page.get_by_text("Change the question").click()
    page.get_by_text("Remove from the golden set").click()
    page.wait_for_url(lambda url: "third" not in url)
    assert marks(studio, fresh) is None
    assert "# everybody asks this" in (studio.folder / "golden.yaml").read_text()


def test_two_tabs_and_an_editor(page: Page, browser: Browser, studio: Studio) -> None:
    """Both mark the same question while somebody writes the file: all marks are there, and each tab undoes its own."""
    question, address = "how do I reset a password", f"{studio.address}/ask?q=how+do+I+reset+a+password"
    with shown(browser, studio) as other:
        page.goto(address)
        other.goto(address)
        ids = page.locator(".hit a.id").all_inner_texts()
        assert page.locator('.hit[data-graded="1"] a.id').all_inner_texts() == ["password-1"]
        page.locator(".hit").nth(0).get_by_role("button", name="3 best").click()
        said(page, "3: answers best")
        path = studio.folder / "golden.yaml"
        path.write_text(path.read_text() + "  # an editor was here\n")
        other.locator(".hit").nth(1).get_by_role("button", name="0 wrong").click()
        said(other, "0: wrong")
        found = marks(studio, question)
        assert found is not None
        assert (found[0][ids[0]], found[1]) == (3, (ids[1],))
        expect(other.locator(".hit").nth(0)).to_have_attribute("data-graded", "3")  # of the other tab
        with page.expect_navigation():
            page.keyboard.press("u")
        found = marks(studio, question)
        assert found is not None
        assert (found[0].get(ids[0]), found[1]) == (1 if ids[0] == "password-1" else None, (ids[1],))
        assert "# an editor was here" in path.read_text()
        assert "# everybody asks this" in path.read_text()


def test_marks_by_document(page: Page, studio: Studio) -> None:
    """A new question may expect documents; all chunks of one show its mark."""
    page.goto(f"{studio.address}/ask?q=printer&k=20")
    page.get_by_label("its document").click()
    page.locator(".hit").filter(has_text="printer-").first.get_by_role("button", name="2 answers").click()
    said(page, "2: answers")
    assert marks(studio, "printer") == ({"printer.md": 2}, ())
    assert page.locator('.hit[data-graded="2"]').count() == page.locator(".hit").filter(has_text="printer-").count() > 1


def test_a_golden_set_that_cannot_be_written_or_read(page: Page, studio: Studio) -> None:
    """Read-only, nothing is written and the cure is told; what is no golden set is told on the page, with the line."""
    path = studio.folder / "golden.yaml"
    path.chmod(0o444)
    page.goto(f"{studio.address}/judge?q=holiday")
    page.keyboard.press("j")
    page.keyboard.press("2")
    said(page, "is read-only; allow writing with chmod u+w")
    assert path.read_text() == GOLDEN
    expect(page.locator("[data-graded]")).to_have_count(0)
    path.chmod(0o644)
    path.write_text("queries:\n  - query: [\n")
    page.goto(f"{studio.address}/judge")
    expect(page.get_by_role("alert")).to_contain_text("no valid YAML")
    path.unlink()
    page.goto(f"{studio.address}/judge?q=holiday")
    page.locator(".hit").first.get_by_role("button", name="1 helps").click()
    said(page, "1: helps")
    assert len(read_golden(path).queries) == 1  # begun


def test_comparing(page: Page, studio: Studio) -> None:
    """Two modes, another collection, and an answer that was kept: what moved is told on both sides."""
    page.goto(f"{studio.address}/compare")
    page.get_by_label("Question").fill("resetting the printers")
    page.keyboard.press("Enter")
    expect(page.locator(".ranks")).to_have_count(2)
    expect(page.locator(".summary-line")).to_contain_text(re.compile(r"\d+ of 10 hits are on both sides"))
    page.locator("select[name='b.kb']").select_option("before")
    page.locator("select[name='b.mode']").select_option("dense")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile("b.kb=before"))
    only = page.locator(".ranks").first.locator(".alone a.id").all_inner_texts()
    assert only  # chunks that the other collection has not got
    assert not set(only) & set(page.locator(".ranks").last.locator("a.id").all_inner_texts())
    page.goto(f"{studio.address}/ask?q=resetting+the+printers&mode=dense")
    page.get_by_text("Keep, to compare").click()
    said(page, "kept 1, dense")
    page.goto(f"{studio.address}/compare?q=resetting+the+printers")
    page.locator("select[name='a.kb']").select_option(index=2)
    page.locator("select[name='b.mode']").select_option("dense")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".ranks .same")).to_have_count(20)
    expect(page.locator(".summary-line")).to_contain_text("overlap by rank 1.00")


def test_looking(page: Page, studio: Studio) -> None:
    """From the overview to fields, chunks, one chunk and its neighbours; sources, duplicates, index and gate."""
    page.goto(f"{studio.address}/look")
    expect(page.locator(".figures")).to_contain_text("63")
    assert "reperio export" in page.locator("pre").inner_text()
    tabs = page.get_by_role("navigation", name="Look")
    tabs.get_by_text("Fields").click()
    card = page.locator(".card").filter(has=page.get_by_role("heading", name="lang"))
    card.get_by_role("link", name="de").click()
    expect(page.locator(".lead")).to_contain_text("20 chunks")
    page.locator(".list a.id").first.click()
    expect(page.locator("h1")).to_have_text("password-0")
    expect(page.locator(".chunk-page")).to_contain_text("Nearest by meaning")
    expect(page.locator(".lead")).to_contain_text("1 of 12 in password.md")
    page.get_by_text("password-1", exact=True).first.click()
    expect(page.locator("h1")).to_have_text("password-1")
    tabs.get_by_text("Sources").click()
    page.get_by_role("link", name="printer.md").click()
    expect(page.locator(".lead")).to_contain_text("12 chunks")
    page.get_by_label("Id of a chunk").fill("backup-twin")
    page.keyboard.press("Enter")
    expect(page.locator(".meta")).to_contain_text("(100,000 characters)")
    tabs.get_by_text("Duplicates").click()
    page.get_by_role("radio", name="by text").check()
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".groups")).to_contain_text("backup-twin")
    tabs.get_by_text("Index").click()
    expect(page.locator(".lead")).to_contain_text("every search compares all")
    tabs.get_by_text("Gate").click()
    expect(page.get_by_role("alert")).to_contain_text("report.json cannot be read")


def test_on_a_phone(browser: Browser, studio: Studio) -> None:
    """No page is wider than the screen, whatever is in it, and marks are given with a thumb."""
    with shown(browser, studio, PHONE) as page:
        for path in PAGES:
            page.goto(studio.address + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        page.goto(f"{studio.address}/judge?q=backup")
        button = page.locator(".hit").first.get_by_role("button", name="2 answers")
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 30
        button.click()
        said(page, "2: answers")


def test_while_a_writer_writes_and_an_index_is_built(browser: Browser, tmp_path: Path) -> None:
    """Each page answers, and what was written is found."""
    fill(tmp_path / "kb")
    stop = threading.Event()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with reperio.open(tmp_path / "kb", embedder=TrigramEmbedder(), auto_optimize=False) as kb:
                number = 0
                while not stop.is_set():
                    number += 1
                    texts = [f"Harbour {number} of {n} ships" for n in range(200)]
                    kb.add([Chunk(f"ship-{number}-{n}", text, {"lang": "nl"}) for n, text in enumerate(texts)])
                    if number == 3:
                        kb.optimize(index="IVF8,SQ8")
                    kb.delete(ids=[f"ship-{number}-0"])
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    with served(tmp_path) as studio, shown(browser, studio) as page:
        writer.start()
        try:
            for _ in range(3):
                for path in ("/ask?q=harbour+ships", "/compare?q=harbour", "/look", "/look/chunks", "/look/fields"):
                    page.goto(studio.address + path)
                    expect(page.get_by_role("alert")).to_have_count(0)
        finally:
            stop.set()
            writer.join()
        assert failed == []
        page.goto(f"{studio.address}/ask?q=harbour+ships")
        assert page.locator(".hit a.id").first.inner_text().startswith("ship-")


@pytest.mark.campaign
@pytest.mark.model
def test_pictures_for_the_documentation(browser: Browser, tmp_path: Path, minilm: reperio.Embedder) -> None:
    """docs/studio.md shows these; with REPERIO_PICTURES=docs/pictures they are made again."""
    pictures = Path(os.environ.get("REPERIO_PICTURES", tmp_path / "pictures")).absolute()
    pictures.mkdir(parents=True, exist_ok=True)
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("keep-and-mend", "start", "search", "filters", "ingest", "operations", "security", "origins"):
        shutil.copy(Path(__file__).parents[2] / "docs" / f"{name}.md", docs)
    with reperio.open(tmp_path / "kb", embedder=minilm) as kb:
        reperio.ingest(kb, docs)
    golden = tmp_path / "golden.yaml"
    golden.write_text("document_field: source\nqueries:\n  - query: how are deleted rows removed\n    expect: [x]\n")
    (tmp_path / "log.jsonl").write_text('{"query": "how do I restore a backup", "mode": "hybrid"}\n' * 5)
    question = "how+do+I+restore+a+backup"
    with served(tmp_path, golden=golden, log=tmp_path / "log.jsonl", embedder=minilm) as studio:
        for name, path, viewport, scheme in (
            ("studio-ask", f"/ask?q={question}", DESKTOP, "light"),
            ("studio-judge", f"/judge?q={question}", DESKTOP, "dark"),
            ("studio-compare", f"/compare?q={question}", DESKTOP, "light"),
            ("studio-phone", f"/judge?q={question}", PHONE, "light"),
        ):
            context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]  # a size
            page = context.new_page()
            page.goto(studio.address + path)
            if name == "studio-judge":
                for place, word in enumerate(("3 best", "0 wrong", "2 answers")):
                    page.locator(".hit").nth(place).get_by_role("button", name=word).click()
                    expect(page.locator(".hit").nth(place)).to_have_attribute("data-graded", word[0])
                page.evaluate("scrollTo(0, 0)")
                expect(page.locator(".said")).to_be_hidden()
            page.screenshot(path=pictures / f"{name}.png")
            context.close()
    assert len(list(pictures.glob("studio-*.png"))) == 4
