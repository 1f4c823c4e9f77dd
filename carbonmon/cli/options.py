"""The options that commands share: flags over environment over TOML file, each checked with a clear error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from carbonmon.cli import from_text
from carbonmon.cli.checked import Checked, FilledPath, name_list, number, variable_of, watts
from carbonmon.cli.log import set_up_log
from carbonmon.client.variables import CONFIG_NAME, CONFIG_VARIABLE, config_file
from carbonmon.core import budgets, config
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import IDLE_POLICIES
from carbonmon.core.ways import EXCLUSIVE, OPTIONS, Choice, displaced, shown

Command = TypeVar("Command", bound=Callable[..., Any])

_CONFIG_PATH = f"{__name__}.config"
"""Where click's context has the path of the file of options."""


INTERVAL = Checked("number", from_text.interval)
CHECKPOINT = Checked("number", from_text.checkpoint)
INTENSITY = Checked("intensity", config.parse_intensity)
PAUSE_ABOVE = Checked("intensity", lambda text: config.parse_intensity(text, "--pause-above"))
PUE = Checked("pue", config.parse_pue)
WUE = Checked("wue", config.parse_wue)
PRICE = number("--price", "a price of a kWh", -1e6, 1e6)
HOST = Checked("host", config.parse_host)
CURRENCY = Checked("currency", config.parse_currency)
LISTEN = Checked("address", config.parse_listen)
RUN_ID = Checked("id", config.parse_run_id)
RUN_WORD = Checked("run", config.parse_run_word)
LABEL = Checked("label", config.parse_label)
GPUS = Checked("gpus", from_text.gpu_list)
PATH = FilledPath(path_type=Path)
BUDGET = Checked("budget", budgets.parse_budget, ",")
IDLE = click.Choice(IDLE_POLICIES)
QUERY_TIMEOUT = number("--timeout", "a time in seconds", 0.1, 3600.0)
KEEP_RUNS = Checked("size", config.parse_keep_runs)
RETAIN = number("--retain", "a time in seconds", 0.0, config.MAX_RETAIN_S)
LOG_LEVEL = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
LOG_FORMAT = click.Choice(["text", "json"])


def _option(
    text: str, metavar: str | None = None, kind: Any = None, default: Any = None, **more: Any
) -> dict[str, Any]:
    shown = {} if default is None else {"default": default, "show_default": True}
    return {"help": text, "metavar": metavar, "type": kind, **shown, **more}


