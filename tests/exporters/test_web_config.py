"""The file of --web-config: the exporter-toolkit's format, what of it is not supported, who may read what."""

from __future__ import annotations

import logging
import math
import re
import ssl
import sys
from pathlib import Path

import pytest
from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.certificates import make_context
from carbonmon_exporters.endpoint.settings import Rate, Tls, WebConfig
from carbonmon_exporters.endpoint.web_config import read_web_config
from carbonmon_exporters.prometheus import open_exporter
from cryptography.hazmat.primitives import serialization

from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import ExporterSettings
from tests.support.metrics_endpoint import Authority, hashed

HASH = hashed()
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
SECRET = "hunter2"


def written(folder: Path, text: str) -> Path:
    path = folder / "web-config.yml"
    path.write_text(text)
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("server")
    return made


def test_every_key_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"""
        tls_server_config:
          cert_file: server.crt
          key_file: /elsewhere/server.key
          client_auth_type: RequireAndVerifyClientCert
          client_ca_file: certs/ca.pem
          client_allowed_sans: [prometheus.example, 10.0.0.1]
          min_version: TLS13
          max_version: TLS13
          cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
          prefer_server_cipher_suites: false
          curve_preferences: [CurveP384]
        http_server_config:
          http2: false
          headers:
            Strict-Transport-Security: max-age=31536000
            X-Frame-Options: deny
            X-XSS-Protection: ""
        basic_auth_users:
          prometheus: {HASH}
          123: "{HASH}"
        rate_limit:
          interval: 20ms
          burst: 30
        """,
    )
    assert read_web_config(path) == WebConfig(
        path,
        Tls(
            cert_file=tmp_path / "server.crt",
            key_file=Path("/elsewhere/server.key"),
            client_auth="required",
            client_ca_file=tmp_path / "certs/ca.pem",
            client_allowed_sans=("prometheus.example", "10.0.0.1"),
            min_version="TLS13",
            max_version="TLS13",
            cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",),
            prefers_own_order=False,
            curve="secp384r1",
        ),
        headers=(("Strict-Transport-Security", "max-age=31536000"), ("X-Frame-Options", "deny")),
        users={b"prometheus": HASH.encode(), b"123": HASH.encode()},
        rate=Rate(pytest.approx(50.0), 30.0),
    )


def test_what_is_left_out_has_the_formats_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, TLS)
    tls = Tls(tmp_path / "server.crt", tmp_path / "server.key")
    assert read_web_config(path) == WebConfig(path, tls)
    assert (tls.min_version, tls.max_version, tls.client_auth, tls.prefers_own_order) == (
        "TLS12",
        "TLS13",
        "none",
        True,
    )


def test_an_empty_value_is_as_one_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, f'{TLS}  client_ca_file: ""\n  client_auth_type:\n  min_version: ~\n')
    assert read_web_config(path).tls == Tls(tmp_path / "server.crt", tmp_path / "server.key")


