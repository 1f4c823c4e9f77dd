"""`carbonmon pods`: have the node's daemon follow the pods of a Kubernetes node."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

from carbonmon.cli import options
from carbonmon.cli.log import set_up_log
from carbonmon.client.rendezvous import daemon_sockets
from carbonmon.core.errors import ConfigError
from carbonmon.service.kubernetes.api import ACCOUNT


@click.command("pods")
@options.with_options("socket", "sysfs", "quiet", "log-level", "log-format")
@click.option(
    "--node", envvar="CARBONMON_NODE", metavar="NAME", help="The node's name in Kubernetes: spec.nodeName."
)
@click.option(
    "--api-url",
    envvar="CARBONMON_API_URL",
    metavar="URL",
    help="The API server; default: that of the cluster that this runs in.",
)
@click.option(
    "--service-account",
    envvar="CARBONMON_SERVICE_ACCOUNT",
    type=click.Path(path_type=Path),
    default=ACCOUNT,
    show_default=True,
    metavar="DIR",
    help="The folder with its token and ca.crt.",
)
def command(
    socket: Path | None,
    sysfs: Path,
    quiet: bool,
    log_level: str,
    log_format: str,
    node: str | None,
    api_url: str | None,
    service_account: Path,
) -> None:
    """Have the node's daemon follow the pods that ask for it, until it is stopped.

    A pod asks with the annotation carbonmon.io/run-id; its run begins with its cgroup and ends with it.
    Needs the right to list and watch pods, and to read the host's /sys/fs/cgroup (--sysfs).
    """
    from carbonmon.service.kubernetes.api import ApiServer, server_of
    from carbonmon.service.kubernetes.follow import Follower

    set_up_log(log_level, log_format)
    url = api_url or server_of(os.environ)
    if url is None:
        raise click.UsageError(
            "no API server: this is no pod of a cluster; give one: --api-url https://HOST:PORT"
        )
    if not node:
        raise click.UsageError(
            "give the node's name: --node NAME, or CARBONMON_NODE from the pod's spec.nodeName"
        )
    try:
        api = ApiServer(url, node, service_account)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    signal.signal(signal.SIGTERM, _stop)  # the first process of a container has no default of its own
    if not quiet:
        from carbonmon.cli.run_alone import say

        say(f"pods of node {node}, as {url} lists them")
    Follower(api, daemon_sockets() if socket is None else [socket], sysfs).run()


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(0)
