"""The command line: thin click commands over `carbonmon.service`; each is imported when it is called.

`plain_run.py` starts a job without click, `group.py` is everything else.
"""

TYPE_CHECKING = False  # typing's own would cost its import; type checkers know the name
if TYPE_CHECKING:
    from carbonmon.cli.group import _COMMANDS, grouped, main

__all__ = ("_COMMANDS", "grouped", "main")


def __getattr__(name: str) -> object:
    """The group of commands, imported when it is first used (PEP 562)."""
    if name in __all__:
        from carbonmon.cli import group

        return getattr(group, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
