"""carbonmon: a live power and carbon monitor for training jobs."""

from carbonmon.version import __version__

__all__ = ("Phase", "Run", "__version__", "track")

TYPE_CHECKING = False  # typing's own would cost its import; type checkers know the name
if TYPE_CHECKING:
    from carbonmon.client.track import Phase, Run, track


def __getattr__(name: str) -> object:
    """What training code uses, imported when it is first used (PEP 562)."""
    if name in ("Phase", "Run", "track"):
        from carbonmon.client import track as client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