@pytest.mark.parametrize(
    ("interval", "rate"),
    [("1s", Rate(1.0, 5.0)), ("2m0.5s", Rate(1 / 120.5, 5.0)), ("0", Rate(math.inf, math.inf))],
)
def test_a_rate_is_the_time_between_two_requests(tmp_path: Path, interval: str, rate: Rate) -> None:
    path = written(tmp_path, f"rate_limit: {{interval: {interval}, burst: 5}}\n")
    found = read_web_config(path).rate
    assert found is not None
    assert found.per_s == pytest.approx(rate.per_s)
    assert found.burst == rate.burst


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("tls_server_confg:\n  cert_file: a\n", 1, "did you mean 'tls_server_config'?"),
        (
            f"{TLS}  cert_fil: b\n",
            4,
            "unknown key 'cert_fil' in tls_server_config; did you mean 'cert_file'?",
        ),
        (f"{TLS}  cert_file: b\n", 4, "'cert_file' is given twice"),
        ("tls_server_config:\n  key_file: a\n", 2, "cert_file: missing"),
        ("tls_server_config:\n  cert_file: a\n", 2, "key_file: missing"),
        ("tls_server_config: {}\n", 1, "cert_file: missing"),
        ("tls_server_config:\n", 1, "tls_server_config must have keys and values"),
        (f"{TLS}  cert: text\n", 4, "cert: cannot be given inline here"),
        (f"{TLS}  client_auth_type: RequestClientCert\n", 4, "give VerifyClientCertIfGiven"),
        (f"{TLS}  client_auth_type: RequireAnyClientCert\n", 4, "give RequireAndVerifyClientCert"),
        (f"{TLS}  client_auth_type: Sometimes\n", 4, "'Sometimes'"),
        (f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n", 4, "needs a client_ca_file"),
        (f"{TLS}  client_ca_file: ca.pem\n", 4, "of no use without a client_auth_type"),
        (f"{TLS}  client_allowed_sans: [a]\n", 4, "needs client_auth_type: RequireAndVerifyClientCert"),
        (f"{TLS}  client_allowed_sans: []\n", 4, "client_allowed_sans: is empty"),
        (f"{TLS}  client_allowed_sans: a\n", 4, "client_allowed_sans must be a list"),
        (f"{TLS}  min_version: TLS10\n", 4, "'TLS10' is not supported: give TLS12 or TLS13"),
        (f"{TLS}  max_version: SSL30\n", 4, "max_version: 'SSL30' is not supported"),
        (f"{TLS}  min_version: TLS13\n  max_version: TLS12\n", 4, "TLS13 is above max_version, TLS12"),
        (f"{TLS}  curve_preferences: [CurveP256, X25519]\n", 4, "give one of CurveP256"),
        (f"{TLS}  prefer_server_cipher_suites: maybe\n", 4, "must be true or false"),
        ("http_server_config:\n  http2: true\n", 2, "this server supports HTTP/1 only"),
        ("http_server_config:\n  headers:\n    Server: x\n", 3, "unknown key 'Server' in headers"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: allow\n", 3, "must be deny or sameorigin"),
        ('http_server_config:\n  headers:\n    X-XSS-Protection: "1\\r\\nA: b"\n', 3, "cannot be printed"),
        ("http_server_config:\n  headers:\n    X-XSS-Protection: é\n", 3, "must be in ASCII"),
        (f"basic_auth_users:\n  anna: {SECRET}\n", 2, "user 'anna' needs a bcrypt hash"),
        (f"basic_auth_users:\n  anna: {HASH[:-1]}\n", 2, "user 'anna' needs a bcrypt hash"),
        (f"basic_auth_users:\n  anna: $2b$16{HASH[6:]}\n", 2, "a bcrypt cost of 16 is not between 04 and 15"),
        (f"basic_auth_users:\n  an:na: {HASH}\n", 2, "holds no colon"),
        ("basic_auth_users: {}\n", 1, "is empty"),
        ("basic_auth_users: [anna]\n", 1, "basic_auth_users must have keys and values"),
        ("basic_auth_users:\n  anna: [a]\n", 2, "must be a text"),
        ("rate_limit:\n  interval: often\n", 2, "interval: give a time"),
        ("rate_limit:\n  interval: 1s\n", 2, "burst: give the number"),
        ("rate_limit:\n  interval: 1s\n  burst: -1\n", 3, "burst: give the number"),
        ("- a\n", 1, "the file must have keys and values"),
        (f"a: b: {SECRET}\n", 1, "not valid YAML"),
        (f"a: '{SECRET}\n", 2, "not valid YAML"),
    ],
)
def test_a_mistake_is_an_error_with_file_line_and_key(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_web_config(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert words in str(error.value)
    assert SECRET not in str(error.value)
    assert HASH[7:] not in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"{}\n", "is without effect"),
        (b"http_server_config: {http2: false}\n", "is without effect"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: \x07\n", "not valid YAML"),
        (b"[" * 1000, "nested too deeply"),
        (b"#" * (1 << 21), "longer than"),
        (b"a: 1\n---\nb: 2\n", "not valid YAML"),
    ],
)
def test_what_is_no_web_config_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "web-config.yml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=re.escape(str(path))) as error:
        read_web_config(path)
    assert words in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--web-config: .*nowhere\.yml cannot be read: No such file"):
        read_web_config(tmp_path / "nowhere.yml")


