"""The interfaces that plug-ins implement: the public name of `carbonmon.core.ports`."""

from carbonmon.core.ports import *  # noqa: F403
