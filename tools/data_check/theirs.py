"""The figures that other projects ship, each with the name under which our look-ups would be asked for it."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tools.data_check.packages import CO2_JS, Packages

CO2 = CO2_JS[0].rpartition("@")[0]
G_PER_LB = 453.59237


class Figure(NamedTuple):
    """One figure: `value` is a number, or a place's ISO code; `year` is that of the data, "" if unknown."""

    kind: str
    key: str
    value: float | str
    source: str
    year: str = ""


def figures(packages: Packages) -> Iterator[Figure]:
    """All of them, kind by kind."""
    for reader in READERS:
        yield from reader(packages)


def _rows(packages: Packages, package: str, member: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(packages.text(package, member), newline=""))


def _number(text: str) -> float | None:
    plain = text.strip()
    return float(plain) if re.fullmatch(r"\d+(\.\d+)?", plain) else None


# ---- intensities of countries and their parts, in gCO2e/kWh ----


def _codecarbon_places(packages: Packages) -> Iterator[Figure]:
    folder = "data/private_infra/"
    countries: dict[str, dict[str, Any]] = json.loads(
        packages.text("codecarbon", f"{folder}global_energy_mix.json")
    )
    for iso3, row in countries.items():
        if row.get("carbon_intensity") is not None:
            yield Figure("country", iso3, row["carbon_intensity"], "CodeCarbon", str(row["year"]))
    states = json.loads(packages.text("codecarbon", f"{folder}2023/usa_emissions.json"))
    for name, row in states.items():
        if not name.startswith("_"):
            code = row["regionCode"].upper()
            yield Figure(
                "US state, direct", f"US-{code}", row["emissions"] * G_PER_LB / 1000, "CodeCarbon", "2023"
            )
    provinces = json.loads(packages.text("codecarbon", f"{folder}2023/china_provincial_emissions.json"))
    for code, row in provinces["data"].items():
        yield Figure("province of China", code, row["emission_factor"], "CodeCarbon", str(row["year"]))
    zones = json.loads(packages.text("codecarbon", f"{folder}nordic_emissions.json"))["data"]
    for code, row in zones.items():
        key = code if "-" in code else f"{code[:2]}-{code}"
        yield Figure("bidding zone", key, row["emission_factor"], "CodeCarbon", str(row["year"]))


def _ecologits_places(packages: Packages) -> Iterator[Figure]:
    mixes = json.loads(packages.text("ecologits", "data/electricity_mixes.json"))["electricity_mixes"]
    for mix in mixes:
        if mix["name"] not in ("EEE", "WOR"):
            yield Figure("country", mix["name"], mix["gwp"] * 1000.0, "EcoLogits")


def _boavizta_places(packages: Packages) -> Iterator[Figure]:
    """The figure of the best priority of each country; the lowest number is the best."""
    lines = list(csv.reader(io.StringIO(packages.text("boaviztapi", "crowdsourcing/electrical_mix.csv"))))
    codes = lines[0][7:]
    found: dict[str, Figure] = {}
    for line in sorted((line for line in lines if line[6] == "gwp"), key=lambda line: -int(line[4])):
        for code, text in zip(codes, line[7:], strict=False):
            kg = _number(text)
            if kg is not None and code not in ("WOR", "EEE", "SCG", "ANT"):
                found[code] = Figure("country", code, kg * 1000.0, "BoaviztAPI", line[5])
    yield from found.values()


def _co2js_places(packages: Packages) -> Iterator[Figure]:
    text = packages.text(CO2, "dist/esm/data/average-intensities.min.js")
    ember = re.search(r"\{[^{}]*\}", text)
    for code, value in json.loads(ember[0] if ember else "{}").items():
        if len(code) == 3 and code.isupper():
            yield Figure("country", code, float(value), "CO2.js, Ember")


_ELECTRICITY_MAPS = re.compile(
    r'"([A-Z0-9-]+)": \{ "zone": \{ "zoneName": "(?:[^"\\]|\\.)*"[^}]*\}, '
    r'"carbonIntensity": \{ "value": ([\d.]+)'
)


def _electricity_maps_places(packages: Packages) -> Iterator[Figure]:
    text = packages.text(CO2, "dist/esm/data/electricity-maps/yearly_2025.js")
    for code, value in _ELECTRICITY_MAPS.findall(text):
        kind = "country" if len(code) == 2 else "grid of a part"
        yield Figure(kind, code, float(value), "CO2.js, Electricity Maps", "2025")


# ---- clouds ----


def _codecarbon_clouds(packages: Packages) -> Iterator[Figure]:
    for row in _rows(packages, "codecarbon", "data/cloud/impact.csv"):
        key = f"{row['provider']}:{row['region']}"
        yield Figure("cloud place", key, row["countryIsoCode"], "CodeCarbon")
        grams = _number(row["impact"])
        if grams is not None:
            yield Figure("provider's figure", key, grams, "CodeCarbon")


def _boavizta_clouds(packages: Packages) -> Iterator[Figure]:
    for row in _rows(packages, "boaviztapi", "archetypes/cloud/regions.csv"):
        provider = "ovh" if row["provider"] == "ovhcloud" else row["provider"]
        yield Figure("cloud place", f"{provider}:{row['region']}", row["usage_location"], "BoaviztAPI")


# ---- hardware ----


def _codecarbon_cpus(packages: Packages) -> Iterator[Figure]:
    for row in _rows(packages, "codecarbon", "data/hardware/cpu_power.csv"):
        watts = _number(row["TDP"])
        if watts:
            yield Figure("CPU", " ".join(row["Name"].split()), watts, "CodeCarbon")


