"""Pickles that are read without being executed: equal to what pickle itself would load, or refused."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reperio import InvalidInput
from reperio.errors import UnsafePickle
from reperio.importers.langchain_faiss.folder import ALLOWED, read_folder
from reperio.importers.pickles import Instance, Name, read_pickle

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(SCALARS | st.tuples(SCALARS, SCALARS), inner)
        | st.sets(SCALARS)
        | st.frozensets(SCALARS)
        | inner.map(lambda value: [value, value])
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(value=PLAIN, protocol=st.sampled_from([4, 5]))
def test_plain_data_is_read_as_pickle_reads_it(value: Any, protocol: int) -> None:
    """Every kind of value, shared parts included, in the protocols that have been pickle's own since Python 3.8."""
    data = pickle.dumps(value, protocol)
    assert repr(read_pickle(data, allowed=[], where="f")) == repr(pickle.loads(data))


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(protocol: int) -> None:
    """What has an opcode in later protocols only is an Instance before."""
    value = {"a": [1, -1, 300, 2**70, 1.5, None, True, "é" * 300, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, [], ()]}
    value["b"] = [value["a"], value["a"]]
    assert read_pickle(pickle.dumps(value, protocol), allowed=[], where="f") == value


def test_an_object_is_a_name_and_arguments() -> None:
    """Of a class that is expected, state and items included; nothing is imported."""
    allowed = [Name("collections", "OrderedDict"), Name("decimal", "Decimal")]
    import collections
    import decimal

    found = read_pickle(
        pickle.dumps([collections.OrderedDict(a=1), decimal.Decimal("1.5")]), allowed=allowed, where="f"
    )
    assert [type(one) for one in found] == [Instance, Instance]
    assert (found[0].made_by, found[0].items) == (allowed[0], [("a", 1)])
    assert (str(found[1].made_by), found[1].arguments) == ("decimal.Decimal", ("1.5",))


# ── hostile pickles ──────────────────────────────────────────────────────────────────────────────────────────────────


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


DOCUMENT = named("langchain_core.documents.base", "Document")
STORE = named("langchain_community.docstore.in_memory", "InMemoryDocstore")


def hostile(marker: Path) -> dict[str, bytes]:
    """Return pickles of which each creates *marker* when it is executed, in another way."""
    import builtins
    import os

    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    system = text(command) + b"\x85R"
    return {
        "os.system": pickle.dumps(Calls(os.system, command)),
        "os.system, protocol 0": pickle.dumps(Calls(os.system, command), 0),
        "eval": pickle.dumps(Calls(builtins.eval, code)),
        "exec": pickle.dumps(Calls(builtins.exec, code)),
        "inside the documents": pickle.dumps(({"a": Calls(os.system, command)}, {0: "a"})),
        "Popen": pickle.dumps(Calls(subprocess.Popen, ["touch", str(marker)])),
        "getattr": b"\x80\x04" + named("builtins", "getattr") + named("os", "path") + text("os") + b"\x86R.",
        "import": b"\x80\x04" + named("builtins", "__import__") + text("os") + b"\x85R" + b".",
        "a dotted name": b"\x80\x04" + named("os", "path.os.system") + system + b".",
        "a dotted name in a module that is expected": b"\x80\x04"
        + named("langchain_core.documents.base", "os.system")
        + system
        + b".",
        "INST": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "INST with a unicode argument": b"(V" + command.encode() + b"\nios\nsystem\n.",
        "OBJ": b"\x80\x02(" + b"cos\nsystem\n" + b"X" + struct.pack("<I", len(command)) + command.encode() + b"o.",
        "GLOBAL": b"cposix\nsystem\n(V" + command.encode() + b"\ntR.",
        "below the marks": b"\x80\x04((" + named("os", "system") + system + b"1N.",
        "popped": b"\x80\x04" + named("os", "system") + system + b"0N.",
        "the second stream": b"\x80\x04N." + pickle.dumps(Calls(os.system, command)),
    }


