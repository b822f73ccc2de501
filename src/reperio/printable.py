"""Texts that others chose, made harmless for whoever reads them: in a terminal, a report or a log.

Paths, ids, questions and texts are data of unknown origin. A control character in them would be a command to the
terminal, a line break would forge a line of a log, and a bidirectional mark would turn text around. Whatever prints
such a text takes it from here.
"""

from __future__ import annotations

import logging
from typing import Any

_HARMFUL = dict.fromkeys(
    [
        *(*range(0x20), *range(0x7F, 0xA0)),  # control characters: ESC, BEL, line breaks among them
        *(0x2028, 0x2029),  # separators of lines and paragraphs
        *(0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # marks of direction
        *(*range(0xD800, 0xE000), 0xFFFE, 0xFFFF),  # half surrogate pairs have no bytes, and XML refuses the others
    ],
    "\ufffd",
)

_TAGS = range(0xE0000, 0xE0080)
_HARMFUL_IN_TEXT = {sign: by for sign, by in _HARMFUL.items() if chr(sign) not in "\t\n\r"} | dict.fromkeys(
    _TAGS, "\ufffd"
)


def one_line(text: str, *, keep_spaces: bool = False) -> str:
    """Return a text as one line without control characters and marks of direction, each replaced by U+FFFD.

    Args:
        text: any.
        keep_spaces: leave spaces as they are, and show line breaks and tabs as U+FFFD, too; else whatever is blank
            becomes one space.
    """
    return (text if keep_spaces else " ".join(text.split())).translate(_HARMFUL)


def harmless(text: str) -> str:
    """Return a text with its line breaks and tabs, and U+FFFD for each other sign that commands, turns or hides text.

    Positions stay as they are. Besides what `one_line` replaces, Unicode's tags go, which only a model can read.
    """
    return text.translate(_HARMFUL_IN_TEXT)


def logger(name: str) -> logging.Logger:
    """Return the logger of that name, whose records have one line each, whatever is in their arguments."""
    found = logging.getLogger(name)
    found.addFilter(_ONE_LINE)  # once, however often it is added
    return found


class _OneLine(logging.Filter):
    """Cleans the arguments of a record; its message is the package's own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, cleaned."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(_harmless, record.args))
        return True


_ONE_LINE = _OneLine()


def _harmless(argument: Any) -> Any:
    return argument if isinstance(argument, (int, float)) else one_line(str(argument), keep_spaces=True)
