"""`ledger import` by the real command: every format, safe to repeat, resumable; what it would have to guess is refused by name."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gateways.payloads import litellm, openrouter, openrouter_span
from tests.wire.events import raw

CSV = "id,when,api key,cost,prompt,completion,model,team\n"


class Ledger:
    """The command, on a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LEDGER_DATABASE_URL": f"sqlite:///{folder}/ledger.db"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ledger", *words], env=self.environ, cwd=self.folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *words: str, given: str | None = None) -> tuple[int, str, str]:
        child = self.start(*words)
        out, err = child.communicate(given, timeout=60)
        return child.returncode, out, err

    def spent(self, scope: str = "org") -> tuple[str, int]:
        _, out, _ = self("balances", scope, "--period", "lifetime", "--format", "json")
        (balance,) = json.loads(out)
        return balance["spent_usd"], balance["requests"]


POLICY = """org: {id: acme}
connections:
  or: {gateway: openrouter, keys: {Agentic Coding: coder}}
  behind: {gateway: litellm, counts: false}
"""


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> bytes:
    """A database to which the policy was applied."""
    ledger = Ledger(tmp_path_factory.mktemp("applied"))
    (ledger.folder / "ledger.db").write_bytes(sqlite_template.read_bytes())
    (ledger.folder / "policy.yaml").write_text(POLICY)
    assert ledger("apply", "policy.yaml", "--yes")[0] == 0
    return (ledger.folder / "ledger.db").read_bytes()


@pytest.fixture
def ledger(tmp_path: Path, applied: bytes) -> Ledger:
    (tmp_path / "ledger.db").write_bytes(applied)
    return Ledger(tmp_path)


