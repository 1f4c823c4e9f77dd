"""Whether the driver's NVML can be loaded: asked before its Python binding is imported, which takes 6 MB."""

from __future__ import annotations

import sys

NAME = "libnvidia-ml.so.1"
NOT_FOUND = "NVML: NVML Shared Library Not Found"
"""As nvidia-ml-py words NVML_ERROR_LIBRARY_NOT_FOUND."""


def is_here() -> bool:
    """Whether the binding would find the library: it loads it by the same name (nvidia-ml-py 13 on Linux)."""
    if "pynvml" in sys.modules or sys.platform != "linux":
        return True
    import ctypes

    try:
        ctypes.CDLL(NAME)
    except OSError:
        return False
    return True
