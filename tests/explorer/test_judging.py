"""Judging in Chromium: marks by keys and clicks, drafts, several tabs, files that cannot be written."""

from __future__ import annotations

import re
from urllib.parse import quote

from playwright.sync_api import Browser, Page, expect

from reperio.evaluation import read_golden
from tests.explorer.serving import GOLDEN, Studio
from tests.explorer.tabs import marks, needs_chromium, said, shown

pytestmark = needs_chromium


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
