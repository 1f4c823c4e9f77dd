"""Which ended runs are still shown, to whom, and how one process gives them to the next."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import threading
from contextlib import ExitStack
from typing import Any

import pytest
from carbonmon_exporters.collector import families
from carbonmon_exporters.ended import answer, channel
from carbonmon_exporters.ended.bundle import Bundle
from carbonmon_exporters.ended.runs import Ended, EndedRuns
from carbonmon_exporters.ended.visits import RECENT_S, Recent, RecentScrapers, Visit
from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.request import Connection
from carbonmon_exporters.endpoint.routes import Routes
from carbonmon_exporters.endpoint.server import MetricsServer
from carbonmon_exporters.starts import Starts, plain
from prometheus_client.core import Metric

from carbonmon.core.metrics import MOMENTARY
from tests.support.harness import FakeClock
from tests.support.metrics_endpoint import read_to_end
from tests.support.records import node

PROGRAM = "127.0.0.1 Prometheus/2.42.0"
NODE = node(1, 1, 1)
NOW_S = NODE.at_s


def visit(connection: Connection, program: str = PROGRAM, *, is_text: bool = False) -> Visit:
    return Visit(program, connection, is_text, NOW_S)


def ended(waited: dict[str, int] | None = None, until_s: float = 60.0, run_id: str = "run-1") -> Ended:
    recent = {program: Recent(count, NOW_S - 10.0) for program, count in (waited or {}).items()}
    return Ended(
        [run_id], answer.lasting(families(NODE, Starts(NODE, -math.inf, NODE.at_s))), recent, until_s
    )


def shown(runs: EndedRuns) -> int:
    return len(runs.shown())


def rows(families: list[Metric], name: str) -> list[Any]:
    return [list(sample) for family in families for sample in family.samples if sample.name == name]


def test_a_run_is_shown_until_each_scraper_has_come_once_more() -> None:
    runs = EndedRuns([ended({PROGRAM: 2, "10.0.0.7 vm_promscrape": 1})], lambda: 0.0)
    first, second, third = Connection(), Connection(), Connection()
    runs.came(visit(first))
    runs.came(visit(first))
    assert shown(runs) == 1, "the same scraper twice is not the other one"
    runs.came(visit(second))
    assert shown(runs) == 1
    runs.came(visit(Connection(), "10.0.0.8 curl/8.0"))
    assert shown(runs) == 1, "nobody waits for this one"
    runs.came(visit(third, "10.0.0.7 vm_promscrape"))
    assert shown(runs) == 0


def test_who_is_shown_a_start_in_the_text_format_is_waited_for_once_more() -> None:
    """To a server that ignores the times 0 and value are of one moment: it may take the 0 for the last."""
    program = "10.0.0.7 vm_promscrape"
    run = NODE.runs[0]
    late = run.totals[0]._replace(energy_j=5.0, start_s=NODE.clock_s - 1.0)
    final = NODE._replace(runs=(run._replace(totals=(late,)),))
    lasting = answer.lasting(families(final, Starts(final, -math.inf, final.at_s)))
    each = Ended(["run-1"], lasting, {program: Recent(2, NOW_S - 10.0)}, 60.0, NOW_S - 10.0)
    runs = EndedRuns([each], lambda: 0.0)
    first, second = Connection(), Connection()
    for connection, told in ((first, 1), (second, 0), (second, 0)):
        asked = visit(connection, program, is_text=True)
        assert starts(each, asked) == told
        assert shown(runs) == 1, "the second of them does not come for the first"
    asked = visit(first, program, is_text=True)
    assert starts(each, asked) == 0
    assert shown(runs) == 0


def test_who_waited_for_more_scrapers_of_a_program_is_believed() -> None:
    runs = EndedRuns(clock=lambda: 0.0)
    runs.take([ended({PROGRAM: 2}, run_id="a"), ended({PROGRAM: 1}, run_id="b")])
    runs.came(visit(Connection()))
    assert shown(runs) == 2
    runs.came(visit(Connection()))
    assert shown(runs) == 0


def test_no_run_is_shown_beyond_its_time() -> None:
    clock = FakeClock(0.0)
    runs = EndedRuns([ended({PROGRAM: 1}, until_s=60.0), ended({PROGRAM: 1}, until_s=90.0)], clock.now_s)
    assert runs.left_s() == 90.0
    clock.time_s = 59.9
    assert shown(runs) == 2
    clock.time_s = 60.0
    assert shown(runs) == 1
    clock.time_s = 90.0
    assert shown(runs) == 0
    assert runs.left_s() == 0.0


def test_where_nobody_knows_who_scrapes_a_run_is_shown_for_all_its_time() -> None:
    runs = EndedRuns([ended({})], lambda: 0.0)
    runs.came(visit(Connection()))
    assert shown(runs) == 1


def test_a_run_that_goes_on_is_not_shown_twice() -> None:
    runs = EndedRuns([ended({PROGRAM: 1}, run_id="a"), ended({PROGRAM: 1}, run_id="b")], lambda: 0.0)
    assert [sorted(each.run_ids) for each in runs.shown({"a"})] == [["b"]]
    assert shown(runs) == 1, "also when it has ended again"


def test_what_was_true_only_at_a_moment_is_left_out() -> None:
    everything = families(NODE, plain(NODE))
    momentary = {family.family_name for family in MOMENTARY}
    assert {family.name for family in everything} & momentary, "the power of a device, for example"
    left = answer.lasting(everything)
    assert {family.name for family in left} == {family.name for family in everything} - momentary
    assert {family.name for family in answer.of_runs(left)} == {
        family.name for family in left if family.name.startswith("carbonmon_run")
    }


def test_the_next_process_shows_the_same_to_the_same_scrapers() -> None:
    clock = FakeClock(100.0)
    before = EndedRuns([ended({PROGRAM: 2}, until_s=130.0)], clock.now_s)
    before.came(visit(Connection()))
    later = FakeClock(5000.0)
    after = EndedRuns(clock=later.now_s)
    bundle = Bundle.from_bytes(Bundle(before.to_json()).to_bytes())
    assert bundle is not None
    after.take(after.read(bundle.ended))
    assert after.left_s() == pytest.approx(30.0)
    (one,), (other,) = before.shown(), after.shown()
    assert one.run_ids == other.run_ids
    left = [answer.to_rows(each.families(None, only_runs=False)) for each in (one, other)]
    assert left[0] == left[1] != []
    after.came(visit(Connection()))
    assert shown(after) == 1, "this may be the one that had come already"
    after.came(visit(Connection()))
    assert shown(after) == 0


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b'{"version": "0.1.0", "ended": []}', Bundle([]).to_bytes()[:-1]]
)
def test_what_another_version_left_is_not_taken(data: bytes) -> None:
    assert Bundle.from_bytes(data) is None


def test_a_policy_that_protects_less_does_not_get_the_runs() -> None:
    open_to_all = AccessPolicy()
    assert not Bundle.of([], open_to_all, None).protects_less(open_to_all)
    assert Bundle([], None, is_tls=True).protects_less(open_to_all)
    assert Bundle([], None, authenticates=True).protects_less(open_to_all)


def test_texts_that_are_no_unicode_come_through() -> None:
    value = {"run_ids": ["caf\udce9"], "families": [], "waited": {}, "left_s": 1.0}
    bundle = Bundle.from_bytes(Bundle([value]).to_bytes())
    assert bundle is not None
    assert bundle.ended == [value]


def test_scrapers_are_counted_by_their_connections_and_forgotten_after_a_while() -> None:
    clock = FakeClock(0.0)
    scrapers = RecentScrapers(clock.now_s)
    first, second = Connection(), Connection()
    scrapers.came(visit(first), NOW_S - 20.0)
    scrapers.came(visit(second), NOW_S - 10.0)
    scrapers.came(visit(Connection(), "10.0.0.8 closes/1"), NOW_S)
    assert scrapers.recent() == {PROGRAM: Recent(2, NOW_S - 20.0), "10.0.0.8 closes/1": Recent(1, NOW_S)}
    del first  # its connection was closed
    assert scrapers.recent()[PROGRAM] == Recent(1, NOW_S - 10.0)
    clock.time_s = RECENT_S
    scrapers.came(visit(second), NOW_S)
    clock.time_s = RECENT_S + 0.1
    assert list(scrapers.recent()) == [PROGRAM]


def test_whoever_names_no_time_out_is_no_scraper() -> None:
    environ = {"REQUEST_METHOD": "GET", "HTTP_USER_AGENT": "curl/8.0", "REMOTE_ADDR": "127.0.0.1"}
    assert Visit.of(environ) is None
    environ["HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"] = "10"
    found = Visit.of(environ)
    assert found is not None
    assert found.program == "127.0.0.1 curl/8.0"
    assert Visit.of(environ | {"REQUEST_METHOD": "HEAD"}) is None


TOTAL = "carbonmon_run_energy_joules_total"


def starts(each: Ended, visit: Visit) -> int:
    """How many counters of energy a scraper is shown with their start; it has come then."""
    found = sum(value == 0.0 for _, _, value, *_ in rows(each.families(visit, only_runs=True), TOTAL))
    each.came(visit)
    return found


def test_a_counter_that_a_scraper_has_not_seen_is_shown_with_its_start_once() -> None:
    run = NODE.runs[0]
    first, last = run.totals[:2]
    early = first._replace(phase="early", energy_j=5.0, start_s=NODE.clock_s - 100.0)
    late = last._replace(phase="late", energy_j=5.0, start_s=NODE.clock_s - 1.0)
    final = NODE._replace(runs=(run._replace(totals=(early, late)),))
    lasting = answer.lasting(families(final, Starts(final, -math.inf, final.at_s)))
    each = Ended(["run-1"], lasting, {PROGRAM: Recent(2, NOW_S - 10.0)}, 60.0, NOW_S - 10.0)
    connection = Connection()
    assert starts(each, visit(connection)) == 1, "the late phase began after its last scrape"
    assert starts(each, visit(connection)) == 0
    assert starts(each, visit(Connection())) == 1, "another server of the same program"
    assert starts(each, visit(Connection(), "10.0.0.9 new/1")) == 2, "one that was never here"
    assert starts(each, visit(Connection(), is_text=True)) == 1
    assert starts(each, visit(Connection(), is_text=True)) == 0, "a second 0 may be a reset to it"


# How one process gives its port to the next


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def offering(place: socket.socket, answers: list[bytes]) -> threading.Thread:
    """Offer a listening socket once, in a thread."""
    waiting = channel.listen(place.getsockname())
    waiting.settimeout(10.0)

    def offer() -> None:
        with waiting:
            connection, _ = waiting.accept()
        with connection:
            answers.append(channel.offer(connection, b"runs", place))

    thread = threading.Thread(target=offer, daemon=True)
    thread.start()
    return thread


def test_the_next_monitor_gets_the_port_and_the_runs() -> None:
    answers: list[bytes] = []
    with listening() as place:
        thread = offering(place, answers)
        taken = channel.take(place.getsockname(), lambda data: (channel.TAKEN, data.decode()))
        thread.join()
        assert answers == [channel.TAKEN]
        assert taken is not None
        with taken[0] as own:
            assert own.getsockname() == place.getsockname()
            assert taken[1] == "runs"


def test_a_monitor_that_may_not_show_the_runs_leaves_them() -> None:
    answers: list[bytes] = []
    with listening() as place:
        thread = offering(place, answers)
        assert channel.take(place.getsockname(), lambda data: None) is None
        thread.join()
    assert answers == [b""]


def test_a_port_of_others_is_not_taken() -> None:
    with listening() as place:
        assert channel.take(place.getsockname(), lambda data: (channel.TAKEN, data)) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_gets_nothing() -> None:
    answers: list[bytes] = []
    with listening() as place:
        name = f"\\0carbonmon-ended-0-127.0.0.1:{place.getsockname()[1]}"
        thread = offering(place, answers)
        ask = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{name}'); print(s.recv(9))"
        said = subprocess.run(
            ["/usr/bin/python3", "-S", "-c", ask],
            user=65534,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        thread.join()
    assert said.stdout == "b''\n"
    assert answers == [b""]


def test_a_scraper_that_has_given_up_meanwhile_is_still_waited_for() -> None:
    """What serves an ended run may start behind a scraper's time-out: that answer reaches nobody."""
    came: list[Visit] = []
    ask = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-Prometheus-Scrape-Timeout-Seconds: 1\r\n\r\n"

    def metrics(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"answer"]

    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as clients:
        gone, there = (
            clients.enter_context(socket.create_connection(listening.getsockname())) for _ in range(2)
        )
        gone.sendall(ask)
        gone.shutdown(socket.SHUT_WR)
        app = Routes(metrics, lambda: True, came=came.append)
        server = MetricsServer(listening.getsockname(), lambda: app, listening=listening.dup())
        server.start()
        clients.callback(server.close)
        assert b"answer" in read_to_end(gone), "it may have closed its side and still be reading"
        assert came == []
        there.sendall(ask)
        assert there.recv(1 << 16).endswith(b"answer")
        assert len(came) == 1