def _labels(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    try:
        config.check_labels(value)
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None
    return value


_OPTIONS: dict[str, dict[str, Any]] = {
    "region": _option("Where the power comes from: FR, US-CA, aws:us-east-1, gcp:us-west1@provider.", "ZONE"),
    "intensity": _option(
        "A fixed carbon intensity instead of the region's: 56, or 0.056kg.", "G_PER_KWH", INTENSITY
    ),
    "intensity-file": _option("Times with their carbon intensities, CSV or JSON.", "FILE", PATH),
    "grid": _option(
        "Live sources, best first: electricitymaps, uk, rte, dk; SOURCE:ZONE names the source's own zone.",
        "SOURCE,…",
        name_list("--grid"),
    ),
    "pue": _option(
        "The data centre's overhead on emissions: a ratio, or that of the cloud region, provider or world.",
        "RATIO|WORD",
        PUE,
        "1",
    ),
    "wue": _option("Litres of water per kWh, or those of the provider or world.", "L_PER_KWH|WORD", WUE),
    "price": _option("Price of a kWh.", "PER_KWH", PRICE),
    "price-file": _option("Times with their prices of a kWh, CSV or JSON.", "FILE", PATH),
    "currency": _option("Currency of --price: EUR, USD or another ISO 4217 code.", "CODE", CURRENCY),
    "host": _option(
        "Host name to report instead of the machine's own, for instance in a container.",
        "NAME", HOST,
    ),
    "user-names": _option(
        "Give the names of users, not only their numbers, in /metrics and summaries.", is_flag=True
    ),
    "targets": _option("Folder for a file that tells Prometheus' file_sd where to scrape.", "DIR", PATH),
    "web-config": _option(
        "TLS and basic auth for /metrics (exporter-toolkit web-config file).", "FILE", PATH,
    ),
    "interval": _option("Seconds between samples.", "SECONDS", INTERVAL, "1"),
    "checkpoint": _option(
        "Seconds between checkpoints: the most that is lost if the monitor is killed, and the maximum age of "
        "/metrics.",
        "SECONDS",
        CHECKPOINT,
        "5",
    ),
    "listen": _option(
        "Where /metrics is served; port 0 is any free one.", "ADDRESS:PORT", LISTEN, config.DEFAULT_LISTEN
    ),
    "output": _option("Folder of the runs' folders.", "DIR", PATH, Path("carbonmon-runs")),
    "run-id": _option("The run's id; default: the scheduler's job id, or time and name.", "ID", RUN_ID),
    "resume": _option(
        "Continue an earlier run, with its totals and files: its id, how the id begins, its name, or `last`.",
        "RUN", RUN_WORD,
    ),
    "attach": _option("Monitor a process that runs already, until it ends.", "PID", click.IntRange(min=1)),
    "redact-command": _option("Store only the program's name, not its arguments.", is_flag=True),
    "name": _option("A name for people to read; default: the command's.", "NAME"),
    "label": _option(
        "A label for the run; may be repeated.", "KEY=VALUE", LABEL, multiple=True, callback=_labels
    ),
    "gpus": _option("Indices or UUIDs; default: those that the job was given, else all.", "LIST", GPUS),
    "gpu-model": _option(
        "GPU model (and count) to assume when no sensor reports GPUs; also NAME xCOUNT.",
        "NAME[:COUNT]",
    ),
    "gpu-tdp": _option("TDP of one GPU, for estimates.", "W", watts("--gpu-tdp")),
    "cpu-model": _option("CPU model to assume for estimates.", "NAME"),
    "cpu-tdp": _option("TDP of one CPU package, for estimates.", "W", watts("--cpu-tdp")),
    "idle": _option(
        "How idle CPU and memory energy is attributed: by CPU time, to the run that owns the node, or none.",
        None,
        IDLE,
        "proportional",
    ),
    "budget": _option(
        "A limit of the run's energy, emissions, cost or duration, or of all runs of a day; may be repeated.",
        "2kWh|1kg|5EUR|3h[/day]",
        BUDGET,
        multiple=True,
    ),
    "on-budget": _option(
        "What to do beside a warning when a budget is reached: a command, a signal, or stop training.",
        "warn|notify:COMMAND|signal:TERM|stop",
        Checked("action", budgets.parse_action),
        "warn",
    ),
    "by": _option(
        "Act when the total has reached a budget, or when a forecast says that it will.",
        "total|forecast", Checked("by", budgets.parse_by), "total",
    ),
    "status-line": _option(
        "Show the run's figures in the terminal's title (in tmux at the bottom) while the job runs.",
        is_flag=True,
    ),
    "pause-above": _option(
        "Stop the job while the grid's intensity is above this; needs --grid or --intensity-file.",
        "G_PER_KWH", PAUSE_ABOVE,
    ),
    "own-monitor": _option(
        "Always start a separate monitor, even if a daemon or another rank already measures this node.",
        is_flag=True,
    ),
    "retain": _option("How long a run that has ended stays in /metrics.", "SECONDS", RETAIN, "900"),
    "socket": _option("Where the monitor listens for runs and training code.", "PATH", PATH),
    "keep-runs": _option(
        "How much disk space the folders of runs may take; the oldest ended ones are removed first.",
        f"SIZE|{config.UNLIMITED}", KEEP_RUNS, config.DEFAULT_KEEP_RUNS,
    ),
    "no-dram-estimate": _option("Do not estimate memory power when it is not measured.", is_flag=True),
    "sysfs": _option("Where the host's /sys is mounted.", "PATH", PATH, Path("/sys")),
    "procfs": _option("Where the host's /proc is mounted.", "PATH", PATH, Path("/proc")),
    "sensor": _option(
        "The sources to use, best first; replay:FILE plays a recording.",
        "NAME,…", name_list("--sensor"), ",".join(config.DEFAULT_SENSORS),
    ),
    "node-meter": _option(
        "Meters of the whole machine, beside the devices: acpi, cray, ipmi, redfish:https://USER@BMC.",
        "NAME,…", name_list("--node-meter"), ",".join(config.DEFAULT_NODE_METERS),
    ),
    "charge": _option(
        "What runs are charged with: their devices' energy, or also their part of the first node meter's.",
        None, click.Choice(config.CHARGES), "devices",
    ),
    "redfish-password-file": _option("File with the password of redfish's account.", "FILE", PATH),
    "redfish-ca-file": _option("File of the authority of redfish's certificate.", "FILE", PATH),
    "exporter": _option(
        "Where results go; also textfile:FOLDER, pushgateway:URL, otlp:URL.",
        "NAME,…", name_list("--exporter"), ",".join(config.DEFAULT_EXPORTERS),
    ),
    "quiet": _option("Only warnings and errors on stderr.", is_flag=True),
    "log-level": _option("Log level.", None, LOG_LEVEL, "warning"),
    "log-format": _option("One line of text, or one JSON object.", None, LOG_FORMAT, "text"),
}  # fmt: skip

NAMES = _OPTIONS.keys()
"""All options that commands share."""

RUN_OPTIONS = tuple(name for name in _OPTIONS if OPTIONS[name].belongs_to != "place")
RUN_RETAIN = _option(
    "How long at most the end of the run stays in /metrics for those who scraped it.", "SECONDS", RETAIN,
    f"{config.RUN_RETAIN_S:g}",
)  # fmt: skip
DAEMON_OPTIONS = tuple(
    name
    for name in _OPTIONS
    if name not in ("run-id", "resume", "attach", "redact-command", "name", "label", "own-monitor")
    and OPTIONS[name].belongs_to not in ("budget", "pause", "terminal")
)
DOCTOR_OPTIONS = (
    *("region", "intensity", "intensity-file", "grid", "gpus", "gpu-model", "gpu-tdp", "cpu-model"),
    *("cpu-tdp", "no-dram-estimate", "sysfs", "procfs", "sensor", "node-meter", "redfish-password-file"),
    *("redfish-ca-file", "log-level", "log-format"),
)
"""What changes which sources serve; the same TOML file does for all commands."""
REPORT_OPTIONS = ("output", "log-level", "log-format")


def with_options(*names: str, **own: dict[str, Any]) -> Callable[[Command], Command]:
    """A decorator that adds the named options, each with its CARBONMON_ variable, and `--config`.

    `own` are options that this command describes in its own way.
    """

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            parameter = name.replace("-", "_")
            variable = OPTIONS[name].variable
            command = click.option(
                f"--{name}", parameter, envvar=variable, **own.get(parameter, _OPTIONS[name])
            )(command)
        return click.option(
            "--config",
            type=FilledPath(path_type=Path, dir_okay=False),
            envvar="CARBONMON_CONFIG",
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=_load_config,
            help=f"TOML with these options as keys; default: ./{CONFIG_NAME}, else the user's config folder.",
        )(command)

    return decorate


def to_config(values: dict[str, Any]) -> Config:
    """The record of a command's parsed options; also sets carbonmon's own log up."""
    set_up_log(values["log_level"], values["log_format"])
    return config_of(values)


def config_of(values: dict[str, Any]) -> Config:
    """The record of a command's parsed options; raises `click.UsageError` where they exclude one another."""
    values = without_weaker(values)
    if values["region"] is not None and values["intensity"] is not None:
        raise click.UsageError("--region and --intensity exclude one another: give the place or the figure")
    sources = ("intensity", "intensity_file", "grid")
    chosen = [f"--{name.replace('_', '-')}" for name in sources if values[name] is not None]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} exclude one another: give one source of intensity")
    if values.get("price") is not None and values.get("price_file") is not None:
        raise click.UsageError("--price and --price-file exclude one another: give the figure or the file")
    if values.get("resume") is not None and values.get("run_id") is not None:
        raise click.UsageError("--resume names the run already: leave --run-id out")
    if values.get("budget"):
        has_price = values.get("price") is not None or values.get("price_file") is not None
        try:
            budgets.check_currencies(values["budget"], values.get("currency"), has_price)
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
    fields = {
        option.field: values[option.parameter]
        for option in OPTIONS.values()
        if option.field is not None and option.parameter in values
    }
    fields["grid"] = fields.get("grid") or ()
    fields["dram_estimate"] = not values["no_dram_estimate"]
    return Config(**fields)


