from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from reperio import InvalidInput
from reperio.ingestion import Skipped, find_files


def write(path: Path, text: str = "words") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def sources(*paths: Path | str) -> list[str]:
    return [file.source for file in find_files(paths).files]


def test_folders_are_walked_in_sorted_order(tmp_path: Path) -> None:
    """Files of a folder and of those beneath come by name, under the folder's own name."""
    for name in ("b.txt", "a.md", "Z.csv", "sub/deep/c.jsonl", "sub/a.parquet"):
        write(tmp_path / "docs" / name)
    assert sources(tmp_path / "docs") == [
        "docs/Z.csv",
        "docs/a.md",
        "docs/b.txt",
        "docs/sub/a.parquet",
        "docs/sub/deep/c.jsonl",
    ]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    """What begins with a dot is not read, and counted."""
    write(tmp_path / "docs/.secret.txt")
    write(tmp_path / "docs/.git/notes.txt")
    write(tmp_path / "docs/seen.txt")
    found = find_files(tmp_path / "docs")
    assert [file.source for file in found.files] == ["docs/seen.txt"]
    assert found.skipped == [Skipped("docs/", "2 hidden files and folders are passed over")]


@pytest.mark.parametrize("way", ["docs", "./docs/", "docs/sub/..", "../{parent}/docs"])
def test_a_source_does_not_depend_on_how_the_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """However a path leads to a folder, its files have the same sources."""
    write(tmp_path / "docs/sub/a.txt")
    monkeypatch.chdir(tmp_path)
    assert sources(way.format(parent=tmp_path.name)) == ["docs/sub/a.txt"]


