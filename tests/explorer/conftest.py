"""One browser and one studio for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from reperio import CallableReranker
from tests.explorer.serving import GOLDEN, LOG, Studio, fill, served
from tests.explorer.tabs import CHROMIUM, shown


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--host-resolver-rules=MAP evil.example 127.0.0.1"]
        )
        yield found
        found.close()


@pytest.fixture(scope="package")
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


@pytest.fixture
def page(browser: Browser, studio: Studio) -> Iterator[Page]:
    (studio.folder / "golden.yaml").unlink(missing_ok=True)
    (studio.folder / "golden.yaml").write_text(GOLDEN)
    with shown(browser, studio) as found:
        yield found
