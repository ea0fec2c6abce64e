"""The production form at a real Kafka that lets in only who shows a certificate and a password, over TLS."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.consumers.harness import ROOT, events, staged
from tests.servers.kafka import Guard, Server, own_kafka

USER, PASSWORD = "ledger", "a password; with 'signs'"


def in_one_line(pem: bytes) -> str:
    """As Kafka's settings have it, where a line end is written as in Java."""
    return pem.decode().replace("\n", "\\n")


def guard_of(authority: trustme.CA, home: Path) -> Guard:
    """TLS both ways, and a password. What the ledger shows lies in `home`."""
    broker, own = authority.issue_cert("127.0.0.1"), authority.issue_cert("ledger@example.com")
    authority.cert_pem.write_to_path(home / "authority.pem")
    own.cert_chain_pems[0].write_to_path(home / "own.pem")
    own.private_key_pem.write_to_path(home / "own.key")
    key = load_pem_private_key(broker.private_key_pem.bytes(), None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    users = f'{jaas} username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
    settings = {
        "ssl.keystore.type": "PEM", "ssl.truststore.type": "PEM",
        "ssl.keystore.certificate.chain": in_one_line(b"".join(pem.bytes() for pem in broker.cert_chain_pems)),
        "ssl.keystore.key": in_one_line(key), "ssl.truststore.certificates": in_one_line(authority.cert_pem.bytes()),
        "sasl.enabled.mechanisms": "PLAIN", "sasl.mechanism.inter.broker.protocol": "PLAIN",
        **{f"listener.name.{name}.plain.sasl.jaas.config": users for name in ("inside", "outside")},
        **{f"listener.name.{name}.ssl.client.auth": "required" for name in ("inside", "outside")},
    }  # fmt: skip
    context = ssl.create_default_context(cafile=home / "authority.pem")
    context.load_cert_chain(home / "own.pem", home / "own.key")
    client = {"ssl_context": context, "sasl_mechanism": "PLAIN", "sasl_plain_username": USER, "sasl_plain_password": PASSWORD}
    return Guard("SASL_SSL", settings, {"security_protocol": "SASL_SSL", **client})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def guarded(home: Path) -> Iterator[Server]:
    with own_kafka(guard=guard_of(trustme.CA(), home)) as server:
        yield server


@pytest.fixture
def shown(guarded: Server, home: Path) -> dict[str, str]:
    """The settings of a ledger that is let in."""
    settings = {
        "BOOTSTRAP_SERVERS": guarded.bootstrap, "SECURITY_PROTOCOL": "SASL_SSL", "SASL_USERNAME": USER, "SASL_PASSWORD": PASSWORD,
        "SSL_CAFILE": str(home / "authority.pem"), "SSL_CERTFILE": str(home / "own.pem"), "SSL_KEYFILE": str(home / "own.key"),
    }  # fmt: skip
    return {f"LEDGER_KAFKA_{name}": value for name, value in settings.items()}


async def test_usage_flows_through_a_cluster_that_asks_for_a_certificate_and_a_password(
    guarded: Server, shown: dict[str, str], own_database: str, home: Path, tmp_path: Path
) -> None:
    files = {"cafile": str(home / "authority.pem"), "certfile": str(home / "own.pem"), "keyfile": str(home / "own.key")}
    ways = {"protocol": "SASL_SSL", "username": USER, "password": PASSWORD}
    async with staged(guarded.bootstrap, own_database, tmp_path, **ways, **files) as stage:
        process = stage.start("usage", "relay", **shown)
        await process.until_ready()
        await stage.produce(events(1, 2_000))
        await stage.until_booked()
        await stage.until_published()
        await stage.check()


@pytest.mark.parametrize(
    ("others", "absent"),
    [({"SASL_PASSWORD": "wrong"}, ()), ({}, ("SSL_CERTFILE", "SSL_KEYFILE")), ({}, ("SSL_CAFILE",))],
    ids=["another password", "no certificate of ours", "theirs is of an unknown authority"],
)
def test_a_cluster_that_does_not_let_us_in_is_named_without_a_traceback(
    shown: dict[str, str], others: dict[str, str], absent: tuple[str, ...]
) -> None:
    settings = shown | {f"LEDGER_KAFKA_{name}": value for name, value in others.items()}
    for name in absent:
        del settings[f"LEDGER_KAFKA_{name}"]
    asked = [sys.executable, "-m", "ledger", "topics", "create"]
    done = subprocess.run(asked, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and shown["LEDGER_KAFKA_BOOTSTRAP_SERVERS"] in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert PASSWORD not in done.stderr


def test_a_certificate_that_is_none_or_has_another_key_stops_every_command(shown: dict[str, str], home: Path) -> None:
    for given in ("nowhere.pem", str(home / "authority.pem")):
        settings = shown | {"LEDGER_KAFKA_SSL_CERTFILE": given}
        asked = [sys.executable, "-m", "ledger", "get", "orgs"]
        done = subprocess.run(asked, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and "LEDGER_KAFKA_SSL_CERTFILE" in done.stderr and "Traceback" not in done.stderr, done.stderr
