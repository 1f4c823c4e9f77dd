"""Makes strings of users (names, labels, command lines) valid for a file, a label or a terminal."""

from __future__ import annotations


def encodable(text: str) -> str:
    r"""Return the text so that UTF-8 can hold it.

    A command line that is not UTF-8 reaches Python with lone surrogates, which no encoder takes: they
    become `\udcff` in plain characters, so that nothing is lost and no scrape fails over a name.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str, width: int) -> str:
    """Return the text for a terminal: no control characters, at most `width` characters."""
    plain = "".join(character if character.isprintable() else "?" for character in encodable(text))
    return plain if len(plain) <= width else plain[: width - 2] + ".."
