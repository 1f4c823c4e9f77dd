"""A stand-in for ROCm's Python package `amdsmi`: the calls of a monitor, on the simulated library.

It behaves as the package of ROCm 7.0 does: it loads the library and binds every function at its import, says
N/A for 0xFFFF, passes longer sentinels through, and takes no handles but its own.
"""

from __future__ import annotations

from .interface import *  # noqa: F403
from .interface import AmdSmiException as AmdSmiException
from .interface import AmdSmiLibraryException as AmdSmiLibraryException
from .version import __version__ as __version__