def test_yaml_makes_nothing_but_texts(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    path = written(tmp_path, f"basic_auth_users:\n  a: !!python/object/apply:os.system ['touch {touched}']\n")
    with pytest.raises(ConfigError, match="must be a text"):
        read_web_config(path)
    assert not touched.exists()


def test_aliases_that_would_grow_without_bound_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(ConfigError, match="unknown key 'a0'"):
        read_web_config(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    ("module", "package", "text"),
    [("yaml", "PyYAML", TLS), ("bcrypt", "bcrypt", f"basic_auth_users:\n  anna: {HASH}\n")],
)
def test_a_missing_extra_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str, text: str
) -> None:
    path = written(tmp_path, text)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"needs {package}: pip install 'carbonmon\[auth\]'"):
        read_web_config(path)


def test_tls_alone_needs_no_bcrypt(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    assert AccessPolicy(written(tmp_path, TLS)).is_tls


def test_a_bad_web_config_keeps_the_exporter_from_being_made(tmp_path: Path) -> None:
    settings = ExporterSettings(web_config=written(tmp_path, "tls: {}\n"))
    with pytest.raises(ConfigError, match="unknown key 'tls'"):
        open_exporter(settings)


# Certificates and keys


def test_a_missing_certificate_key_or_authority_is_named(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    missing = tmp_path / "missing"
    where = tmp_path / "web-config.yml"
    for tls, words in (
        (Tls(missing, key), "cert_file .*missing cannot be read: No such file"),
        (Tls(certificate, missing), "key_file .*missing cannot be read: No such file"),
        (Tls(certificate, key, "required", missing), "client_ca_file .*missing cannot be read"),
    ):
        with pytest.raises(ConfigError, match=rf"web-config\.yml: {words}"):
            make_context(tls, where)


def test_files_that_are_no_certificates_are_refused(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    _, other = authority.issue("other")
    junk = tmp_path / "junk"
    junk.write_text(SECRET)
    for tls, words in (
        (Tls(certificate, other), "the key does not belong to the certificate"),
        (Tls(junk, key), "they are not a certificate"),
        (Tls(certificate, junk), "they are not a certificate"),
        (Tls(certificate, key, "required", junk), "no certificate in PEM is in it"),
    ):
        with pytest.raises(ConfigError, match=words) as error:
            make_context(tls, tmp_path)
        assert SECRET not in str(error.value)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("server")
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(SECRET.encode()),
        )
    )
    with pytest.raises(ConfigError, match="the key is encrypted; store it without a passphrase"):
        make_context(Tls(certificate, key), tmp_path)


@pytest.mark.parametrize(
    ("suites", "min_version", "words"),
    [
        (("TLS_INVENTED",), "TLS12", "'TLS_INVENTED' is unknown; there are TLS_RSA"),
        (("TLS_AES_128_GCM_SHA256",), "TLS12", "has suites of TLS 1.3 only: add min_version: TLS13"),
    ],
)
def test_suites_that_cannot_be_had_are_refused(
    authority: Authority, suites: tuple[str, ...], min_version: str, words: str
) -> None:
    certificate, key = authority.issue("server")
    with pytest.raises(ConfigError, match=words):
        make_context(Tls(certificate, key, cipher_suites=suites, min_version=min_version), None)


def test_the_named_suites_are_offered_in_their_order_and_no_others(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    suites = ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    context = make_context(Tls(certificate, key, cipher_suites=("TLS_AES_128_GCM_SHA256", *suites)), None)
    offered = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"]
    assert offered == ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"]


def test_versions_and_order_are_those_of_the_file(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    context = make_context(Tls(certificate, key, max_version="TLS12", prefers_own_order=False), None)
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_2
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert make_context(Tls(certificate, key), None).options & ssl.OP_CIPHER_SERVER_PREFERENCE


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_a_key_that_everybody_can_read_is_warned_of(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture, mode: int, warnings: int
) -> None:
    (tmp_path / "server.key").chmod(mode)
    with caplog.at_level(logging.WARNING):
        AccessPolicy(written(tmp_path, TLS))
    assert len(caplog.records) == warnings
    assert all("chmod o= " in record.getMessage() for record in caplog.records)
