"""The node meter `redfish` against a controller on loopback: which chassis, which figures, which login."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from carbonmon.core.errors import ConfigError, SensorReadError, SensorUnavailable
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.ports import NodeMeter, NodeMeterSettings
from carbonmon.hardware.node_meters import redfish
from carbonmon.hardware.node_meters.redfish import chassis
from carbonmon.hardware.node_meters.redfish.account import REFUSED_PAUSE_S, Account, Login
from tests.support.gridserver import Reply, Request, status
from tests.support.redfish import METRICS, PASSWORD, SESSIONS, USERNAME, Bmc

WRONG = "another-password"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def bmc() -> Iterator[Bmc]:
    with Bmc() as server:
        yield server


def meter_of(bmc: Bmc, password_file: Path, path: str = "") -> NodeMeter:
    return redfish.open_meter(NodeMeterSettings(argument=bmc.url + path, password_file=password_file))


def test_opening_it_asks_nobody(bmc: Bmc, password_file: Path):
    meter_of(bmc, password_file).close()
    assert bmc.paths == []


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"PowerWatts": {"Reading": 512.5}}, NodeReading(512.5)),
        (
            {"PowerWatts": {"Reading": 512}, "EnergykWh": {"Reading": 3, "LifetimeReading": 1000.25}},
            NodeReading(512.0, 3_600_900_000_000_000, "EnergykWh.LifetimeReading"),
        ),
        (
            {"EnergyJoules": {"Reading": 7.5, "SensorResetTime": "2026-01-01T00:00:00Z"}},
            NodeReading(None, 7_500_000, "EnergyJoules.Reading 2026-01-01T00:00:00Z"),
        ),
        ({"PowerControl": [{"PowerConsumedWatts": 344}, {"PowerConsumedWatts": 120}]}, NodeReading(344.0)),
        ({"PowerWatts": {"Reading": None}, "EnergykWh": {"Reading": None}}, NodeReading()),
        ({"PowerWatts": {"Reading": 0}}, NodeReading()),
        ({"PowerWatts": {"Reading": "512 W"}, "EnergykWh": {"Reading": True}}, NodeReading()),
        ({"PowerWatts": {"Reading": -3.0}, "EnergykWh": []}, NodeReading()),
        ({"PowerControl": []}, NodeReading()),
        ({"PowerControl": [None]}, NodeReading()),
        ({}, NodeReading()),
    ],
)
def test_what_a_document_says(document: dict[str, Any], expected: NodeReading):
    assert chassis.reading_of(document) == expected


def test_it_logs_in_once_and_ends_its_session(bmc: Bmc, password_file: Path):
    meter = meter_of(bmc, password_file)
    assert [meter.read().power_w for _ in range(3)] == [500.0] * 3
    assert bmc.logins == 1
    assert len(bmc.sessions) == 1
    meter.close()
    assert bmc.sessions == set()


def test_a_session_that_has_expired_is_begun_anew(bmc: Bmc, password_file: Path):
    meter = meter_of(bmc, password_file)
    meter.read()
    bmc.sessions.clear()
    assert meter.read().power_w == 500.0
    assert bmc.logins == 2


def test_an_expired_session_of_unknown_path_is_no_refused_login(bmc: Bmc, password_file: Path):
    answer = bmc.server.answer

    def without_location(asked: Request) -> Reply:
        reply = answer(asked)
        return reply._replace(headers={k: v for k, v in reply.headers.items() if k != "Location"})

    bmc.server.answer = without_location
    meter = meter_of(bmc, password_file)
    assert meter.read().power_w == 500.0
    bmc.sessions.clear()
    assert meter.read().power_w == 500.0
    meter.close()


@pytest.mark.parametrize(
    ("prefix", "is_ended"), [("https://ilo-7.example", True), ("", True), ("/elsewhere", False)]
)
def test_a_session_is_ended_by_whatever_name_the_controller_calls_itself(
    prefix: str, is_ended: bool, bmc: Bmc, password_file: Path
):
    answer = bmc.server.answer

    def renamed(asked: Request) -> Reply:
        reply = answer(asked)
        place = reply.headers.get("Location")
        return (
            reply if place is None else reply._replace(headers={**reply.headers, "Location": prefix + place})
        )

    bmc.server.answer = renamed
    meter = meter_of(bmc, password_file)
    meter.read()
    meter.close()
    assert (not bmc.sessions) is is_ended
    assert not [path for path in bmc.paths if path.startswith("/elsewhere")]


@pytest.mark.parametrize("offers", ["basic", "silent"])
def test_where_no_session_is_to_be_had_the_login_goes_with_each_question(offers: str, password_file: Path):
    with Bmc(offers=offers) as bmc:
        meter = meter_of(bmc, password_file)
        assert [meter.read().power_w for _ in range(2)] == [500.0] * 2
        assert bmc.logins == (offers == "silent")


@pytest.mark.parametrize("offers", ["session", "basic"])
def test_a_refused_login_is_not_tried_again_for_minutes(offers: str):
    now_s = 1000.0
    with Bmc(offers=offers) as bmc:
        account = Account(bmc.server.url, Login(USERNAME, WRONG), clock=lambda: now_s)
        for _ in range(5):
            with pytest.raises(SensorReadError, match="check the account and its password") as error:
                account.document("/redfish/v1/Chassis")
            assert WRONG not in str(error.value)
        asked = len(bmc.paths)
        assert asked <= 2
        now_s += REFUSED_PAUSE_S
        with pytest.raises(SensorReadError):
            account.document("/redfish/v1/Chassis")
        assert len(bmc.paths) > asked


def test_a_document_that_the_role_may_not_read_is_no_refused_login_and_the_session_is_ended(
    bmc: Bmc, password_file: Path
):
    answer = bmc.server.answer
    bmc.server.answer = lambda asked: Reply({}, 403) if asked.path == METRICS else answer(asked)
    meter = meter_of(bmc, password_file)
    for _ in range(3):
        with pytest.raises(SensorReadError, match=r"the account's role may not read .*EnvironmentMetrics"):
            meter.read()
    bmc.server.answer = answer
    assert meter.read().power_w == 500.0, "it is asked on, because no account is locked by that"
    assert bmc.logins == 1
    meter.close()
    assert not bmc.sessions


def test_a_path_of_any_length_makes_no_text_of_any_length(bmc: Bmc, password_file: Path):
    bmc.documents["/redfish/v1/Chassis"] = {"Members": [{"@odata.id": "/" + "a" * 100_000}]}
    with pytest.raises(SensorReadError) as error:
        meter_of(bmc, password_file).read()
    assert len(str(error.value)) < 200


def test_a_chassis_within_another_is_a_part_and_not_the_node(bmc: Bmc, password_file: Path):
    parent = {"@odata.id": "/redfish/v1/Chassis/Self"}
    bmc.documents["/redfish/v1/Chassis"]["Members"].append({"@odata.id": "/redfish/v1/Chassis/GPUs"})
    bmc.documents["/redfish/v1/Chassis/GPUs"] = {
        "Links": {"ContainedBy": parent},
        "Power": {"@odata.id": "/redfish/v1/Chassis/GPUs/Power"},
    }
    bmc.documents["/redfish/v1/Chassis/GPUs/Power"] = {"PowerControl": [{"PowerConsumedWatts": 4000}]}
    meter = meter_of(bmc, password_file)
    assert meter.read().power_w == 500.0
    assert "/redfish/v1/Chassis/Self" in meter.describe()


def test_of_two_whole_chassis_none_is_guessed_and_one_can_be_named(bmc: Bmc, password_file: Path):
    bmc.documents["/redfish/v1/Chassis"]["Members"].append({"@odata.id": "/redfish/v1/Chassis/HGX"})
    bmc.documents["/redfish/v1/Chassis/HGX"] = {"Power": {"@odata.id": "/redfish/v1/Chassis/HGX/Power"}}
    bmc.documents["/redfish/v1/Chassis/HGX/Power"] = {"PowerControl": [{"PowerConsumedWatts": 4000}]}
    with pytest.raises(SensorUnavailable, match="2 chassis tell power") as error:
        meter_of(bmc, password_file).read()
    assert "/redfish/v1/Chassis/Self, or another of " in error.value.remedy
    assert meter_of(bmc, password_file, "/redfish/v1/Chassis/HGX").read().power_w == 4000.0


def test_the_older_document_is_read_where_the_newer_one_is_missing_or_says_nothing(
    bmc: Bmc, password_file: Path
):
    bmc.documents["/redfish/v1/Chassis/Self"]["Power"] = {"@odata.id": "/redfish/v1/Chassis/Self/Power"}
    bmc.documents["/redfish/v1/Chassis/Self/Power"] = {"PowerControl": [{"PowerConsumedWatts": 345}]}
    bmc.metrics = {"PowerWatts": {"Reading": None}}
    assert meter_of(bmc, password_file).read().power_w == 345.0
    bmc.documents["/redfish/v1/Chassis/Self"]["EnvironmentMetrics"] = {"@odata.id": "/redfish/v1/gone"}
    assert meter_of(bmc, password_file).read().power_w == 345.0


def test_null_readings_are_unknown_and_come_back(bmc: Bmc, password_file: Path):
    meter = meter_of(bmc, password_file)
    meter.read()
    bmc.metrics = {"PowerWatts": {"Reading": None}}
    with pytest.raises(SensorReadError, match="tells neither power nor energy now"):
        meter.read()
    bmc.metrics = {"PowerWatts": {"Reading": 600.0}}
    assert meter.read().power_w == 600.0


@pytest.mark.parametrize("code", [404, 500, 503])
def test_a_status_that_is_no_answer_is_an_error(code: int, bmc: Bmc, password_file: Path):
    meter = meter_of(bmc, password_file)
    meter.read()
    bmc.server.fault = status(code)
    with pytest.raises(SensorReadError, match=f"with status {code}"):
        meter.read()


def test_a_reference_to_elsewhere_is_not_followed(bmc: Bmc, password_file: Path):
    bmc.documents["/redfish/v1/Chassis"]["Members"] = [{"@odata.id": "https://evil.example/"}, "x", None]
    with pytest.raises(SensorReadError, match="no chassis that is a whole"):
        meter_of(bmc, password_file).read()


def test_the_certificate_is_verified(password_file: Path, tmp_path: Path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with Bmc(context) as bmc:
        with pytest.raises(SensorReadError, match=r"cannot be verified; .*, or with --redfish-ca-file$"):
            meter_of(bmc, password_file).read()
        assert bmc.logins == 0, "no password goes to who may be another"
        settings = NodeMeterSettings(argument=bmc.url, password_file=password_file, authorities=trusted)
        assert redfish.open_meter(settings).read().power_w == 500.0


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("", "it needs the URL of a Redfish service"),
        ("bmc.example", "it needs the URL of a Redfish service"),
        ("ftp://bmc.example", "it needs the URL of a Redfish service"),
        ("https://monitor:secret@bmc.example", "a password in a URL is seen by everybody"),
        ("https://monitor@bmc.example?x=1", "the URL has parameters"),
        ("http://monitor@bmc.example", "over http the password would travel in clear"),
    ],
)
def test_a_wrong_url_is_an_error_before_anything_is_asked(argument: str, expected: str, password_file: Path):
    with pytest.raises(ConfigError, match=expected) as error:
        redfish.open_meter(NodeMeterSettings(argument=argument, password_file=password_file))
    assert "secret" not in str(error.value)


def test_an_account_without_a_password_file_is_an_error():
    with pytest.raises(ConfigError, match="give --redfish-password-file FILE"):
        redfish.open_meter(NodeMeterSettings(argument="https://monitor@bmc.example"))


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"secret\n", 0o644, "others may read or write the password in it: chmod 600"),
        (b"", 0o600, "must hold the password and nothing else"),
        (b"one\ntwo\n", 0o600, "must hold the password and nothing else"),
        (b"\xff\xfe", 0o600, "is not UTF-8"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_an_error(
    content: bytes, mode: int, expected: str, tmp_path: Path
):
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=expected):
        redfish.open_meter(NodeMeterSettings(argument="https://monitor@bmc.example", password_file=path))


def test_a_service_that_asks_for_no_login_needs_none(bmc: Bmc):
    answer = bmc.server.answer
    bmc.sessions.add("open")
    bmc.server.answer = lambda asked: answer(asked._replace(headers={"x-auth-token": "open"}))
    assert redfish.open_meter(NodeMeterSettings(argument=bmc.server.url)).read().power_w == 500.0
    assert SESSIONS not in bmc.paths


def test_no_text_of_it_shows_the_password():
    assert PASSWORD not in repr(Login(USERNAME, PASSWORD))
