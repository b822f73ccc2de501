"""Reading another program's pickle without executing it.

A pickle is a program: a restricted ``pickle.Unpickler`` still calls what it lets through, runs ``__setstate__``, and
can be made to take all memory by one opcode that names a large slot. So there is no unpickler here. The disassembler of
the standard library, `pickletools.genops`, says which opcodes there are; they are followed on a stack of plain data. A
class or function is never looked up: it is a `Name`, and what a call of it would have made is an `Instance`, which
keeps name and arguments. A name that is not expected is refused.
"""

from __future__ import annotations

import io
import pickletools
import reprlib
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from reperio.errors import InvalidInput, UnsafePickle

MAX_BYTES = 4 << 30
"""A longer pickle is not read: it must fit into memory, several times over."""

_SHOWN = 100
_EXPANSION = 32  # bytes of memory that one byte of a pickle may come to, on average, in addition to...
_EXPANSION_LEAST = 64 << 20  # ...this many for all of it
_ITEM = 8  # bytes that a list takes per item
_PAIR = 100  # that a dictionary or a set takes per entry, with what grows ahead
_FEW_NUMBERS = 1000  # keys that are numbers hash to what their maker likes: few of them cost little
_KEY_BITS = 4096  # of a number as a key: its hash is computed each time it is used
_KEY_PARTS = 100  # of a tuple as a key: likewise


class Name(NamedTuple):
    """A class or function that a pickle names; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False, repr=False)  # equal only to itself; what it holds may be too long to show
class Instance:
    """The object that a pickle would have made by calling *made_by*; nothing was called."""

    made_by: Name
    arguments: tuple[Any, ...]  # that it would have been called with
    state: Any = None  # that would have been set; None where none would
    items: list[tuple[Any, Any]] = field(default_factory=list)  # pairs that would have been stored in it


def shown(value: Any) -> str:
    """Return a value for a message; however often it names a long one, no long text is made of it."""
    if isinstance(value, int) and value.bit_length() > _KEY_BITS:
        return f"an integer of {value.bit_length():,} bits"
    return _SHORT.repr(value)[:_SHOWN]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2
_KEYS = (str, int, float, bool, type(None), bytes, Instance)
_MARK = object()
_Action: TypeAlias = "Callable[[_Machine, Any], None]"


def read_pickle(data: bytes, *, allowed: Collection[Name], where: str, numbers_below: int = 0) -> Any:
    """Return what a pickle holds: plain data, `Name` and `Instance`.

    Args:
        data: the pickle, of any protocol that Python 3 writes.
        allowed: the classes and functions that may be named.
        where: the file, for messages.
        numbers_below: numbers of things elsewhere, of which there are so many, may be keys; see `to_keys`.

    Raises:
        UnsafePickle: it names something else, or uses an opcode that plain data and objects do without.
        InvalidInput: it is damaged, too long, or no pickle.
    """
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{where} has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    machine, file = _Machine(frozenset(allowed), where), io.BytesIO(data)
    machine.left = _EXPANSION_LEAST + _EXPANSION * len(data)
    machine.numbers_below = numbers_below
    try:
        for opcode, argument, _ in pickletools.genops(file):
            action = _ACTIONS.get(opcode.name)
            if action is None:
                raise UnsafePickle(
                    f"{where} was not read: it uses the opcode {opcode.name}, which documents and plain data do "
                    "without. Nothing of it was executed"
                )
            action(machine, argument)
        result = machine.result()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, DeprecationWarning) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{where} cannot be read as a pickle: it is damaged or cut short ({error!s:.200})") from None
    # A second pickle, or anything else, may hide behind the first.
    if file.tell() != len(data):
        raise UnsafePickle(f"{where} was not read: {len(data) - file.tell():,} bytes follow the end of the pickle")
    return result


class _Machine:
    """The stack, the marks and the memo."""

    __slots__ = ("allowed", "left", "memo", "numbers_below", "stack", "where")

    def __init__(self, allowed: frozenset[Name], where: str) -> None:
        self.allowed = allowed
        self.where = where
        self.left = _EXPANSION_LEAST
        self.numbers_below = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}  # however large the number of a slot, it takes one entry

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_made(self, value: Any) -> None:
        """Push an object that takes more memory than what made it takes in the file."""
        self.spend(sys.getsizeof(value))
        self.stack.append(value)

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise InvalidInput(
                f"{self.where} was not read: in memory, what it holds comes to many times its size. If it is yours, "
                "take what is unusual in its documents' metadata out, and save the store again"
            )

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value should be")
        return value

    def popped(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def to_mark(self) -> list[Any]:
        """Take what was pushed since the last mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("there is no mark")
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def top(self, kind: type | tuple[type, ...]) -> Any:
        value = self.stack[-1]
        if not isinstance(value, kind) or type(value) is Name:
            raise ValueError(f"a {type(value).__name__} is treated as if it were something else")
        return value

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name is no string")
        found = Name(module, name)
        if found not in self.allowed:
            raise UnsafePickle(
                f"{self.where} was not read: it holds {found!s:.{_SHOWN}}, which is none of the document classes and "
                "plain values that are expected there. Nothing of it was executed. If it is in a document's metadata, "
                "take it out, and save the store again"
            )
        self.push(found)

    def call(self, made_by: Any, arguments: Any) -> None:
        if type(made_by) is not Name or type(arguments) is not tuple:
            raise UnsafePickle(f"{self.where} was not read: it calls a {type(made_by).__name__}; nothing was executed")
        self.push_made(Instance(made_by, arguments))

    def call_with_keywords(self, made_by: Any, arguments: Any, keywords: Any) -> None:
        if keywords != {}:
            raise UnsafePickle(f"{self.where} was not read: it calls {made_by!s:.{_SHOWN}} with keyword arguments")
        self.call(made_by, arguments)

    def build(self) -> None:
        state = self.pop()
        target = self.top(Instance)
        if target.state is not None:
            raise ValueError("the state of an object is set twice")
        target.state = state

    def extend_dict(self, pairs: list[Any]) -> None:
        keys, values = _halves(pairs)
        target = self.top((dict, Instance))
        self.spend(_PAIR * len(keys))
        if isinstance(target, Instance):
            target.items += zip(map(to_key, keys), values, strict=True)
        else:
            target.update(zip(to_keys(keys, beside=len(target), below=self.numbers_below), values, strict=True))

    def extend_set(self, values: list[Any]) -> None:
        self.spend(_PAIR * len(values))
        target = self.top(set)
        target.update(to_keys(values, beside=len(target)))

    def extend_list(self, values: list[Any]) -> None:
        self.spend(_ITEM * len(values))
        self.top(list).extend(values)

    def result(self) -> Any:
        value = self.pop()
        if self.stack:
            raise ValueError("more than one value is left")
        return value


