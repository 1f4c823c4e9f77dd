"""Makes strings of users (names, labels, command lines) valid for a file, a label or a terminal."""

from __future__ import annotations

from carbonmon.core.plain_text import plain


def encodable(text: str) -> str:
    r"""Return the text so that UTF-8 can hold it.

    A command line that is not UTF-8 reaches Python with lone surrogates, which no encoder takes: they
    become `\udcff` in plain characters, so that nothing is lost and no scrape fails over a name.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def counted(name: str) -> tuple[int, str]:
    """How many of what: `10 × V100` is (10, "V100"), as an estimate names its devices; else one of it."""
    count, _, rest = name.partition(" × ")
    is_count = count.isascii() and count.isdecimal() and len(count) < 8
    return (int(count), rest) if is_count and rest else (1, name)


def one_line(text: str, width: int) -> str:
    """Return the text for a terminal: in printable characters, and at most `width` of them."""
    shown = plain(text)
    return shown if len(shown) <= width else shown[: width - 2] + ".."
