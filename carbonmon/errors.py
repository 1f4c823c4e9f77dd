"""The errors that plug-ins raise: the public name of `carbonmon.core.errors`."""

from carbonmon.core.errors import *  # noqa: F403
