#!/usr/bin/env bash
# Prometheus 2.42 as a receiver of remote write throws a whole request away for one sample that is too old, others' too.
#
# Expected: of a request with one out-of-order sample that one is lost, as one of a scrape is.
# Seen (2026-11-30, Linux x86_64, Debian 12's package; Debian sid's 3.5.3 did the same): 1000 series in one request, of which
# one has a newer sample in the store already. The answer is 400, which a sender does not repeat, and none of the other 999
# is stored. Two samples of one series in the wrong order within a request cost the older one alone. With an
# out_of_order_time_window of 3 h all is stored:
#   plain: another request's series 400, 0 of 999; the same request's series 204, 1 of 1
#   window: another request's series 204, 999 of 999; the same request's series 204, 1 of 1
#
# An agent fills its requests with samples of all its targets. carbonmon shows a new counter with a sample at its begin, so its
# answers hold older samples than others' do: a receiver is better given the window, as docs/use/stores.md and
# deploy/prometheus/agent.yml say.
#
# Needs apt-get on Debian 12. Exit code: 0 as described, 1 different now, 2 the package cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq prometheus=2.42.0+ds-5+deb12u1 2>/dev/null || exit 2
dpkg-deb -x ./*.deb .
now=$(python3 - <<'PYTHON'
import json
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request


def number(value):
    """A varint of Protocol Buffers."""
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])


def field(tag, content):
    return number(tag << 3 | 2) + number(len(content)) + content


def series(name, *samples, **labels):
    """A TimeSeries of a WriteRequest: samples are (value, Unix ms)."""
    pairs = sorted({"__name__": name, **labels}.items())
    message = b"".join(field(1, field(1, key.encode()) + field(2, text.encode())) for key, text in pairs)
    for value, at_ms in samples:
        message += field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + number(at_ms))
    return field(1, message)


def snappy(data):
    """Snappy's format with literals alone."""
    parts = [data[start : start + 65536] for start in range(0, len(data), 65536)]
    return number(len(data)) + b"".join(b"\xf4" + struct.pack("<H", len(part) - 1) + part for part in parts)


def look(config):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = "127.0.0.1:%d" % free.getsockname()[1]
    name = "window" if config else "plain"
    with open(f"{name}.yml", "w") as file:
        file.write(config)
    options = [f"--config.file={name}.yml", f"--storage.tsdb.path={name}", f"--web.listen-address={place}"]
    log = open(f"{name}.log", "w")
    server = subprocess.Popen(["usr/bin/prometheus", *options, "--web.enable-remote-write-receiver"], stderr=log)

    def send(*many):
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        headers["X-Prometheus-Remote-Write-Version"] = "0.1.0"
        request = urllib.request.Request(f"http://{place}/api/v1/write", snappy(b"".join(many)), headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def count(query):
        text = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"http://{place}/api/v1/query?{text}") as answer:
            found = json.load(answer)["data"]["result"]
        return found[0]["value"][1] if found else 0

    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://{place}/-/ready").close()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        now_ms = int(time.time() * 1000)
        send(series("newer", (1.0, now_ms - 20_000)))
        others = [series("others", (5.0, now_ms - 5_000), node=str(node)) for node in range(999)]
        first = send(*others, series("newer", (0.0, now_ms - 30_000)))
        second = send(series("both", (5.0, now_ms - 5_000), (4.0, now_ms - 9_000)), series("beside", (5.0, now_ms - 5_000)))
        print(f"{name}: another request's series {first}, {count('count(others)')} of 999;", end=" ")
        print(f"the same request's series {second}, {count('count(beside)')} of 1")
    finally:
        server.terminate()
        server.wait()


look("")
look("storage: {tsdb: {out_of_order_time_window: 3h}}")
PYTHON
)
echo "$now"
[ "$now" = "plain: another request's series 400, 0 of 999; the same request's series 204, 1 of 1
window: another request's series 204, 999 of 999; the same request's series 204, 1 of 1" ]
