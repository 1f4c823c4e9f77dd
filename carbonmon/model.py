"""The records that plug-ins exchange with the monitor: the public name of `carbonmon.core.model`."""

from carbonmon.core.model import *  # noqa: F403