def without_weaker(values: dict[str, Any]) -> dict[str, Any]:
    """Of options that exclude one another only what goes first: flags, then the environment, then a file."""
    ctx = click.get_current_context(silent=True)
    if ctx is None:
        return values
    source = click.core.ParameterSource
    ranks = {source.COMMANDLINE: 2, source.ENVIRONMENT: 1}
    places = {}
    for name in {name for names in EXCLUSIVE for name in names}:
        parameter = OPTIONS[name].parameter
        if values.get(parameter) is not None:
            places[name] = ranks.get(ctx.get_parameter_source(parameter) or source.DEFAULT, 0)
    return {**values, **{OPTIONS[name].parameter: None for name in displaced(places)}}


def file_or_grid(
    ctx: click.Context, path: Path | None, grid: tuple[str, ...] | None
) -> tuple[Path | None, tuple[str, ...] | None]:
    """Of --intensity-file and --grid the one that stands on the command line, if only one of them does.

    Raises `ConfigError` where nothing says which of the two is meant.
    """
    if path is not None and grid:
        on_command_line = [
            ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
            for name in ("intensity_file", "grid")
        ]
        if on_command_line[0] is on_command_line[1]:
            raise ConfigError("--intensity-file and --grid exclude one another: give one of them")
        return (path, None) if on_command_line[0] else (None, grid)
    return path, grid


