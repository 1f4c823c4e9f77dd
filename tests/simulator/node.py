"""File trees of meters of the whole machine, whose power follows a profile: the truth is in closed form.

`write(t_s)` makes the files say what they say at so many seconds after the profile came into force.
"""

from __future__ import annotations

from pathlib import Path

from tests.simulator.profiles import Profile


class AcpiTree:
    """An ACPI power meter as Linux shows it: the files lie on the ACPI device, not in hwmonN."""

    def __init__(
        self,
        sysfs: Path,
        profile: Profile,
        *,
        device: str = "ACPI000D:00",
        number: int = 0,
        name: str = "power_meter",
        **files: str,
    ) -> None:
        self.profile = profile
        self.folder = sysfs / "devices/LNXSYSTM:00" / device
        hwmon = self.folder / f"hwmon/hwmon{number}"
        hwmon.mkdir(parents=True)
        (hwmon / "name").write_text(f"{name}\n")
        (hwmon / "device").symlink_to("../..")
        classes = sysfs / "class/hwmon"
        classes.mkdir(parents=True, exist_ok=True)
        (classes / f"hwmon{number}").symlink_to(hwmon)
        for file, text in {"power1_average_interval": "1000", "power1_is_battery": "0", **files}.items():
            (self.folder / file).write_text(f"{text}\n")
        self.write(0.0)

    def write(self, t_s: float) -> None:
        """Say the mean power of the second that ends now, as the firmware does."""
        mean_w = self.profile.integral(t_s) - self.profile.integral(t_s - 1.0)
        self.say(str(round(mean_w * 1e6)))

    def say(self, text: str) -> None:
        (self.folder / "power1_average").write_text(f"{text}\n")

    def energy_j(self, start_s: float, end_s: float) -> float:
        return self.profile.integral(end_s) - self.profile.integral(start_s)


class CrayTree:
    """`/sys/cray/pm_counters` of one node: ten samples a second, whole joules and watts."""

    def __init__(self, sysfs: Path, profile: Profile, start_j: int = 123_456) -> None:
        self.profile = profile
        self.start_j = start_j
        self.startup = self.generation = 1
        self.is_frozen = False
        self.folder = sysfs / "cray/pm_counters"
        self.folder.mkdir(parents=True)
        self.write(0.0)

    def write(self, t_s: float) -> None:
        """Take the sample of this tenth of a second, unless nobody does any more."""
        if self.is_frozen:
            return
        sample = int(t_s * 10 + 1e-9)
        energy_j = self.start_j + self.profile.integral(sample / 10)
        self._put("energy", f"{int(energy_j)} J")
        self._put("power", f"{round(self.profile.value(t_s))} W")
        self._put("cpu_energy", f"{int(energy_j / 3)} J")
        self._put("freshness", f"{sample}")
        self._put("startup", f"{self.startup}")
        self._put("generation", f"{self.generation}")

    def restart(self, t_s: float, start_j: int = 0) -> None:
        """The counters begin anew, as after a restart of the blade's controller."""
        self.startup += 1
        self.start_j = start_j - int(self.profile.integral(t_s))
        self.write(t_s)

    def energy_j(self, start_s: float, end_s: float) -> float:
        return self.profile.integral(end_s) - self.profile.integral(start_s)

    def _put(self, name: str, text: str) -> None:
        (self.folder / name).write_text(f"{text} 1734000000000000 us\n")
