"""`ledger serve` as a process: bodies as long as a sender likes, kills, restarts, and stopping in good order."""

import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.api.bounds import MOST_BODY, MOST_USAGE_BODY
from tests.api.asking import BATCH, LINES, ONE, event, problem
from tests.api.process import TOKEN, Process

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for all the tests that leave it as it was."""
    home = tmp_path_factory.mktemp("served")
    with Process(home, f"sqlite:///{home / 'served.db'}") as running:
        yield running


def old(name: str, cost: str = "1.00", **more: Any) -> dict[str, Any]:
    """An event of some time ago: the process has the system's clock."""
    return event(name, cost, **{"time": "2025-01-01T12:00:00Z"} | more)


def spent(process: Process) -> str:
    answer = process.client.get("/v1/orgs/acme/balances", params={"scope": "org", "period": "lifetime"})
    return answer.json()["balances"][0]["spent_usd"]


def test_what_was_answered_is_on_disk(process_anywhere: Process) -> None:
    """J5: killed the moment after it answered, started again: it is there, and sent again it is a duplicate."""
    process = process_anywhere
    cap = {"scope": "key:crawler", "period": "lifetime", "limit_usd": "10", "action": "pause"}
    assert process.client.put("/v1/orgs/acme/caps/all", json=cap).status_code == 201
    batch = [old(f"e{n}") for n in range(50)]
    results = process.use(batch).json()["results"]
    process.kill()
    assert {result["status"] for result in results} == {"recorded"}
    process.start()
    assert process.client.get("/v1/orgs/acme/caps/all").json()["limit_usd"] == "10.00"
    assert process.client.get("/v1/orgs/acme/keys/crawler").json()["state"] == "paused"
    assert spent(process) == "50.00"
    assert {result["status"] for result in process.use(batch).json()["results"]} == {"duplicate"}


def test_a_process_that_is_killed_under_load_loses_nothing_that_it_answered(process: Process) -> None:
    """J5: six senders, a kill in the middle, every event sent until it is answered: each is booked once."""
    answered: list[dict[str, Any]] = []

    def sender(name: int) -> None:
        with httpx.Client(base_url=process.url, headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": BATCH}, timeout=10) as client:
            for n in range(40):
                batch = [old(f"{name}-{n}-{i}", "0.01", key=f"k{name}") for i in range(5)]
                while True:
                    try:
                        answer = client.post("/v1/usage", json=batch)
                        break
                    except httpx.TransportError:
                        time.sleep(0.05)
                answered.extend(answer.json()["results"])

    senders = [threading.Thread(target=sender, args=(n,)) for n in range(6)]
    for thread in senders:
        thread.start()
    time.sleep(0.3)
    process.kill()
    process.start()
    for thread in senders:
        thread.join()
    assert {result["status"] for result in answered} <= {"recorded", "duplicate"} and len(answered) == 1200
    assert spent(process) == "12.00"
    verify = [sys.executable, "-m", "ledger", "verify"]
    verified = subprocess.run(verify, env=process.environment, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr


def test_sigterm_answers_what_is_under_way_and_exits_well(process: Process) -> None:
    body = json.dumps([old(f"e{n}", "0.01") for n in range(1000)]).encode()
    head = f"POST /v1/usage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {BATCH}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", process.port), timeout=20) as raw:
        raw.sendall(head.encode() + body[:-1000])
        time.sleep(0.3)
        process.signal(signal.SIGTERM)
        time.sleep(0.3)
        raw.sendall(body[-1000:])
        assert raw.recv(100).startswith(b"HTTP/1.1 200 OK")
    assert process.exit_code() == 0
    assert "Traceback" not in process.log
    process.start()
    assert spent(process) == "10.00"


STOPPED = """
import os, signal, sys
from ledger.__main__ import main
from ledger.cli import serve
step = sys.argv.pop(1)
was = getattr(serve, step)
def signalled(*given, **said):
    os.kill(os.getpid(), signal.SIGTERM)
    return was(*given, **said)
setattr(serve, step, signalled)
main()
"""


@pytest.mark.parametrize(
    "step", ["connect", "not_current", "migrate", "_first_token", "showing_gauges", "_handing_over", "_http", "_until_stopped", "Running"]
)
def test_sigterm_at_any_step_of_the_start_exits_well(process_anywhere: Process, tmp_path: Path, step: str) -> None:
    """What was opened is closed, and nothing waits for it."""
    environment = process_anywhere.environment
    if step == "migrate":
        environment = environment | {"LEDGER_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}"}
    process_anywhere.kill()
    words = [sys.executable, "-c", STOPPED, step, "serve"]
    ended = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr and "error" not in ended.stderr, ended.stderr