def choices(ctx: click.Context, config: Config) -> list[Choice]:
    """The options that the user has chosen."""
    from carbonmon.service.settings import texts

    source = click.core.ParameterSource
    path = ctx.meta.get(_CONFIG_PATH, CONFIG_NAME)
    found = []
    for name, text in texts(config).items():
        option = OPTIONS[name]
        words = {
            source.COMMANDLINE: f"--{name} ",
            source.ENVIRONMENT: f"{option.variable}=",
            source.DEFAULT_MAP: f"{path}: {name} = ",
        }
        way = ctx.get_parameter_source(option.parameter)
        if text is None or way not in words:  # None: an option that excludes this one was given nearer
            continue
        is_argument = way is source.COMMANDLINE
        value = "" if option.kind == "flag" and is_argument else shown(text).replace("\n", " ")
        found.append(Choice(option, text, (words[way] + value).rstrip(), is_argument))
    return found


def environment(ctx: click.Context) -> dict[str, str]:
    """The environment, in which a file of options that `--config` names has the place of its variable's."""
    path = ctx.meta.get(_CONFIG_PATH)
    return {**os.environ, **({} if path is None else {CONFIG_VARIABLE: path})}


def as_arguments(ctx: click.Context, names: tuple[str, ...]) -> list[str]:
    """The same options as arguments of another command, for those that the command line gave."""
    words = []
    for name in names:
        parameter = name.replace("-", "_")
        if ctx.get_parameter_source(parameter) is not click.core.ParameterSource.COMMANDLINE:
            continue  # the environment and the file are the other command's as well
        value = ctx.params[parameter]
        if value is True:
            words.append(f"--{name}")
        elif name == "listen":
            host, port = value
            words.append(f"--listen=[{host}]:{port}" if ":" in host else f"--listen={host}:{port}")
        else:
            words.append(f"--{name}={','.join(value) if isinstance(value, tuple) else value}")
    return words


def _load_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    found = config_file(os.environ) if value is None else value
    if found is None or ctx.resilient_parsing:
        return
    path = Path(found)
    try:
        table = read_toml(path, is_named=value is not None or path != Path(CONFIG_NAME))
    except ConfigError as error:
        named = "" if value is None or path.exists() else f"{variable_of(param, ctx) or '--config: '}"
        raise click.UsageError(f"{named}{error}", ctx) from None
    ctx.default_map = {**(ctx.default_map or {}), **table}
    ctx.meta[_CONFIG_PATH] = str(path)


def read_toml(path: Path, is_named: bool = True) -> dict[str, Any]:
    """The options of a TOML file as click's default map; raises `ConfigError` with file, line and key."""
    from carbonmon.cli.configfile import options_in

    return options_in(path, _OPTIONS, is_named)
