#!/usr/bin/env bash
# tomli 2.5.0, the backport of tomllib, reads files that tomllib of Python 3.11 to 3.14 refuses.
#
# Expected: a backport reads what the original reads, so that a file which is good on Python 3.10 is good on newer ones.
# Seen (2026-11-30, Linux x86_64, CPython 3.11.7): tomli reads TOML 1.1, tomllib 1.0 (Python 3.15 reads 1.1 again, by its
# documentation). A table in braces over two lines, a comma at the end of one, a time without seconds and \e:
#   tomli: 4 of 4, tomllib: 0 of 4
#
# So a settings file works on a node with Python 3.10 and ends the job's start on one with 3.12. carbonmon reads with tomli on 3.10
# and tomllib later. Its error says how to write such a table for all: carbonmon/core/toml_mistakes.py, docs/use/running.md.
#
# Needs python3 of 3.11 to 3.14. Exit code: 0 as described, 1 different now, 2 the package or such a Python cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo "needs Python 3.11 to 3.14"; exit 2; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile tomli==2.5.0 2>/dev/null || exit 2
now=$("$folder/venv/bin/python" - <<'PYTHON'
import tomllib

import tomli

TEXTS = ('gpu = {name = "A100",\n  count = 8}', "gpu = {count = 8,}", "from = 07:30", r'bold = "\e[1m"')


def reads(loads, text):
    try:
        return bool(loads(text))
    except ValueError:
        return False


told = (f"{one.__name__}: {sum(reads(one.loads, text) for text in TEXTS)} of {len(TEXTS)}" for one in (tomli, tomllib))
print(", ".join(told))
PYTHON
)
echo "seen now: $now"
[ "$now" = "tomli: 4 of 4, tomllib: 0 of 4" ]
