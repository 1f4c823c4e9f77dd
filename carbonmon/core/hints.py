"""What to say of a word that is none: the one that was meant, or what there is."""

from __future__ import annotations

from collections.abc import Iterable


def meant(word: str, words: Iterable[str]) -> str:
    """`did you mean 'x'?` where a word is like this one, else all of them."""
    import difflib

    words = list(words)
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(words)}"


def nearest_runs(run_id: str, known: Iterable[str], *, by_name: bool = False) -> str:
    """The ids that are like this one, `by_name` the names in them as well; else how many there are."""
    import difflib

    known = list(known)
    near = difflib.get_close_matches(run_id, known, n=3)
    if not near and by_name:
        names = {each.split("-", 2)[2] for each in known if each.count("-") > 1}  # behind date and time
        near = difflib.get_close_matches(run_id, sorted(names), n=3)
    return f"nearest: {', '.join(near)}" if near else f"there are {len(known)} runs in it"
