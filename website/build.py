"""Build the site, strictly: python website/build.py [FOLDER]. Nothing is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from links import check, scripts
from llms import write_llms
from reference import write_reference
from stage import ROOT, Unlinked, configured, named_in, stage

ELSEWHERE = re.compile(r"https://(?:unpkg\.com|cdn\.jsdelivr\.net)/[\w./@-]*")


def build(work: Path) -> list[str]:
    """Build in a folder, whose content is replaced: `work/site` is the site. Return what is wrong with it."""
    shutil.rmtree(work, ignore_errors=True)
    pages, site = work / "pages", work / "site"
    try:
        stage(pages)
        write_reference(pages)
        configuration = configured(pages)
    except Unlinked as error:
        return [str(error)]
    shutil.copy(ROOT / "website" / "website.css", pages)
    configuration = configuration.replace('"SOURCE"', f'"{ROOT}/src"').replace('"WEBSITE/', f'"{ROOT}/website/')
    (work / "zensical.toml").write_text(configuration, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=work, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).strip().splitlines()
    unread = [line for line in said if line.startswith("griffe:")]
    if done.returncode or unread or not (site / "index.html").exists():
        return unread or [*said, "zensical build failed"]
    for script in scripts(site):  # features that are not used here would load these: diagrams, formulas, a gallery
        text = script.read_text(encoding="utf-8")
        script.write_text(ELSEWHERE.sub("about:blank", text), encoding="utf-8")
    write_llms(pages, site, list(named_in(configuration)))
    checked = check(site)
    (work / "elsewhere.txt").write_text("".join(f"{each}\n" for each in checked.elsewhere), encoding="utf-8")
    if not checked.faults:
        pages_built = len(list(site.rglob("*.html")))
        print(f"{pages_built} pages, {checked.links} links, {len(checked.elsewhere)} of them elsewhere: {site}")
    return checked.faults


if __name__ == "__main__":
    found = build(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "website")
    for each in found:
        print(each, file=sys.stderr)
    sys.exit(1 if found else 0)