def _boavizta_cpus(packages: Packages) -> Iterator[Figure]:
    for row in _rows(packages, "boaviztapi", "crowdsourcing/cpu_specs.csv"):
        watts = _number(row["tdp"])
        if watts:
            yield Figure("CPU", row["name"], watts, "BoaviztAPI")


def _boavizta_gpus(packages: Packages) -> Iterator[Figure]:
    for name, kg in packages.boavizta_gpus().items():
        yield Figure(
            "making of a GPU",
            re.sub(r"^NVIDIA |(?<=[AH]00 PCIe) .*|(?<=B200) .*", "", name),
            kg,
            "BoaviztAPI",
        )


LIGHTNING_NAMES = {
    "h200 sxm1": ("H200 SXM",),
    "h200 nvl1": ("H200 NVL",),
    "h100 nvl": ("H100 NVL",),
    "h100 sxm": ("H100 SXM5 80GB",),
    "h100 pcie": ("H100 PCIe",),
    "rtx 4090": ("GeForce RTX 4090",),
    "l4": ("L4",),
    "l40": ("L40",),
    "a100": ("A100 SXM4 80GB", "A100 PCIe 80GB"),
    "a6000": ("RTX A6000",),
    "a40": ("A40",),
    "a10g": ("A10",),
    "rtx 3090": ("GeForce RTX 3090",),
    "t4": ("T4",),
    "v100 sxm": ("V100 SXM2 32GB",),
    "v100 pcie": ("V100 PCIe 32GB",),
    "v100s pcie": ("V100S PCIe 32GB",),
    "v2": ("TPU v2",),
    "v3": ("TPU v3",),
    "v4": ("TPU v4",),
    "v5litepod": ("TPU v5e",),
}
"""Whose peak each row of Lightning's table is. Its A10G has the figures of the A10's data sheet."""
_PRECISIONS = {"float32": "fp32", "tfloat32": "tf32", "bfloat16": "bf16", "float16": "fp16"}


def _lightning_peaks(packages: Packages) -> Iterator[Figure]:
    tree = ast.parse(packages.text("lightning-fabric", "utilities/throughput.py"))
    for name, table in _assigned(tree, ("_CUDA_FLOPS", "_TPU_FLOPS")):
        for model, value in table:
            peaks = _precisions(value) if name == "_CUDA_FLOPS" else [("bf16", _constant(value))]
            for ours in LIGHTNING_NAMES.get(model, ()):
                for precision, flop_per_s in peaks:
                    yield Figure("peak", f"{ours}, {precision}", flop_per_s / 1e12, "Lightning")


def _assigned(tree: ast.Module, names: tuple[str, ...]) -> Iterator[tuple[str, list[tuple[str, ast.expr]]]]:
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign):
            target = node.targets[0]
        if isinstance(target, ast.Name) and target.id in names:
            table = getattr(node, "value", None)
            if isinstance(table, ast.Dict):
                yield (
                    target.id,
                    [(_text(key), value) for key, value in zip(table.keys, table.values, strict=True)],
                )


def _precisions(table: ast.expr) -> list[tuple[str, float]]:
    if not isinstance(table, ast.Dict):
        return []
    pairs = zip(table.keys, table.values, strict=True)
    return [(_PRECISIONS[_text(key)], _constant(value)) for key, value in pairs if _text(key) in _PRECISIONS]


def _text(node: ast.expr | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else str(getattr(node, "value", ""))


def _constant(node: ast.expr) -> float:
    return float(ast.literal_eval(node))


TORCHTITAN_NAMES = {
    ("A100",): ("A100 SXM4 80GB", "A100 PCIe 80GB"),
    ("A6000",): ("RTX A6000",),
    ("H100", "NVL"): ("H100 NVL",),
    ("H100", "PCIe"): ("H100 PCIe",),
    ("H100", ""): ("H100 SXM5 80GB",),
    ("H200",): ("H200 SXM",),
    ("GB200", "GB300"): ("GB200",),
    ("B300", "B200"): ("B200",),
    ("MI300X", "MI325X"): ("Instinct MI300X", "Instinct MI325X"),
    ("l40s",): ("L40S",),
}
"""Whose peak each branch of its function returns, by the words that it looks for; MI250X is per die there."""


def _torchtitan_peaks(packages: Packages) -> Iterator[Figure]:
    tree = ast.parse(packages.text("torchtitan", "torchtitan/tools/utils.py"))
    (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "get_peak_flops")
    for words, flop_per_s in _branches(function.body, ()):
        for ours in TORCHTITAN_NAMES.get(words, ()):
            yield Figure("peak", f"{ours}, bf16", flop_per_s / 1e12, "torchtitan")


def _branches(body: list[ast.stmt], before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """The words of each `if` that returns a number, with those of the `if` around it; "" for its `else`."""
    for node in body:
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant):
            yield before, float(str(node.value.value))
        elif isinstance(node, ast.If):
            words = tuple(str(each.value) for each in ast.walk(node.test) if isinstance(each, ast.Constant))
            yield from _branches(node.body, (*before, *words))
            is_chain = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
            yield from _branches(node.orelse, before if is_chain else (*before, ""))


READERS: tuple[Callable[[Packages], Iterator[Figure]], ...] = (
    _codecarbon_places,
    _ecologits_places,
    _boavizta_places,
    _co2js_places,
    _electricity_maps_places,
    _codecarbon_clouds,
    _boavizta_clouds,
    _codecarbon_cpus,
    _boavizta_cpus,
    _lightning_peaks,
    _torchtitan_peaks,
    _boavizta_gpus,
)