def test_the_first_start_makes_a_token_and_shows_it_once(tmp_path: Path) -> None:
    """T1: and LEDGER_ADMIN_TOKEN counts at the first start only."""
    process = Process(tmp_path, f"sqlite:///{tmp_path / 'l.db'}")
    del process.environment["LEDGER_ADMIN_TOKEN"]
    with process:
        token = next(word for word in process.log.split() if word.startswith("ldg_"))
        assert httpx.get(f"{process.url}/v1/orgs", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        process.kill()
        process.environment["LEDGER_ADMIN_TOKEN"] = "another-token-for-later"
        process.start()
        assert process.log.count("ldg_") == 1
        assert httpx.get(f"{process.url}/v1/orgs", headers={"Authorization": "Bearer another-token-for-later"}).status_code == 401


def chunks(piece: bytes, times: int) -> Iterator[bytes]:
    for _ in range(times):
        yield piece


def test_a_body_that_is_too_long_is_refused_and_its_sender_gets_the_answer(served: Process) -> None:
    """T4: 100 MB, whether its length is said before or not; nothing is recorded, and memory does not follow."""
    served.use([old("before", org="other")])
    before = served.rss_mb()
    line = json.dumps(old("x")).encode() + b"\n"
    times = 100_000_000 // len(line)
    detail = problem(served.client.post("/v1/usage", content=line * times, headers={"Content-Type": LINES}), 413)
    assert str(MOST_USAGE_BODY) in detail
    block = line * 1000
    problem(served.client.post("/v1/usage", content=chunks(block, times // 1000), headers={"Content-Type": LINES}), 413)
    squeezed = gzip.compress(b" " * 100_000_000)
    assert len(squeezed) < 200_000
    problem(served.client.post("/v1/usage", content=squeezed, headers={"Content-Type": ONE, "Content-Encoding": "gzip"}), 413)
    for content in (b" " * (MOST_BODY + 1), chunks(b" " * 65536, 17)):
        problem(served.client.put("/v1/orgs/acme", content=content, headers=JSON), 413)
    assert served.rss_mb() - before < 120
    assert served.client.get("/v1/orgs/acme").status_code == 404


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/orgs", "/v1/orgs/nobody", "/v1/usage", "/openapi.json", "/docs"])
def test_head_is_answered_as_get_without_a_body(served: Process, path: str) -> None:
    asked, told = served.client.get(path), served.client.head(path)
    assert (told.status_code, told.headers["content-type"], told.content) == (asked.status_code, asked.headers["content-type"], b"")
    assert served.client.get("/livez").json() == {"status": "alive"}  # on the same connection: nothing of a body lay in it


def test_a_body_of_exactly_the_bound_is_read(served: Process) -> None:
    one = json.dumps(old("e1")).encode()
    whole = one + b"\n" * (MOST_USAGE_BODY - len(one))
    assert served.client.post("/v1/usage", content=whole, headers={"Content-Type": LINES}).json()["results"][0]["status"] == "recorded"
    problem(served.client.post("/v1/usage", content=whole + b"\n", headers={"Content-Type": LINES}), 413)
    assert served.client.put("/v1/orgs/acme", content=b"{}".ljust(MOST_BODY), headers=JSON).status_code == 200


def test_an_event_beside_an_offer_of_http_2_is_booked(served: Process) -> None:
    """S3: as Java's own client sends it."""
    body = json.dumps(old("java", org="java")).encode()
    head = "POST /v1/usage HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: x\r\nHTTP2-Settings: AAEAAEAA\r\nUpgrade: h2c\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\nContent-Type: {ONE}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as raw:
        raw.sendall(head.encode() + body)
        assert raw.recv(4096).startswith(b"HTTP/1.1 200 OK")
    assert served.use([old("java", org="java")]).json()["results"][0]["status"] == "duplicate"


@pytest.mark.parametrize(
    "sent",
    [b"\0\0\0\0\r\n\r\n", b"GET /v1/orgs HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 1_000_000 + b"\r\n\r\n",
     b"POST /v1/usage HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     b"POST /v1/usage HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
     b"GET /v1/orgs/%zz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["zeros", "another HTTP", "a megabyte of header", "a negative length", "gone in the middle", "bad escapes", "raw bytes"],
)  # fmt: skip
def test_what_is_not_http_leaves_the_server_unmoved(served: Process, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as raw:
        try:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            answer = raw.recv(4096)
        except OSError:
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert served.client.get("/readyz").status_code == 200
    assert "Traceback" not in served.log


def test_no_log_line_holds_what_was_sent(served: Process) -> None:
    """S2, S7: neither a secret nor an id in a path."""
    secret = "sk-or-v1-" + "0123456789abcdef" * 4
    served.use([old(secret, key=secret, prompt="my deepest secret"), {"id": secret, "data": "my deepest secret"}])
    served.client.get(f"/v1/orgs/{secret}")
    served.client.put(f"/v1/orgs/acme/keys/{secret}", content=b"{", headers=JSON)
    assert secret not in served.log and "deepest" not in served.log


def test_what_kubernetes_injects_does_not_stop_the_start(tmp_path: Path) -> None:
    injected = {"LEDGER_PORT": "tcp://10.0.0.1:8080", "LEDGER_SERVICE_HOST": "10.0.0.1", "LEDGER_SERVICE_PORT_HTTP": "8080"}
    with Process(tmp_path, f"sqlite:///{tmp_path / 'l.db'}", **injected) as process:
        assert process.client.get("/livez").status_code == 200
