"""The site: nothing on it leads nowhere, nothing is fetched, and nothing public is left out."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import reperio

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "website"))

import links  # noqa: E402 - of the scripts that build the site, which are no package
import llms  # noqa: E402
import reference  # noqa: E402
import stage  # noqa: E402

PAGE = '<html><body><h1 id="top">A</h1>{}</body></html>'


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="lost.html">x</a>', "lost.html: no such file"),
        ('<a href="b.html#lost">x</a>', "b.html#lost: no such heading"),
        ('<a href="#lost">x</a>', "#lost: no such heading"),
        ('<a href="../c.html">x</a>', "../c.html: leads out of the site"),
        ('<a href="/b.html">x</a>', "/b.html: begins at the root, where the site need not be"),
        ('<img src="lost.png">', "lost.png: no such file"),
        ('<script src="https://cdn.example.org/x.js"></script>', "'https://cdn.example.org/x.js' is loaded from"),
        ('<link rel="stylesheet" href="https://fonts.example.org/css">', "'https://fonts.example.org/css' is loaded"),
        ('<a href="https://nowhere">x</a>', "https://nowhere: no address"),
        ("<p>Three things:\n- one\n- two</p>", "a list or table that is shown as text: '- one'"),
    ],
)
def test_a_fault_of_a_page_is_named(body: str, fault: str, tmp_path: Path) -> None:
    """Each kind of it, and it alone."""
    (tmp_path / "a.html").write_text(PAGE.format(body), encoding="utf-8")
    (tmp_path / "b.html").write_text(PAGE.format('<a href="a.html#top">x</a>'), encoding="utf-8")
    found = links.check(tmp_path).faults
    assert found, body
    assert all(fault in each or "'- two'" in each for each in found), found


def test_addresses_elsewhere_are_listed(tmp_path: Path) -> None:
    """They are not asked for, since there may be no network; links between pages are followed."""
    body = '<a href="https://example.org/x?y#z">x</a> <a href="b.html">b</a> <a href="mailto:a@example.org">m</a>'
    (tmp_path / "a.html").write_text(PAGE.format(body), encoding="utf-8")
    (tmp_path / "b.html").write_text(PAGE.format(""), encoding="utf-8")
    assert links.check(tmp_path) == ([], ["https://example.org/x?y#z", "mailto:a@example.org"], 3)


def test_links_are_led_to_where_their_files_are_on_the_site() -> None:
    """Pages to pages, other files to pages that show them; what is in a fenced block stays as it is."""
    places = stage.placed()
    text = "[a](../CHANGELOG.md) [b](filters.md#limits) [c](../action.yml) [d](#here)\n\n```text\n[e](f.md)\n```\n"
    led, new = stage.with_links(text, "docs/start.md", places)
    assert led.startswith("[a](changes.md) [b](filters.md#limits) [c](files/action.yml.md) [d](#here)\n")
    assert "[e](f.md)" in led
    assert new == ["action.yml"]
    with pytest.raises(stage.Unlinked, match=r"docs/start\.md: lost\.md is no file"):
        stage.with_links("[x](lost.md)", "docs/start.md", places)


def test_the_navigation_has_each_page_of_docs(tmp_path: Path) -> None:
    """An entry without a page is refused, and so is a page without an entry; optional pages alone may be missing."""
    text = (ROOT / "website" / "zensical.toml").read_text(encoding="utf-8")
    pages = list(stage.named_in(text))
    for name in pages:
        if name not in stage.OPTIONAL:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    assert "studio.md" not in stage.named_in(stage.configured(tmp_path)) or (ROOT / "docs" / "studio.md").exists()
    (tmp_path / "start.md").unlink()
    with pytest.raises(stage.Unlinked, match=r"names start\.md, which is no page"):
        stage.configured(tmp_path)


def test_the_reference_has_each_public_name() -> None:
    """Each is on one page; errors are there with their module."""
    shown = [name for _, _, names in reference.PAGES.values() for name in names]
    assert len(set(shown)) == len(shown)
    errors = {f"reperio.{name}" for name in dir(reperio.errors) if name[0].isupper()}
    lazily = {"reperio.gate", "reperio.ingest"}  # with their modules
    assert {f"reperio.{name}" for name in reperio.__all__} - errors - lazily <= set(shown)
    assert {name for name in shown if name.count(".") == 1} <= {
        f"reperio.{name}" for name in (*dir(reperio), "evaluation", "ingestion", "errors")
    }


def test_the_summary_of_a_page_is_its_first_paragraph() -> None:
    """In one line, without links; of a long one, the first sentence."""
    assert llms.summary("# Filters\n\nA [filter](x.md) selects\nchunks.\n\nMore.\n") == (
        "Filters",
        "A filter selects chunks.",
    )
    assert llms.summary("# A\n\n```text\nx\n```\n\nFirst. " + "word " * 60)[1] == "First."


@pytest.mark.campaign
def test_the_site_is_built_without_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each page is there, all links lead somewhere, scripts know no address elsewhere, and llms.txt lists the pages."""
    pytest.importorskip("zensical", reason="needs the extra docs")
    import build

    assert build.build(tmp_path / "work") == []
    site = tmp_path / "work" / "site"
    for name in ("index.html", "start.html", "comparison.html", "files/examples/langchain_rag.py.html", "llms.txt"):
        assert (site / name).exists(), name
    for script in links.scripts(site):
        assert not build.ELSEWHERE.search(script.read_text(encoding="utf-8")), script
    collection = (site / "reference" / "collection.html").read_text(encoding="utf-8")
    assert 'id="reperio.Collection.search"' in collection
    assert "unknown" not in collection
    listed = (site / "llms.txt").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"]({page.name})" in listed, page
        assert (site / page.name).exists(), page
    assert "links" in capsys.readouterr().out


def test_the_picture_of_the_architecture_is_drawn_from_its_rooms() -> None:
    """It names each layer above the ground that the import rules name, and is what the script draws."""
    import pictures

    drawing = pictures.TARGET.read_text(encoding="utf-8")
    assert drawing == pictures.drawn()
    rules = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("layers = [")[2].partition("]")[0]
    rooms = [name for name in re.findall(r"reperio\.(\w+)", rules) if (ROOT / "src" / "reperio" / name).is_dir()]
    for room in set(rooms) - {"query_log"}:  # a small one
        assert room in drawing, room