def test_the_current_folder_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.` gives the same sources as the folder's name from above."""
    write(tmp_path / "docs/a.txt")
    monkeypatch.chdir(tmp_path / "docs")
    assert sources(".") == ["docs/a.txt"]


def test_a_named_file_is_known_by_its_name(tmp_path: Path) -> None:
    """A file's source is its name, and a suffix in capitals is the same suffix."""
    assert sources(write(tmp_path / "far/away/NOTES.TXT")) == ["NOTES.TXT"]


def test_another_suffix_is_reported_in_a_folder_and_refused_when_named(tmp_path: Path) -> None:
    """A file that cannot be read is listed with the reason; naming it is an error."""
    picture = write(tmp_path / "docs/paper.png")
    write(tmp_path / "docs/Makefile")
    skipped = {one.source: one.reason for one in find_files(tmp_path / "docs").skipped}
    assert skipped["docs/paper.png"].startswith("has the suffix '.png'; what is read is text, Markdown, tables, ")
    assert skipped["docs/Makefile"].startswith("has no suffix")
    with pytest.raises(InvalidInput, match=r"paper\.png has the suffix '\.png'"):
        find_files([picture])


def test_a_missing_path_is_refused_before_the_others_are_looked_at(tmp_path: Path) -> None:
    """One mistyped path among good ones is an error that names it."""
    write(tmp_path / "docs/a.txt")
    with pytest.raises(InvalidInput, match=re.escape(f"{tmp_path / 'dosc'} does not exist")):
        find_files([tmp_path / "docs", tmp_path / "dosc"])


def test_no_path_is_refused() -> None:
    """An empty list of paths is a mistake, not an empty success."""
    with pytest.raises(InvalidInput, match="no path"):
        find_files([])


def test_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two folders whose files would be taken for each other's are an error naming both."""
    one, other = write(tmp_path / "a/docs/x.txt").parent, write(tmp_path / "b/docs/y.txt").parent
    with pytest.raises(InvalidInput, match=f"{one} and {other} have the same name"):
        find_files([one, other])


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two named files that would have the same source are an error naming both."""
    one, other = write(tmp_path / "a/x.txt"), write(tmp_path / "b/x.txt")
    with pytest.raises(InvalidInput, match=f"{one} and {other} have the same name.*--name"):
        find_files([one, other])


def test_a_file_reached_twice_is_read_once(tmp_path: Path) -> None:
    """A folder given twice changes nothing, nor does a file inside a folder that is given too."""
    inner = write(tmp_path / "docs/a.txt")
    for paths in ([tmp_path / "docs", tmp_path / "docs", inner], [inner, tmp_path / "docs"]):
        found = find_files(paths)
        assert [file.source for file in found.files] == ["docs/a.txt"]
        assert not found.skipped


def test_what_is_no_regular_file_is_reported(tmp_path: Path) -> None:
    """Broken links, links to folders (which may be loops), sockets and undecodable names are listed, not followed."""
    docs = write(tmp_path / "docs/a.txt").parent
    (docs / "broken.txt").symlink_to("nowhere")
    (docs / "loop").symlink_to(docs)
    os.mkfifo(docs / "pipe.txt")
    open(os.fsencode(docs) + b"/caf\xe9.txt", "w").close()
    found = find_files(docs)
    assert [file.source for file in found.files] == ["docs/a.txt"]
    reasons = {one.source: one.reason for one in found.skipped}
    assert reasons["docs/broken.txt"] == "is a link to something that does not exist"
    assert reasons["docs/loop"].startswith("is a link to a folder")
    assert reasons["docs/pipe.txt"] == "is neither a file nor a folder"
    assert reasons["docs/caf\\xe9.txt"].startswith("has a name that is no UTF-8")


def test_a_link_is_followed_only_within_the_folder(tmp_path: Path) -> None:
    """Who made a folder does not choose what else of this machine is read: links that lead out are reported."""
    docs = write(tmp_path / "docs/a.txt").parent
    for name in ("secret.env", "other.md"):
        write(tmp_path / name)
    for name in ("docs/.env", "docs/key.pem", "docs/.data/b.md", "docs/kb/notes.txt"):
        write(tmp_path / name)
    leading = {
        "out.md": "../secret.env",
        "same.md": "../other.md",
        "absolute.md": tmp_path / "secret.env",
        "hidden.md": ".env",
        "kind.md": "key.pem",
        "inner.md": "kb/notes.txt",
        "b.md": ".data/b.md",  # as a folder that Kubernetes has mounted
    }
    for name, target in leading.items():
        (docs / name).symlink_to(target)
    (docs / "again.md").symlink_to("out.md")
    (tmp_path / "named").symlink_to(docs)
    for named in ("docs", "named"):
        found = find_files(tmp_path / named, leave_out=docs / "kb")
        assert [file.source for file in found.files] == [f"{named}/a.txt", f"{named}/b.md"]
        reasons = {one.source: one.reason for one in found.skipped}
        for name in ("out.md", "same.md", "absolute.md", "again.md"):
            assert reasons[f"{named}/{name}"].startswith("is a link that leads out of the folder; name the file itself")
        for name in ("hidden.md", "inner.md"):
            assert reasons[f"{named}/{name}"] == "is a link to a file that is passed over"
        assert reasons[f"{named}/kind.md"].startswith("is a link to a file that has the suffix '.pem'")
    assert [file.source for file in find_files(docs / "out.md").files] == ["out.md"]  # named by a person


def test_folders_may_be_nested_deeper_than_the_stack(tmp_path: Path) -> None:
    """A folder in a folder, 1,100 times, is walked."""
    deepest = tmp_path.joinpath(*["d"] * 1100)
    subprocess.run(["mkdir", "-p", deepest], check=True)
    (deepest / "a.txt").write_text("deep")
    try:
        assert len(find_files(tmp_path / "d").files) == 1
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # nor does pytest remove it


def test_a_socket_that_is_named_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only files and folders are ingested."""
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.txt")
        with pytest.raises(InvalidInput, match="neither a file nor a folder"):
            find_files("s.txt")


def test_the_collection_itself_is_left_out(tmp_path: Path) -> None:
    """A collection beneath the ingested folder is not read into itself."""
    write(tmp_path / "docs/a.txt")
    kb = write(tmp_path / "docs/kb/notes.txt").parent
    found = find_files(tmp_path / "docs", leave_out=kb)
    assert [file.source for file in found.files] == ["docs/a.txt"]
    assert found.skipped[0].source == "docs/kb/"
