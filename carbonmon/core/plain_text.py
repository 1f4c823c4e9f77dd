r"""Makes any text safe to print: names of runs, labels, hosts, devices, command lines, what a server said.

A terminal obeys escape sequences, a viewer reorders text by bidirectional marks, a spreadsheet computes what
begins like a formula, and no encoder takes half a surrogate pair. Each such character becomes its escape,
as Python writes it (`\x1b`, `\u202e`), so that a reader sees that it was there.
"""

from __future__ import annotations

import re

from carbonmon.core.patterns import pattern

_UNUSUAL = pattern(r"[^ -~]")
_UNUSUAL_IN_LINES = pattern(r"[^\n -~]")

_SPACES = frozenset(
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
"""Spaces of other widths (Unicode's category Zs): harmless, and shown as a space."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What makes a cell a formula in spreadsheets, also in full width
(https://owasp.org/www-community/attacks/CSV_Injection)."""


def plain(text: str) -> str:
    """The text in one line of printable characters; all others are escaped, line ends too."""
    return text if text.isprintable() else _UNUSUAL.sub(_shown, text)


def plain_lines(text: str) -> str:
    r"""The same for a text of several lines: `\n` stays."""
    return text if text.isprintable() else _UNUSUAL_IN_LINES.sub(_shown, text)


def without_exponent(number: str) -> str:
    """A number without a power of ten (`0.00001` for `1e-05`), which not every reader takes for a number."""
    if "e" not in number:
        return number
    from decimal import Decimal  # slow to load, and seldom needed

    return format(Decimal(number), "f")


def plain_json(document: str) -> str:
    """A JSON document with the same values, in which what cannot be printed stands as JSON's own escape."""
    # Of ASCII, JSON itself escapes all that cannot be printed but DEL. That is told at once; of a checkpoint,
    # `isprintable` takes a tenth of all that it costs.
    if document.isascii() and "\x7f" not in document:
        return document
    return document if document.isprintable() else _UNUSUAL_IN_LINES.sub(_json_escape, document)


def plain_cell(text: str) -> str:
    """The text for a cell of a table that a spreadsheet may open: one that begins like a formula gets a `'`.

    The apostrophe is what spreadsheets themselves mark a text with.
    """
    return f"'{plain(text)}" if text.startswith(_FORMULA) else plain(text)


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    if character in _SPACES:
        return " "
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable() or character in _SPACES:
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
