"""The simulated NVML and the pynvml binding, held against the vendor's own nvml.h.

The header comes with the packages nvidia-nvml-dev (the 13 series) and nvidia-nvml-dev-cu12 (12); it is
compiled against and never copied.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pynvml
import pytest

from tests.simulator import build, can_build
from tests.simulator.layout import FUNCTIONS

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

PACKAGES = ("nvidia-nvml-dev", "nvidia-nvml-dev-cu12")
SOURCES = ("vendor_check.c", "nvml_core.c", "nvml_device.c", "nvml_readings.c")
# In the vendor's header codes are enums of several names, here they are numbers.
FLAGS = (*build.FLAGS, "-Wno-enum-conversion", "-Wno-enum-compare", "-Wno-enum-int-mismatch")

STRUCTURES = {
    "nvmlFieldValue_t": pynvml.c_nvmlFieldValue_t,
    "nvmlSample_t": pynvml.c_nvmlSample_t,
    "nvmlValue_t": pynvml.c_nvmlValue_t,
    "nvmlProcessInfo_t": pynvml.c_nvmlProcessInfo_v3_t,
    "nvmlProcessInfo_v2_t": pynvml.c_nvmlProcessInfo_v2_t,
    "nvmlProcessUtilizationSample_t": pynvml.c_nvmlProcessUtilizationSample_t,
    "nvmlUtilization_t": pynvml.c_nvmlUtilization_t,
    "nvmlC2cModeInfo_v1_t": pynvml.c_nvmlC2cModeInfo_v1_t,
    "nvmlMemory_t": pynvml.c_nvmlMemory_t,
    "nvmlPciInfo_t": pynvml.nvmlPciInfo_t,
    "nvmlDeviceAttributes_t": pynvml.c_nvmlDeviceAttributes,
}


@pytest.fixture(params=PACKAGES)
def header(request: pytest.FixtureRequest) -> Path:
    try:
        (found,) = (file for file in files(request.param) or () if file.name == "nvml.h")
    except PackageNotFoundError:
        pytest.skip(f"{request.param} is not installed: pip install --group dev")
    return Path(str(found.locate())).resolve()


def compiler_says(header: Path, source: Path | str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = ["gcc", *FLAGS, f'-DVENDOR_NVML_H="{header}"', *flags, str(source)]
    return subprocess.run(command, cwd=build.HERE, capture_output=True, text=True, check=False)


def answer(header: Path, folder: Path, lines: list[str]) -> dict[str, int]:
    """What a C program that includes the header prints for `name, expression` lines."""
    source = folder / "ask.c"
    body = "".join(f'    printf("\\"%s\\": %lld,\\n", {line});\n' for line in lines)
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include VENDOR_NVML_H\n"
        f'int main(void)\n{{\n    printf("{{");\n{body}    printf("\\"\\": 0}}");\n    return 0;\n}}\n'
    )
    program = folder / "ask"
    done = compiler_says(header, source, "-o", str(program))
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(subprocess.run([program], capture_output=True, check=True).stdout)
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_the_simulator_compiles_against_the_vendors_header(header: Path, source: str) -> None:
    done = compiler_says(header, source, "-fsyntax-only")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("source", "before", "after"),
    [
        ("nvml_types.h", "long long timestamp;", "int timestamp;"),  # a layout
        ("nvml_codes.h", "GPU_IS_LOST = 15", "GPU_IS_LOST = 16"),  # a constant
        (
            "nvml_readings.c",
            "unsigned long long *energy_mj)\n{",
            "unsigned int *energy_mj)\n{",
        ),  # a prototype
        ("functions.inc", "nvmlDeviceGetName", "nvmlDeviceGetNick"),  # a name
    ],
)
def test_a_difference_from_the_header_would_be_found(
    header: Path, tmp_path: Path, source: str, before: str, after: str
) -> None:
    for path in (*build.HERE.glob("*.c"), *build.HERE.glob("*.h"), *build.HERE.glob("*.inc")):
        text = path.read_text()
        assert path.name != source or before in text
        (tmp_path / path.name).write_text(text.replace(before, after) if path.name == source else text)
    checked = source if source.endswith(".c") else "vendor_check.c"
    assert compiler_says(header, tmp_path / checked, "-fsyntax-only").returncode != 0


def test_the_bindings_structures_have_the_headers_layout(header: Path, tmp_path: Path) -> None:
    lines, mine = [], {}
    for name, structure in STRUCTURES.items():
        lines.append(f'"{name}", (long long)sizeof({name})')
        mine[name] = ctypes.sizeof(structure)
        for field, *_ in structure._fields_:
            key = f"{name}.{field}"
            lines.append(f'"{key}", (long long)offsetof({name}, {field})')
            mine[key] = getattr(structure, field).offset
    found = answer(header, tmp_path, lines)
    assert {key: found[key] for key in mine} == mine


def test_the_bindings_constants_are_the_headers(header: Path, tmp_path: Path) -> None:
    """Of the 12 series the numbers up to field 250; the later fields were given other numbers in 13."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", header.read_text(), flags=re.DOTALL)
    words = set(re.findall(r"^\s*#define\s+(NVML_\w+)(?!\w*\()\s+\S", text, re.MULTILINE))
    words |= set(re.findall(r"^\s*(NVML_\w+)\s*(?:=[^,}]*)?,?\s*$", text, re.MULTILINE))
    mine = {word: getattr(pynvml, word) for word in words if isinstance(getattr(pynvml, word, None), int)}
    found = answer(header, tmp_path, [f'"{word}", (long long)({word})' for word in sorted(mine)])
    differ = {word for word, value in mine.items() if (value - found[word]) & 0xFFFFFFFF}
    if header.parts[-3] == "nvml_dev":  # the 12 series
        grown = {word for word in differ if re.search(r"_COUNT$|_MAX(_|$)|_NUM_", word)}
        moved = {
            word for word in differ if word.startswith("NVML_FI_") and min(mine[word], found[word]) > 250
        }
        differ -= grown | moved
    assert differ == set()
    assert len(mine) > 1000


def test_the_binding_has_every_function_that_the_simulator_serves() -> None:
    bare = {re.sub(r"_v\d$", "", name) for name in FUNCTIONS}
    assert {name for name in bare if not hasattr(pynvml, name)} == set()
