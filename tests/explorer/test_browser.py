"""Ways through the studio in Chromium, by clicks and keys: asking, comparing, looking, on a phone, next to a writer."""

from __future__ import annotations

import os
import re
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import reperio
from reperio import Chunk
from tests.conftest import TrigramEmbedder
from tests.explorer.serving import Studio, fill, served
from tests.explorer.tabs import DESKTOP, PAGES, PHONE, needs_chromium, said, shown

pytestmark = needs_chromium


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
