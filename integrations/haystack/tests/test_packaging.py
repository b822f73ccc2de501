"""The package as its users get it: built as sdist and wheel, installed beside the core's wheel, and used."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.running import PACKAGE, ROOT

INSIDE = "haystack_integrations/document_stores/reperio"

USED = """
import sys
from importlib.metadata import requires, version
import haystack_integrations.document_stores.reperio as package, reperio
from haystack import Document
from haystack_integrations.components.retrievers.reperio import ReperioEmbeddingRetriever
with package.ReperioDocumentStore(sys.argv[1], embedding_dimension=2) as store:
    vectors = (("one", [1.0, 0.0]), ("two", [0.0, 1.0]))
    store.write_documents([Document(id=n, content=n, embedding=e) for n, e in vectors])
    found = ReperioEmbeddingRetriever(store, top_k=1).run([0.1, 1.0])["documents"]
    assert [each.id for each in found] == ["two"]
needed = sorted(line.replace(">", "<").split("<")[0] for line in requires("reperio-haystack") if "extra" not in line)
print(package.__file__, reperio.__file__, version("reperio-haystack"), needed, sep="\\n")
"""


def run(arguments: list[str], folder: Path) -> str:
    """Run a command without this process's import path."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "HAYSTACK_TELEMETRY_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages as sdist and wheel, built from copies so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "eval", "integrations", "tests", "docs", "dist", "*.egg-info")
    for name, source in (("core", ROOT), ("haystack", PACKAGE)):
        copy = folder / name
        shutil.copytree(source, copy, ignore=ignored)
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(copy)], folder)
    return folder / "dist"


def test_sdist_and_wheel_hold_what_they_should(built: Path) -> None:
    """Types markers, licence, readme and changelog are inside; tests are not, nor what other packages share."""
    (wheel,) = built.glob("reperio_haystack-*.whl")
    (sdist,) = built.glob("reperio_haystack-*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    retrievers = "haystack_integrations/components/retrievers/reperio"
    assert {f"{INSIDE}/py.typed", f"{INSIDE}/store.py", f"{retrievers}/py.typed", f"{retrievers}/retriever.py"} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name for name in names if name.endswith("__init__.py")} == {
        f"{folder}/__init__.py" for folder in (INSIDE, retrievers)
    }
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", f"src/{INSIDE}/py.typed"} <= inside
    assert not any(name.startswith("tests") for name in inside)


def test_the_wheels_work_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """Installed without a network beside their dependencies, they import, store and retrieve."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True, system_site_packages=False)
    python = str(home / "bin" / "python")
    wheels = [str(next(built.glob(pattern))) for pattern in ("reperio-*.whl", "reperio_haystack-*.whl")]
    run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", *wheels], tmp_path)
    inside = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip())
    # After the environment's own packages, so that the wheels are found first; a .pth there is not followed further.
    (inside / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    assert sysconfig.get_path("purelib") in site.getsitepackages()
    lines = run([python, "-c", USED, str(tmp_path / "kb")], tmp_path).splitlines()
    assert Path(lines[0]).is_relative_to(home)
    assert Path(lines[1]).is_relative_to(home)
    assert lines[2:] == ["0.1.0", "['haystack-ai', 'reperio']"]
