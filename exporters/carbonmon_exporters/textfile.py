"""The exporter `textfile`: one file for each run, for the textfile collector of node_exporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from prometheus_client import generate_latest

from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.files import replace_file
from carbonmon.core.model import Snapshot
from carbonmon.core.ports import Exporter, ExporterSettings
from carbonmon_exporters.push.pace import Pace
from carbonmon_exporters.push.rungroup import Group, RunGroups

MODE = 0o644
"""node_exporter is another user; whatever the job's umask, it must be able to read the file."""


def open_exporter(settings: ExporterSettings) -> Exporter:
    """Make the exporter; raises ConfigError if no folder is named."""
    if not settings.argument:
        raise ConfigError(
            "--exporter: textfile needs a folder, the one that node_exporter reads "
            "(--collector.textfile.directory): give for example textfile:/var/lib/node_exporter/textfile"
        )
    return TextfileExporter(Path(settings.argument), settings.run_folders)


class TextfileExporter:
    """Writes `carbonmon-RUN.prom` when a run begins, every 15 s, and for good when it has ended."""

    name = "textfile"

    def __init__(self, folder: Path, run_folders: Mapping[str, Path]) -> None:
        self._folder = folder
        self._run_folders = run_folders
        self._pace = Pace()
        self._groups = RunGroups()
        self._latest: Callable[[], Snapshot] | None = None

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """The file of the run if there is exactly one, else the pattern of all.

        Raises ConfigError where there is no such folder; it may come later.
        """
        self._latest = latest
        if not self._folder.is_dir():
            raise ConfigError(self._no_folder())
        runs = tuple(self._run_folders)
        return str(self._path(runs[0]) if len(runs) == 1 else self._folder / "carbonmon-*.prom")

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Write the runs that are due; raises the first error after every run had its turn."""
        chosen = self._pace.choose(snapshot, snapshot if self._latest is None else self._latest())
        if chosen is not None:
            self._write_all(chosen, is_last=False)

    def finish(self, final: Snapshot) -> None:
        """Write every run for the last time; raises as `checkpoint` does."""
        self._write_all(final, is_last=True)

    def close(self) -> None:
        """Nothing is held open, and the files stay: they are scraped after the job's end."""

    def _path(self, run_id: str) -> Path:
        return self._folder / f"carbonmon-{quote(run_id, safe='')}.prom"

    def _no_folder(self) -> str:
        where = f"--exporter textfile:{self._folder}: there is no such folder"
        return f"{where}: make the one that node_exporter reads, or name another"

    def _write_all(self, snapshot: Snapshot, *, is_last: bool) -> None:
        errors = [self._write(group) for group in self._groups.due(snapshot, is_last)]
        first = next(filter(None, errors), None)
        if first is not None:
            self._pace.again()
            raise first

    def _write(self, group: Group) -> Exception | None:
        """Write one run's file; the error is returned, so that the other runs have their turn."""
        try:
            replace_file(self._path(group.run.info.id), _text(group), MODE, for_others=True)
        except OSError as error:
            self._groups.settle(group, is_delivered=False)
            return error if self._folder.is_dir() else CarbonmonError(self._no_folder())
        self._groups.settle(group, is_delivered=True)
        return None


def _text(group: Group) -> bytes:
    """The text of a file, without help: node_exporter has words of its own where there is none.

    What has another help in another file, as after an update, it would leave out.
    """
    lines = generate_latest(group).split(b"\n")
    return b"\n".join(line for line in lines if not line.startswith(b"# HELP "))