STRANGE: dict[str, bytes] = {
    "a class of the right name elsewhere": b"\x80\x04" + named("evil.documents.base", "Document") + b")\x81.",
    "a class of another name there": b"\x80\x04" + named("langchain_core.documents.base", "Blob") + b")\x81.",
    "codecs": pickle.dumps(b"\xff", 2),
    "persistent id": b"\x80\x04P1\n.",
    "binary persistent id": b"\x80\x04K\x01Q.",
    "extension code": b"\x80\x02\x82\x01.",
    "long extension code": b"\x80\x02\x84\x01\x00\x00\x00.",
    "a buffer from outside": b"\x80\x05\x97.",
    "keyword arguments": b"\x80\x04" + DOCUMENT + b")" + b"}" + text("a") + b"K\x01s" + b"\x92.",
    "a call of a string": b"\x80\x04" + text("os.system") + b")R.",
    "a call of an instance": b"\x80\x04" + DOCUMENT + b")\x81)R.",
    "a Python 2 string": b"S'a'\n.",
    "more after the end": b"N.N.",
}
DAMAGED: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "no end": b"\x80\x04N",
    "two values": b"\x80\x04NN.",
    "an empty stack": b"\x80\x04.",
    "a mark as value": b"\x80\x04(.",
    "no mark": b"\x80\x04Nt.",
    "an unknown memo": b"\x80\x04h\x05.",
    "an odd dictionary": b"\x80\x04(Nd.",
    "a list as key": b"\x80\x04}]Ns.",
    "a set of lists": b"\x80\x04\x8f(]\x90.",
    "a state for a class": b"\x80\x04" + DOCUMENT + b"}b.",
    "a state for a dictionary": b"\x80\x04}}b.",
    "two states": b"\x80\x04" + DOCUMENT + b")\x81}b}b.",
    "an append to a class": b"\x80\x04" + DOCUMENT + b"Na.",
    "an append to an instance": b"\x80\x04" + DOCUMENT + b")\x81Na.",
    "an add to a list": b"\x80\x04](N\x90.",
    "a string of 2**60 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b".",
    "bytes of 2**64 - 1": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "a bytearray of 2**50": b"\x80\x05\x96" + struct.pack("<Q", 1 << 50) + b".",
    "an integer of 2**31 bytes": b"\x80\x02\x8b" + struct.pack("<i", -(1 << 31)) + b".",
    "a number that is none": b"Ix\n.",
    "a number of 5000 digits": b"L" + b"9" * 5000 + b"L\n.",
    "a tuple of a tuple ... as key": b"\x80\x04}N" + b"\x85" * 200_000 + b"Ns.",
    "a tuple of a tuple ... in a set": b"\x80\x04\x8f(N" + b"\x85" * 200_000 + b"\x90.",
    "names that are no strings": b"\x80\x04NN\x93.",
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_plain_data_does_without_is_refused(case: str) -> None:
    """By name, as unsafe."""
    with pytest.raises(UnsafePickle, match=r"^f was not read: "):
        read_pickle(STRANGE[case], allowed=ALLOWED, where="f")


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged_is_told(case: str) -> None:
    """As a typed error; no length that is claimed is believed."""
    with pytest.raises(InvalidInput, match=r"^f cannot be read as a pickle"):
        read_pickle(DAMAGED[case], allowed=ALLOWED, where="f")


def test_the_name_that_is_not_expected_is_told() -> None:
    """Whole, unless it is very long."""
    with pytest.raises(UnsafePickle, match=r"it holds builtins\.eval, which is none of the document classes"):
        read_pickle(pickle.dumps(eval), allowed=ALLOWED, where="f")
    with pytest.raises(UnsafePickle) as refused:
        read_pickle(b"c" + b"x" * 10_000 + b"\ny\n.", allowed=ALLOWED, where="f")
    assert len(str(refused.value)) < 500


def test_a_large_memo_slot_takes_no_memory() -> None:
    """Slot four billion is one entry; pickle's own C reader would make room for all before it."""
    assert read_pickle(b"N" + b"r\xff\xff\xff\xff" + b"0" + b"j\xff\xff\xff\xff.", allowed=[], where="f") is None


READER = """
import json, resource, sys
from reperio import InvalidInput
from reperio.importers.langchain_faiss.folder import ALLOWED, read_folder
from reperio.importers.pickles import read_pickle
"".encode("raw-unicode-escape")  # the codec of protocol 0 is imported when it is first used
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event in ("exec", "open", "import", "os.system",
    "subprocess.Popen", "os.posix_spawn", "pickle.find_class") else None)
said = {}
for name in sys.argv[1:]:
    data = open(name, "rb").read()
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    seen.clear()
    try:
        read_pickle(data, allowed=ALLOWED, where="f")
        said[name] = "read"
    except InvalidInput as error:
        said[name] = type(error).__name__
    assert not seen, (name, seen)
print(json.dumps(said))
"""


def test_hostile_pickles_are_refused_and_not_executed(tmp_path: Path) -> None:
    """In a process of its own that counts imports, files and processes; pickle itself falls for all of them."""
    marker = tmp_path / "marker"
    cases = hostile(marker)
    files = {name: tmp_path / f"{number}.pkl" for number, name in enumerate(cases)}
    for name, data in cases.items():
        files[name].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", READER, *map(str, files.values())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {name: said[str(file)] for name, file in files.items()} == dict.fromkeys(cases, "UnsafePickle")
    assert not marker.exists()
    executed = [name for name in cases if executes(files[name], marker)]
    assert set(executed) >= {"os.system", "eval", "Popen", "INST", "OBJ", "GLOBAL", "below the marks", "a dotted name"}


def executes(file: Path, marker: Path) -> bool:
    """Say whether pickle's own reader executes a file; the control that makes the test above mean something."""
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=False)
    for _ in range(50):
        if marker.exists():
            marker.unlink()
            return True
        if "Popen" not in file.read_bytes().decode("latin-1"):
            return False
        time.sleep(0.05)  # it started another process, and did not wait
    return False


