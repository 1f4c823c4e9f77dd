"""How to mend a line that is no TOML: what people write who know YAML, JSON, Python or shell variables."""

from __future__ import annotations

import re

_KEY = r"\s*([A-Za-z][\w-]*)\s*"


def hint(text: str, reason: str) -> str:
    """What to write instead, with a semicolon before it; "" where the line says nothing of its kind."""
    lines = [line for line in text.splitlines() if line.strip()]
    if found := re.search(r"at line (\d+)", reason):
        line = (text.splitlines() or [""])[min(int(found[1]), text.count("\n") + 1) - 1 :][:1]
    else:  # at the end of the document
        line = lines[-1:]
    said = _said("".join(line).partition(" #")[0], reason)
    return f"; {said}" if said else ""


def _said(line: str, reason: str) -> str:
    if "overwrite" in reason and (match := re.match(_KEY, line)):
        return f"{match[1]} is given twice: leave one out"
    if any(quote in line for quote in "“”„‘’«»"):
        return 'the quotation marks must be straight: "'
    if match := re.match(_KEY + r":\s*(\S.*)?$", line):
        return f"this is YAML; in TOML: {match[1]} = …, texts in quotation marks"
    if line.lstrip().startswith("{"):
        return 'this is JSON; in TOML a line for each: region = "FR"'
    match = re.match(_KEY + r"=\s*(.*?)\s*$", line)
    if match is None:
        return 'a line is KEY = VALUE: region = "FR"'
    key, value = match[1], match[2]
    if "{" in value and "for a key part" in reason:
        # TOML 1.1 allows it, which tomllib reads from Python 3.15 on, and tomli on Python 3.10.
        one_line = f'{key} = {{ team = "nlp", user = "ann" }}'
        return f"a table in braces is on one line, without a comma at its end: {one_line}"
    if value in ("True", "False", "yes", "no", "on", "off"):
        return f"write true or false: {key} = {'true' if value in ('True', 'yes', 'on') else 'false'}"
    if value in ("None", "null", ""):
        return f"there is no empty value: leave the line of {key} out"
    if re.fullmatch(r"[-+]?\d+,\d+", value):
        return f"a point in place of the comma: {key} = {value.replace(',', '.')}"
    if re.fullmatch(r"[A-Za-z/.~][^\s\"']*|\d[\w.]*[A-Za-z%][\w/%]*", value):
        return f'quote texts: {key} = "…"'
    if value.count('"') % 2 or value.count("'") % 2:
        return f"the quotation mark behind the value of {key} is missing"
    return ""
