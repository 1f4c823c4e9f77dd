"""Names and numbers in Markdown and YAML, whatever characters are in a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from carbonmon.core.plain_text import without_exponent
from carbonmon.runs.summary.strings import encodable, one_line

_SPECIAL = re.compile(r"[\\`*{}\[\]<>#|~$&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINK = re.compile(r"(?i)\b(https?|ftp)(://)|\b(www)(\.)")
_BLOCK = re.compile(r"^(?:[-+]|\d{1,9}[.)])(?=\s|$)|^[-=](?=[-=\s]*$)")


def readable(text: str, width: int = 200) -> str:
    """The text in one line of printable characters, at most `width` of them; no markup."""
    return one_line(" ".join(encodable(text).split()), width)


def escaped(text: str, width: int = 200) -> str:
    """Return the text so that Markdown (GitHub's) shows it as it is, in a table as well; in one line.

    An underscore within a word has no meaning in Markdown and stays, so that names are readable there too.
    """
    marked = _SPECIAL.sub(
        lambda found: f"\\{found[0]}" if found[0] not in "<>&" else _ENTITIES[found[0]],
        readable(text, width),
    )
    marked = _LINK.sub(lambda found: f"{found[1] or found[3]}\\{found[2] or found[4]}", marked)
    return _BLOCK.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", marked)


_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> list[str]:
    """A table of cells that are Markdown already; the columns in `numbers` are aligned to the right."""
    rule = ["---:" if column in numbers else "---" for column in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def yaml_text(text: str) -> str:
    """A double-quoted YAML scalar (1.1 and 1.2) for any text, in one line."""
    quoted = "".join(_yaml_character(character) for character in encodable(text))
    return f'"{quoted}"'


def _yaml_character(character: str) -> str:
    if character in '\\"':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def yaml_number(number: float) -> str:
    """Six significant digits, never in powers of ten: YAML 1.1 takes 1e-05 for a text."""
    return without_exponent(f"{number:.6g}")
