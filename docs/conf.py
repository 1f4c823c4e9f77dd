"""Sphinx settings of the documentation; `make docs` builds it into build/docs/html, with warnings as errors.

Some pages live outside docs/, where people look for them (CHANGELOG.md, deploy/*/README.md, …). Each has a
short page here that links to it; while the site is built, that page is replaced by the file itself. Links
between files are written as paths that also work in a checkout, and are mapped to pages of the site.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path

from sphinx.application import Sphinx

from carbonmon.version import __version__

TREE = Path(__file__).resolve().parent.parent
DOCS = TREE / "docs"

project = "carbonmon"
release = version = __version__
html_title = f"carbonmon {__version__}"
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the texts name units and shapes; the signatures have the types
suppress_warnings = ["misc.highlighting_failure"]  # console blocks hold output that no lexer knows

OUTSIDE = {
    "changelog": "CHANGELOG.md",
    "develop/contributing": "CONTRIBUTING.md",
    "develop/findings": "findings/README.md",
    "develop/security": "SECURITY.md",
    "use/data": "carbonmon/data/SOURCES.md",
    "use/deploy-docker": "deploy/docker/README.md",
    "use/deploy-grafana": "deploy/grafana/README.md",
    "use/deploy-kubernetes-files": "deploy/kubernetes/README.md",
    "use/deploy-slurm-hooks": "deploy/slurm/README.md",
    "use/deploy-systemd": "deploy/systemd/README.md",
}
"""Pages whose text is a file outside of docs/."""

_PAGE_OF = {TREE / file: DOCS / f"{page}.md" for page, file in OUTSIDE.items()}
_LINK = re.compile(r"(\]\()(?!https?://|mailto:|#)([^)#\s]+)")


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Take the text from outside where it lives there, and map its links."""
    file = TREE / OUTSIDE[page] if page in OUTSIDE else DOCS / f"{page}.md"
    if page in OUTSIDE:
        source[0] = file.read_text(encoding="utf-8")
        app.env.note_dependency(str(file))
    here = (DOCS / page).parent

    def mapped(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(file.parent / match[2]))
        return match[1] + os.path.relpath(_PAGE_OF.get(target, target), here)

    source[0] = _LINK.sub(mapped, source[0])


def setup(app: Sphinx) -> None:
    """Sphinx calls this at the start of a build."""
    app.connect("source-read", read_page)
