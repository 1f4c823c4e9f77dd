"""What is TOML for one version of Python and none for another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from carbonmon.core.documents import read_toml
from carbonmon.core.errors import ConfigError
from carbonmon.core.toml_mistakes import hint

REASON = "Invalid initial character for a key part (at line 1, column 10)"
"""Of tomllib in Python 3.11 to 3.14."""

TABLES = ['label = {\n  team = "nlp"\n}\n', 'label = {team = "nlp",\n}\n', 'label = { team = "nlp", }\n']


@pytest.mark.parametrize("text", TABLES)
def test_a_table_that_is_toml_1_1_is_read_or_refused_with_the_way_that_all_versions_read(
    text: str, tmp_path: Path
):
    path = tmp_path / "carbonmon.toml"
    path.write_text(text)
    if (3, 11) <= sys.version_info < (3, 15):
        with pytest.raises(ConfigError, match="a table in braces is on one line, without a comma at its end"):
            read_toml(path)
    else:
        assert read_toml(path) == {"label": {"team": "nlp"}}


def test_the_way_that_is_told_is_toml_for_every_version(tmp_path: Path):
    told = hint(TABLES[0], REASON)
    path = tmp_path / "carbonmon.toml"
    path.write_text(told.partition("at its end: ")[2])
    assert read_toml(path) == {"label": {"team": "nlp", "user": "ann"}}


@pytest.mark.parametrize("text", ["label = 1\n", "[la,bel]\n", 'label = "}"\n'])
def test_only_a_table_in_braces_is_told_to_be_on_one_line(text: str):
    assert "braces" not in hint(text, REASON)
