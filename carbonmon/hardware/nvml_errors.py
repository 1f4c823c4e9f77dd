"""What NVML's errors mean for who called it: values of nvmlReturn_t (nvml.h)."""

from __future__ import annotations

UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED = 1, 3, 4, 9
LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, VERSIONS_DIFFER = 12, 13, 18

NOT_SUPPORTED_ERRORS = (NOT_SUPPORTED, FUNCTION_NOT_FOUND)
"""This driver or this GPU will not do it: asking again soon is in vain."""

DRIVER_ERRORS = (UNINITIALIZED, DRIVER_NOT_LOADED, VERSIONS_DIFFER)
"""The whole driver is away, or was loaded anew: every handle is void."""

REMEDIES = {
    NO_PERMISSION: (
        "ls -l /dev/nvidia*   # this user may not open them; in a container: docker run --gpus all"
    ),
    DRIVER_NOT_LOADED: "sudo modprobe nvidia   # the driver is installed but not loaded",
    LIBRARY_NOT_FOUND: (
        "install the NVIDIA driver (its libnvidia-ml.so.1); in a container: docker run --gpus all"
    ),
    VERSIONS_DIFFER: "sudo reboot   # driver and library differ: a driver update waits for a restart",
}
"""What mends an error, for people."""

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""A driver that is away is looked for after a second, then ever more seldom."""
