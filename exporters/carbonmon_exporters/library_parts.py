"""Parts of prometheus_client without its package, whose `__init__` loads a server and a client of its own.

With these come http.server, urllib.request and OpenSSL: 9 MB and 0.04 s, of which a scrape uses nothing. What
defines families, the registry and the metrics of the process needs none of it.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_PACKAGE = "prometheus_client"


def spare_the_package() -> None:
    """Let `prometheus_client.registry` and its other parts be imported without the package's `__init__`.

    That runs when somebody asks for a name of the package itself. Nothing changes where it has run already.
    """
    if _PACKAGE in sys.modules:
        return
    spec = find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return  # the import that follows says what is missing
    package = module_from_spec(spec)
    _load_when_asked(package)
    sys.modules[_PACKAGE] = package


def _load_when_asked(package: ModuleType) -> None:
    lock = threading.RLock()
    is_loading = False

    def look_up(name: str) -> Any:  # PEP 562: asked for what the module does not have
        nonlocal is_loading
        if not name.startswith("_") and find_spec(f"{package.__name__}.{name}"):
            return import_module(f"{package.__name__}.{name}")  # not under our lock, as that may wait for us
        with lock:
            if name in vars(package):  # another thread has loaded it meanwhile
                return vars(package)[name]
            is_special = name.startswith("__") and name != "__all__"
            if is_special or is_loading or "__getattr__" not in vars(package):
                raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
            is_loading = True
            try:
                package.__spec__.loader.exec_module(package)  # type: ignore[union-attr]  # it was found by one
                del package.__getattr__
            finally:
                is_loading = False
        return getattr(package, name)

    package.__getattr__ = look_up  # type: ignore[method-assign]