def test_a_pickle_cut_short_anywhere_is_refused() -> None:
    """At each byte."""
    data = pickle.dumps({"a": [1, "text", ("x", 2.5)], "b": {"c": b"bytes", "d": {1, 2}}})
    for end in range(len(data)):
        with pytest.raises(InvalidInput):
            read_pickle(data[:end], allowed=ALLOWED, where="f")


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_a_damaged_pickle_is_read_or_refused(data: st.DataObject) -> None:
    """Whatever bytes are changed in a real one: plain values come out, or a typed error."""
    real = Path(__file__).parent / "data" / "langchain_community-0.4.2" / "strange" / "index.pkl"
    changed = bytearray(real.read_bytes())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(changed) - 1), st.integers(0, 255)), max_size=6)
    ):
        changed[place] = value
    with contextlib.suppress(InvalidInput):
        read_pickle(bytes(changed), allowed=ALLOWED, where="f")


def _folder(tmp_path: Path, docstore: bytes, positions: bytes) -> Path:
    """Write a folder whose pickle has these opcodes for the dictionary of documents and for the positions."""
    vectors = faiss.IndexFlatL2(2)
    vectors.add(np.eye(2, dtype=np.float32))
    faiss.write_index(vectors, str(tmp_path / "index.faiss"))
    store = _named("langchain_community.docstore.in_memory", "InMemoryDocstore")
    content = store + b")\x81}(" + _text("_dict") + docstore + b"ub" + positions
    (tmp_path / "index.pkl").write_bytes(b"\x80\x04" + content + b"\x86.")
    return tmp_path


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _named(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"


def _document(metadata: bytes = b"}", fields: bytes = b"") -> bytes:
    made = _named("langchain_core.documents.base", "Document") + b")\x81}("
    return made + _text("page_content") + _text("text") + _text("metadata") + metadata + fields + b"ub"


def _long(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


_ONE = b"}(" + _text("a") + _document() + b"u"
_AT_ZERO = b"}(K\x00" + _text("a") + b"u"
_NAMED_OFTEN = b"(" + _text("A" * 20_000) + b"q\x05" + b"h\x05" * 20_000  # 400 MB, if it were written out
_COLLIDING = b"".join(_long(k * ((1 << 61) - 1)) + b"N" for k in range(1, 3000))
_ZEROS = struct.pack("<i", 100_000) + b"\x7f" * 100_000
_PATHS = _named("pathlib", "PosixPath") + _NAMED_OFTEN + b"tR"

BOMBS = {
    "a number of a vector that names a long string often": (_ONE, b"}(" + _NAMED_OFTEN + b"t" + _text("a") + b"u"),
    "an id that names a long string often": (b"}(" + _NAMED_OFTEN + b"t" + _document() + b"u", _AT_ZERO),
    "a field that names a long string often": (
        b"}(" + _text("a") + _document(fields=_NAMED_OFTEN + b"tN") + b"u",
        _AT_ZERO,
    ),
    "numbers that collide in metadata": (
        b"}(" + _text("a") + _document(b"}(" + _COLLIDING + b"u") + b"u",
        _AT_ZERO,
    ),
    "numbers that collide as positions": (_ONE, b"}(" + _COLLIDING + b"u"),
    "sets by the hundred thousand": (b"}(" + _text("a") + b"]" + b"(" + b"\x8f" * 600_000 + b"eu", _AT_ZERO),
    "a long number as a key, again and again": (b"}(" + _text("a") + b"}(\x8b" + _ZEROS + b"Nuu", _AT_ZERO),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_pickle_takes_little_memory_and_is_refused(bomb: str, tmp_path: Path) -> None:
    """A pickle that comes to many times its size, or whose keys collide, is refused before it does."""
    folder = _folder(tmp_path, *BOMBS[bomb])
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            read_folder(folder, "index")
        assert tracemalloc.get_traced_memory()[1] < 110 << 20
    finally:
        tracemalloc.stop()


def test_a_path_of_many_long_parts_is_left_out(tmp_path: Path) -> None:
    """A path that names one long part many times is not put together; it is left out, and counted."""
    metadata = b"}(" + _text("k") + _PATHS + b"u"
    tracemalloc.start()
    try:
        read = read_folder(_folder(tmp_path, b"}(" + _text("a") + _document(metadata) + b"u", _AT_ZERO), "index")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
    assert [(change.field, change.became) for change in read.changed] == [("k", "left out")]


def test_many_documents_are_read_by_any_numbers_of_rows() -> None:
    """Thousands of positions from 0 on, as LangChain writes them, are no bomb."""
    documents = {str(n): n for n in range(5000)}
    assert read_pickle(pickle.dumps({n: str(n) for n in range(5000)}), allowed=ALLOWED, where="x")[4999] == "4999"
    assert read_pickle(pickle.dumps(documents), allowed=ALLOWED, where="x") == documents