def file(ledger: Ledger, name: str, content: bytes | str) -> str:
    (ledger.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def test_lines_of_events_are_recorded_once_with_every_reason_and_its_lines(ledger: Ledger) -> None:
    bad = raw({"input_tokens": -1}, id="bad")
    lines = [raw(id="e1"), b"", raw(id="e2"), bad, b"{not json", raw(id="e1"), bad]
    name = file(ledger, "usage.jsonl", b"\n".join(lines))
    code, out, err = ledger("import", name)
    assert (code, err) == (1, "")
    assert "2 recorded" in out and "1 duplicate" in out and "3 rejected" in out
    assert "data.input_tokens: Expected `int` >= 0: line 4, 7" in out and "line 5" in out
    code, out, _ = ledger("import", name)
    assert "3 duplicate" in out and "recorded" not in out
    assert ledger.spent() == ("2.50", 2)


def test_an_array_from_stdin_and_another_gateways_formats(ledger: Ledger) -> None:
    assert "2 recorded" in ledger("import", "-", given=f"[{raw(id='a').decode()}, {raw(id='b').decode()}]")[1]
    assert "2 recorded" in ledger("import", "-", "--format", "litellm", given=(litellm() + b"\n" + litellm(id="2")).decode())[1]
    name = file(ledger, "broadcast.jsonl", openrouter(openrouter_span(), openrouter_span({"gen_ai.response.id": "gen-2"})) + b"\n")
    assert "2 recorded" in ledger("import", name, "--format", "openrouter", "--connection", "or")[1]
    assert ledger.spent("key:coder") == ("0.00013916", 2)
    code, out, _ = ledger("import", "-", "--format", "litellm", "--connection", "behind", given=litellm().decode())
    assert (code, out.strip()) == (0, "1 observed")


def test_otlp_lines_as_a_collector_writes_them(ledger: Ledger) -> None:
    span = openrouter_span({"gen_ai.usage.total_cost": 0.5, "ledger.key": "crawler"}, name="chat")
    assert "1 recorded" in ledger("import", "-", "--format", "otlp", given=openrouter(span).decode())[1]
    assert ledger.spent("key:crawler") == ("0.50", 1)


MAP = ("--map", "time=when", "--map", "key=api key", "--map", "cost_usd=cost", "--map", "input_tokens=prompt", "--map", "tag.team=team")


def test_a_csv_by_a_mapping(ledger: Ledger) -> None:
    rows = '1,2026-07-05T03:09:54Z,crawler,0.25,10,5,m,web\n2,2026-07-05T03:09:55+02:00,"craw,ler",1.4E-7,,,m,\n'
    rows += '3,2026-07-05,crawler,0.25,10,5,m,web\n4,2026-07-05T03:09:54Z,crawler,"0,25",10,5,m,web\n5,2026-07-05T03:09:54Z\n'
    rows += "6,2026-07-05T03:09:54Z,crawler,0,25,10,5,m,web\n7,2026-07-05T03:09:54Z,crawler,0.5,10,5,m,web,,\n"
    name = file(ledger, "usage.csv", CSV + rows)
    code, out, _ = ledger("import", name, "--format", "csv", *MAP)
    assert code == 1 and "3 recorded" in out and "4 rejected" in out
    assert "cost_usd: has a decimal comma: write amounts with a point: line 5" in out
    assert "has fewer columns than the first line: line 6" in out and "line 4" in out
    assert "is not an RFC 3339 time, such as 2026-03-08T09:00:00Z: line 4" in out
    assert "has more columns than the first line: quote what has a comma, and write amounts with a point: line 7" in out
    assert "3 duplicate" in ledger("import", name, "--format", "csv", *MAP)[1]
    assert ledger.spent() == ("0.75000014", 3)


@pytest.mark.parametrize(
    ("content", "words", "why"),
    [
        (b"\xef\xbb\xbf" + CSV.encode(), MAP, "byte order mark"),
        (CSV.replace(",", ";"), MAP, "semicolons"),
        (CSV.encode("utf-16"), MAP, "byte order mark"),
        (CSV, (), "no column is the time: say which with --map time=COLUMN"),
        (CSV, (*MAP, "--map", "price=cost"), "'price' is not a field of usage"),
        (CSV, (*MAP, "--map", "session=run"), "there is no column 'run'"),
        (CSV + '1,"open\n', MAP, "line"),
        (CSV, (*MAP, "--map", "x"), "FIELD=COLUMN"),
        (CSV.encode() + b"\xff\xfe,\n", MAP, "not UTF-8"),
    ],
)
def test_a_csv_that_would_have_to_be_guessed_is_refused_by_name(
    ledger: Ledger, content: bytes | str, words: tuple[str, ...], why: str
) -> None:
    code, out, err = ledger("import", file(ledger, "usage.csv", content), "--format", "csv", *words)
    assert code == 1 and why in err.replace("\n", " "), err
    assert "recorded" not in out


@pytest.mark.parametrize(
    ("bad", "why"), [(b'5,2026-07-05T03:09:54Z,"open\n,more\n', "unexpected end of data"), (b"5,\xff,,\n", "is not UTF-8 text")]
)
def test_what_stands_before_a_row_that_breaks_a_csv_is_booked_and_said(ledger: Ledger, bad: bytes, why: str) -> None:
    rows = "".join(f"{n},2026-07-05T03:09:54Z,crawler,0.25,10,5,m,web\n" for n in range(10_003))  # what it books together, and three
    good = file(ledger, "good.csv", CSV + "a,2026-07-05T03:09:54Z,crawler,0.25,10,5,m,web\n")
    name = file(ledger, "usage.csv", (CSV + rows).encode() + bad)
    code, out, err = ledger("import", good, name, "--format", "csv", *MAP)
    assert (code, out.strip()) == (1, "10,004 recorded")
    assert f"usage.csv: line 10005: {why}; nothing was read from there on" in err.replace("\n", " ")
    (ledger.folder / name).write_text(CSV + rows + "b,2026-07-05T03:09:54Z,crawler,0.25,10,5,m,web\n")
    code, out, _ = ledger("import", name, "--format", "csv", *MAP)
    assert code == 0 and "10,003 duplicate" in out and "1 recorded" in out
    assert ledger.spent() == ("2501.25", 10_005)


def test_what_is_not_there_is_said_in_words(ledger: Ledger) -> None:
    assert "No such file" in ledger("import", "none.jsonl")[2]
    assert "there is no connection 'x'" in ledger("import", "-", "--format", "litellm", "--connection", "x")[2]
    assert "is of openrouter" in ledger("import", "-", "--format", "litellm", "--connection", "or")[2]


def test_stopped_in_the_middle_it_says_where_to_go_on_and_nothing_is_booked_twice(ledger: Ledger) -> None:
    count = 60_000
    line = raw(id="@", time="2026-07-05T03:09:54Z")
    name = file(ledger, "big.jsonl", b"\n".join(line.replace(b'"@"', b'"%d"' % n) for n in range(count)))
    child = ledger.start("import", name)
    until = time.monotonic() + 30
    while time.monotonic() < until and not ledger_has_begun(ledger):
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "go on with --from-line" in err
    place = int(err.partition("--from-line ")[2].split()[0])
    assert 1 < place < count
    assert ledger("import", name, "--from-line", str(place))[0] == 0
    assert ledger.spent() == (f"{count * 5 // 4}.00", count)
    assert ledger("verify")[0] == 0


def test_stopped_while_a_pipe_says_nothing_it_books_what_it_has_read(ledger: Ledger) -> None:
    child = ledger.start("import", "-")
    assert child.stdin is not None
    line = raw(id="@", time="2026-07-05T03:09:54Z").decode() + "\n"
    child.stdin.write("".join(line.replace("@", str(n)) for n in range(10_003)))  # what it books together, and three
    child.stdin.flush()
    until = time.monotonic() + 30
    while time.monotonic() < until and not ledger_has_begun(ledger):
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    assert "10,003 recorded" in child.communicate()[0]


def test_one_event_over_many_lines_and_an_array_of_any_length(ledger: Ledger) -> None:
    event = json.loads(raw(id="one", time="2026-07-05T03:09:54Z"))
    whole = json.dumps(event, indent=1).replace("{\n", "{", 1)  # its first line is neither an event nor a brace alone
    assert "1 recorded" in ledger("import", file(ledger, "one.json", whole))[1]
    many = json.dumps([event | {"id": str(n)} for n in range(10_001)])
    assert "10,001 recorded" in ledger("import", file(ledger, "many.json", many))[1]
    code, out, _ = ledger("import", file(ledger, "broken.jsonl", '{"specversion":"1.0",\n' + json.dumps(event) + "\n"))
    assert code == 1 and "1 rejected, 1 duplicate" in out and "line 1" in out


def ledger_has_begun(ledger: Ledger) -> bool:
    """Whether the write-ahead log has a batch in it."""
    log = ledger.folder / "ledger.db-wal"
    return log.exists() and log.stat().st_size > 1_000_000


@pytest.mark.parametrize("option", [("--map", "cost_usd=cost"), ("--source", "old-books")])
def test_an_option_for_csv_is_refused_for_other_files_and_not_passed_over(ledger: Ledger, option: tuple[str, str]) -> None:
    code, out, err = ledger("import", file(ledger, "usage.jsonl", raw()), *option)
    assert code == 1 and not out and f"{option[0]}: is for --format csv" in err


def test_a_csv_whose_lines_end_in_a_carriage_return_alone_is_refused_by_name(ledger: Ledger) -> None:
    code, _, told = ledger("import", file(ledger, "old.csv", "id,time,key\rx,2026-03-08T09:00:00Z,k\r"), "--format", "csv")
    assert code == 1 and told.startswith("error old.csv: line 1: ") and "Traceback" not in told