def to_key(value: Any) -> Any:
    """Return what may be a key or in a set; a deeply nested tuple would overflow the C stack when it is hashed."""
    flat = value if type(value) is tuple else (value,)
    if len(flat) > _KEY_PARTS or not all(type(part) in _KEYS for part in flat):
        raise ValueError(f"a {type(value).__name__} that is long, nested or cannot be hashed is used as a key")
    if any(type(part) is int and part.bit_length() > _KEY_BITS for part in flat):
        raise ValueError(f"an integer of more than {_KEY_BITS} bits is used as a key")
    return value


def to_keys(values: list[Any], *, beside: int = 0, below: int = 0) -> list[Any]:
    """Return what may be keys of one dictionary or set that has *beside* others; see `to_key`.

    Strings hash differently in each process, numbers do not: somebody may choose many that collide, and each new one
    is compared with all before. Many numbers must therefore be those of rows, of which there are about as many, or lie
    below a number that the caller knows to be small: it bounds how many of them can collide.
    """
    keys = [to_key(value) for value in values]
    total = beside + len(keys)
    if total > _FEW_NUMBERS:
        for key in keys:
            if type(key) not in (str, bytes, Instance) and not (type(key) is int and 0 <= key < max(2 * total, below)):
                raise ValueError(f"{shown(key)} is among {total:,} keys; that many are strings, or numbers from 0 on")
    return keys


def _memoize(machine: _Machine, slot: int) -> None:
    if machine.stack[-1] is _MARK:
        raise ValueError("a mark is memorized")
    machine.memo[slot] = machine.stack[-1]


def _pushing(make: Callable[[_Machine], Any]) -> _Action:
    return lambda machine, _: machine.push_made(make(machine))


def _halves(pairs: list[Any]) -> tuple[list[Any], list[Any]]:
    if len(pairs) % 2:
        raise ValueError("a key without a value")
    return pairs[::2], pairs[1::2]


def _dictionary(machine: _Machine) -> dict[Any, Any]:
    keys, values = _halves(machine.to_mark())
    return dict(zip(to_keys(keys), values, strict=True))


# Missing on purpose: INST, OBJ, EXT1/2/4 (calls by other ways), PERSID, BINPERSID, NEXT_BUFFER, READONLY_BUFFER (what
# lies outside the file), STRING, BINSTRING, SHORT_BINSTRING (Python 2).
_ACTIONS: dict[str, _Action] = {
    # The first two tell how to read, the last one that it is over.
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda _machine, _argument: None),
    **dict.fromkeys(
        (
            *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
            *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
            *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        ),
        _Machine.push,
    ),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(_MARK),
    "EMPTY_LIST": _pushing(lambda _: []),
    "EMPTY_DICT": _pushing(lambda _: {}),
    "EMPTY_SET": _pushing(lambda _: set()),
    "EMPTY_TUPLE": _pushing(lambda _: ()),
    "TUPLE1": _pushing(lambda machine: tuple(machine.popped(1))),
    "TUPLE2": _pushing(lambda machine: tuple(machine.popped(2))),
    "TUPLE3": _pushing(lambda machine: tuple(machine.popped(3))),
    "TUPLE": _pushing(lambda machine: tuple(machine.to_mark())),
    "LIST": _pushing(_Machine.to_mark),
    "DICT": _pushing(_dictionary),
    "FROZENSET": _pushing(lambda machine: frozenset(to_keys(machine.to_mark()))),
    "APPEND": lambda machine, _: machine.extend_list(machine.popped(1)),
    "APPENDS": lambda machine, _: machine.extend_list(machine.to_mark()),
    "SETITEM": lambda machine, _: machine.extend_dict(machine.popped(2)),
    "SETITEMS": lambda machine, _: machine.extend_dict(machine.to_mark()),
    "ADDITEMS": lambda machine, _: machine.extend_set(machine.to_mark()),
    "POP": lambda machine, _: machine.stack.__delitem__(-1),
    "POP_MARK": lambda machine, _: machine.to_mark().clear(),
    "DUP": lambda machine, _: machine.push(machine.top(object)),
    "MEMOIZE": lambda machine, _: _memoize(machine, len(machine.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, slot: machine.push(machine.memo[slot])),
    "GLOBAL": lambda machine, both: machine.name(*both.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.popped(2)),
    "REDUCE": lambda machine, _: machine.call(*machine.popped(2)),
    "NEWOBJ": lambda machine, _: machine.call(*machine.popped(2)),
    "NEWOBJ_EX": lambda machine, _: machine.call_with_keywords(*machine.popped(3)),
    "BUILD": lambda machine, _: machine.build(),
}
