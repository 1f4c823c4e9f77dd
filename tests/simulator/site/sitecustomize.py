"""Lets Habana's package find the simulated library: it knows one absolute path only."""

import os
import warnings

if "CARBONMON_SIM_HLML" in os.environ:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyhlml.hlml_lib import LibHLML

    LibHLML.__init__.__defaults__ = (os.environ["CARBONMON_SIM_HLML"],)
