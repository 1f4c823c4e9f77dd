"""The exporter `pushgateway`: groups that nobody overwrites, and a gateway that may be in any state."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from carbonmon_exporters.push import pusher
from carbonmon_exporters.push.pace import Pace
from carbonmon_exporters.push.pusher import Parcel, Pusher
from carbonmon_exporters.pushgateway import PASSWORD, USERNAME, PushgatewayExporter, open_exporter
from prometheus_client.parser import text_string_to_metric_families

from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.ports import ExporterSettings
from carbonmon.monitor.guard import GuardedExporter
from tests.support.gridserver import GridServer, Reply
from tests.support.receivers import Received, Receiver, eventually
from tests.support.records import START_S, gpu, node, run_info, run_state, run_total
from tests.support.rows import for_each_row

ENERGY = "carbonmon_run_energy_joules_total"


@pytest.fixture
def gateway() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pusher, "RETRY_S", 0.01)


def run(run_id: str = "mine", energy_j: float = 500.0) -> RunState:
    row = run_total(gpu().id, "gpu", "counter", energy_j)
    return run_state(run_info(run_id), (row,), power_w=((gpu().id, 300.0),))


def at(clock_s: float, *runs: RunState) -> Snapshot:
    return node(1, 0, 0)._replace(runs=runs, clock_s=clock_s, samples=1 + int(clock_s))


def ended(state: RunState) -> RunState:
    return state._replace(ended_at_s=START_S + 60.0, exit_code=0)


def opened(gateway: Receiver, **more: float) -> PushgatewayExporter:
    return PushgatewayExporter(gateway.url, **more)


def joules(request: Received) -> float:
    text = request.body.decode()
    found = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return sum(sample.value for sample in found if sample.name == ENERGY)


def test_each_run_has_a_group_of_its_own_by_host_and_run_id(gateway: Receiver):
    exporter = opened(gateway)
    exporter.finish(at(0.0, run("first", 1.0), run("second", 2.0)))
    exporter.close()
    assert [(request.method, request.path, joules(request)) for request in gateway.received] == [
        ("PUT", "/metrics/job/carbonmon/instance/node-7/run_id/first", 1.0),
        ("PUT", "/metrics/job/carbonmon/instance/node-7/run_id/second", 2.0),
    ]


def test_labels_of_the_group_say_the_same_as_those_of_the_samples(gateway: Receiver):
    exporter = opened(gateway)
    exporter.finish(at(0.0, run()))
    exporter.close()
    text = gateway.received[0].body.decode()
    found = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert {sample.labels["run_id"] for sample in found} == {"mine"}
    assert not any({"job", "instance"} & set(sample.labels) for sample in found)
    assert all(sample.timestamp is None for sample in found), "a gateway refuses timestamps"


def test_it_pushes_at_the_beginning_then_every_15_s_and_at_the_end(gateway: Receiver):
    exporter = opened(gateway)
    for number, clock_s in enumerate((0.0, 15.0, 30.0), start=1):
        exporter.checkpoint(at(clock_s, run()))
        gateway.wait_for(number)
        for later_s in (5.0, 10.0):
            exporter.checkpoint(at(clock_s + later_s, run()))
    exporter.finish(at(43.0, ended(run())))
    exporter.close()
    assert len(gateway.received) == 4


def test_the_gateway_gets_totals_as_they_stand_and_those_of_the_end_at_once(gateway: Receiver):
    exporter = opened(gateway)
    exporter.checkpoint(at(0.0, run(energy_j=3.0)))
    gateway.wait_for(1)
    exporter.finish(at(1.0, ended(run(energy_j=20.0))))
    exporter.close()
    assert [joules(request) for request in gateway.received] == [3.0, 20.0]
    assert b"carbonmon_run_power_watts{" in gateway.received[0].body
    assert b"carbonmon_run_power_watts{" not in gateway.received[1].body


def test_a_run_that_is_there_for_good_is_not_pushed_again(gateway: Receiver):
    exporter = opened(gateway)
    exporter.checkpoint(at(0.0, ended(run("first")), run("second")))
    gateway.wait_for(2)
    exporter.checkpoint(at(20.0, ended(run("first")), run("second")))
    gateway.wait_for(3)
    exporter.finish(at(40.0, ended(run("first")), ended(run("second"))))
    exporter.close()
    names = [request.path.rpartition("/")[2] for request in gateway.received]
    assert names == ["first", "second", "second", "second"]


def test_nothing_is_ever_deleted(gateway: Receiver):
    exporter = opened(gateway)
    exporter.start(lambda: at(0.0))
    exporter.checkpoint(at(0.0, run()))
    exporter.finish(at(1.0, ended(run())))
    exporter.close()
    assert {request.method for request in gateway.received} == {"PUT"}


def test_a_gateway_that_hangs_holds_up_no_checkpoint_and_the_end_only_for_a_while(gateway: Receiver):
    gateway.open.clear()
    exporter = opened(gateway, timeout_s=0.2)
    exporter.checkpoint(at(0.0, run()))
    exporter.checkpoint(at(20.0, run()))
    with pytest.raises(CarbonmonError, match=r"could not be delivered|did not answer"):
        exporter.finish(at(40.0, run()))
    exporter.close()


def test_a_gateway_that_is_away_is_told_of_once(caplog: pytest.LogCaptureFixture):
    with Receiver() as gone:
        pass
    guarded = GuardedExporter(PushgatewayExporter(gone.url))
    shown = at(0.0, run())
    guarded.start(lambda: shown)
    guarded.checkpoint(shown)
    eventually(lambda: not guarded.checkpoint(shown), "the failure")
    assert not guarded.checkpoint(at(5.0, run())), "between two pushes it has not come back"
    assert not guarded.finish(at(6.0, run()))
    guarded.close()
    assert len(caplog.records) == 1
    assert "cannot be reached: Connection refused" in caplog.text


@pytest.mark.parametrize("no_proxy", ["", "10.0.0.0/8", "127.0.0.0/8"])
def test_a_gateway_on_this_machine_is_pushed_to_whatever_proxy_the_shell_names(
    no_proxy: str, gateway: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", no_proxy)
    exporter = opened(gateway)
    exporter.finish(at(0.0, run()))
    exporter.close()
    assert len(gateway.received) == 1


def test_a_gateway_elsewhere_is_pushed_to_through_the_proxy(
    gateway: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", gateway.url)
    exporter = PushgatewayExporter("http://gateway.example:9091")
    exporter.finish(at(0.0, run()))
    exporter.close()
    path = "/metrics/job/carbonmon/instance/node-7/run_id/mine"
    assert gateway.received[0].path == f"http://gateway.example:9091{path}"


def test_a_proxy_that_is_away_is_named_beside_the_gateway_and_without_its_login(
    monkeypatch: pytest.MonkeyPatch,
):
    with Receiver() as gone:
        place = gone.url.removeprefix("http://")
    monkeypatch.setenv("http_proxy", f"http://trainer:hunter2@{place}")
    exporter = PushgatewayExporter("http://10.1.2.3:9091")
    with pytest.raises(CarbonmonError) as caught:
        exporter.finish(at(0.0, run()))
    exporter.close()
    told = f"http://10.1.2.3:9091 cannot be reached through the proxy {place}: Connection refused"
    assert str(caught.value) == told


@pytest.mark.parametrize("status", [200, 500])
def test_of_a_gateway_s_answer_64_kib_are_read_at_most(status: int, gateway: Receiver):
    gateway.status, gateway.answer = status, bytes(1 << 20)
    exporter = opened(gateway)
    said = "500 Internal Server Error" if status == 500 else "the answer is longer than 65536 bytes"
    with pytest.raises(CarbonmonError, match=said):
        exporter.finish(at(0.0, run()))
    exporter.close()


def test_a_gateway_that_has_moved_is_not_followed_and_its_new_place_is_told():
    with GridServer(lambda request: Reply(b"", 308, {"Location": "https://gw.example/new?a=b"})) as moved:
        exporter = PushgatewayExporter(moved.url)
        with pytest.raises(CarbonmonError, match=r"it redirects to https://gw\.example: give that address$"):
            exporter.finish(at(0.0, run()))
        exporter.close()


def test_what_a_gateway_missed_is_told_when_it_is_back(gateway: Receiver):
    gateway.status = 500
    exporter = opened(gateway)
    exporter.checkpoint(at(0.0, run(energy_j=3.0)))
    with pytest.raises(CarbonmonError, match="refuses what is pushed: 500 Internal Server Error"):
        eventually(lambda: exporter.checkpoint(at(1.0, run())), "the failure")
    gateway.status = 200
    exporter._pusher.finish(Parcel(at(20.0, run(energy_j=4.0)), is_last=False))
    assert joules(gateway.received[-1]) == 4.0
    exporter.checkpoint(at(21.0, run()))
    exporter.close()


def test_what_a_gateway_refuses_is_told_in_its_own_words_and_holds_back_no_other_run(gateway: Receiver):
    gateway.status = 400
    gateway.answer = b"pushed metrics are invalid or inconsistent with existing metrics: " + 300 * b"x"
    exporter = opened(gateway)
    with pytest.raises(
        CarbonmonError, match="400 Bad Request pushed metrics are invalid or inconsistent"
    ) as error:
        exporter.finish(at(0.0, run("first"), run("second")))
    assert len(str(error.value)) < 220
    assert gateway.asked == 4, "two runs, each tried twice because there is no later time"
    exporter.close()


def test_a_server_that_speaks_something_else_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        guarded = GuardedExporter(PushgatewayExporter(f"http://127.0.0.1:{server.getsockname()[1]}"))
        guarded.checkpoint(at(0.0, run()))
        eventually(lambda: not guarded.checkpoint(at(1.0, run())), "the failure")
        thread.join()
        guarded.close()


def test_user_and_password_come_from_the_environment_and_are_shown_nowhere(
    gateway: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv(USERNAME, "trainer")
    monkeypatch.setenv(PASSWORD, "hunter2")
    gateway.status = 401
    guarded = GuardedExporter(open_exporter(ExporterSettings(argument=gateway.url)))
    with caplog.at_level(logging.DEBUG):
        place = guarded.start(lambda: at(0.0))
        guarded.finish(at(0.0, run()))
        gateway.status = 200
        assert guarded.finish(at(1.0, run()))
        guarded.close()
    assert gateway.received[0].headers["Authorization"] == "Basic dHJhaW5lcjpodW50ZXIy"
    told = "\n".join([place, *(record.getMessage() for record in caplog.records)])
    assert "401" in told
    assert "hunter2" not in told
    assert "dHJhaW5lcjpodW50ZXIy" not in told


@pytest.mark.parametrize(("given", "missing"), [(USERNAME, PASSWORD), (PASSWORD, USERNAME)])
def test_half_of_a_login_is_a_mistake(monkeypatch: pytest.MonkeyPatch, given: str, missing: str):
    monkeypatch.delenv(missing, raising=False)
    monkeypatch.setenv(given, "x")
    with pytest.raises(ConfigError, match=f"{given} is set and {missing} is not"):
        open_exporter(ExporterSettings(argument="http://gateway:9091"))


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("http://gateway:9091", True),
        ("http://192.0.2.1:9091", True),
        ("https://gateway:9091", False),
        ("http://127.0.0.1:9091", False),
        ("http://localhost:9091", False),
        ("http://[::1]:9091", False),
    ],
)
def test_a_password_in_clear_text_across_the_network_is_warned_of(
    url: str, warns: bool, caplog: pytest.LogCaptureFixture
):
    PushgatewayExporter(url, ("trainer", "hunter2"))
    assert ("clear text" in caplog.text) is warns


@for_each_row(
    "argument",
    [
        "",
        "gateway:9091",
        "ftp://gateway",
        "http://",
        "http://:9091",
        "http://gateway:port",
        "http://gateway:99999",
        "http://gateway:9091/?x=1",
        "http://gateway:9091/#x",
        "http://gate way:9091",
        "http://gateway\n:9091",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_an_error_that_shows_a_good_one(argument: str):
    with pytest.raises(ConfigError, match=r"give for example pushgateway:http://gateway:9091"):
        open_exporter(ExporterSettings(argument=argument))


@pytest.mark.parametrize("address", ["gateway:9091", "gateway:port", "[::1"])
def test_a_password_in_the_address_is_refused_and_not_repeated(address: str):
    with pytest.raises(ConfigError, match=f"set {USERNAME} and {PASSWORD} in the environment") as error:
        open_exporter(ExporterSettings(argument=f"http://trainer:hunter2@{address}"))
    assert "hunter2" not in str(error.value)


def test_a_gateway_below_a_path_is_pushed_to_there(gateway: Receiver):
    exporter = open_exporter(ExporterSettings(argument=f"{gateway.url}/gateway/"))
    assert exporter.start(lambda: at(0.0)) == f"pushed to {gateway.url}/gateway"
    exporter.finish(at(0.0, run()))
    exporter.close()
    assert gateway.received[0].path.startswith("/gateway/metrics/job/carbonmon/")


def test_the_pace_is_every_15_s_and_at_once_for_what_is_new():
    pace = Pace()
    clock = [0.0, 5.0, 9.9, 14.9, 20.0, 25.1, 29.8]
    assert [pace.choose(one, one) is not None for one in (at(t, run()) for t in clock)] == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    for news in (at(30.0, run(), run("b")), at(31.0, run(), ended(run("b")))):
        assert pace.choose(news, news) is news
        assert pace.choose(news, news) is None


def test_of_what_waits_only_the_newest_is_sent():
    may_go, sent = threading.Event(), []

    def send(parcel: Parcel) -> None:
        assert may_go.wait(10.0)
        sent.append(parcel.snapshot.clock_s)

    pusher = Pusher("test", send)
    pusher.offer(Parcel(at(0.0), False))
    eventually(lambda: pusher._is_busy, "the first push")
    for clock_s in (1.0, 2.0, 3.0):
        pusher.offer(Parcel(at(clock_s), False))
    last = Parcel(at(4.0), True)
    ending = threading.Thread(target=pusher.finish, args=(last,))
    ending.start()
    eventually(lambda: pusher._waiting is last, "the last one waiting")
    may_go.set()
    ending.join()
    pusher.close()
    assert sent == [0.0, 4.0]


def test_the_last_of_all_is_tried_a_second_time():
    tried = []

    def send(parcel: Parcel) -> None:
        tried.append(parcel.is_last)
        if len(tried) == 1:
            raise CarbonmonError("away for a moment")

    pusher = Pusher("test", send)
    pusher.finish(Parcel(at(0.0), True))
    pusher.close()
    assert tried == [True, True]


def test_a_bug_in_sending_is_told_once_with_its_traceback_and_ends_nothing(caplog: pytest.LogCaptureFixture):
    def send(parcel: Parcel) -> None:
        if parcel.snapshot.clock_s < 2.0:
            raise KeyError("bug")

    pusher = Pusher("test", send)
    for clock_s in (0.0, 1.0):
        with pytest.raises(CarbonmonError, match="KeyError: 'bug'"):
            pusher.finish(Parcel(at(clock_s), False))
    pusher.finish(Parcel(at(2.0), True))
    pusher.check()
    pusher.close()
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_closing_ends_the_thread_and_can_be_done_twice(gateway: Receiver):
    exporter = opened(gateway)
    exporter.finish(at(0.0, run()))
    thread = exporter._pusher._thread
    assert thread.is_alive()
    exporter.close()
    exporter.close()
    assert not thread.is_alive()
