"""How gateways are reached: as the environment says, proxies included."""

from base64 import b64encode

import pytest

from ledger.core.connections import Connection, Gateway
from ledger.gateways.calling import Caller
from ledger.gateways.gateway import GatewayKey, GatewayRefused
from ledger.gateways.outward import open_gateway
from tests.servers.gateway import TOKEN, HttpProtocol, Key
from tests.servers.vendor import Fault, serving

FAR = Connection(connection_id="far", gateway=Gateway.HTTP, address="http://gateway.example", token="env:TOKEN")


async def test_a_proxy_of_the_environment_is_gone_by(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(HttpProtocol({"k": Key()})) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.delenv("no_proxy", raising=False)
        gateway = open_gateway(FAR, {"TOKEN": TOKEN})
        try:
            assert await gateway.read("acme", "k") == GatewayKey("active", "1")
            assert proxy.log[0].headers["host"] == "gateway.example"
        finally:
            await gateway.aclose()


async def test_an_address_that_needs_no_proxy_is_reached_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(HttpProtocol({"k": Key()})) as vendor, serving(HttpProtocol()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        near = Connection(connection_id="near", gateway=Gateway.HTTP, address=vendor.address, token="env:TOKEN")
        gateway = open_gateway(near, {"TOKEN": TOKEN})
        try:
            assert await gateway.read("acme", "k") is not None
            assert proxy.log == []
        finally:
            await gateway.aclose()


async def test_a_name_and_a_password_in_a_channels_address_are_given_to_it() -> None:
    async with serving(HttpProtocol({"k": Key()})) as vendor:
        caller = Caller(Connection(connection_id="channel", gateway=Gateway.WEBHOOK, address=vendor.address.replace("//", "//me:it@")), {})
        try:
            with pytest.raises(GatewayRefused, match="401"):
                await caller.ask("POST", "", {})
            assert vendor.log[0].headers["authorization"] == f"Basic {b64encode(b'me:it').decode()}"
        finally:
            await caller.aclose()


async def test_a_name_that_no_header_can_carry_is_refused_for_good() -> None:
    async with serving(HttpProtocol({"k": Key()})) as vendor:
        caller = Caller(Connection(connection_id="way", gateway=Gateway.WEBHOOK, address=vendor.address), {})
        try:
            with pytest.raises(GatewayRefused, match="header"):
                await caller.ask("POST", "", raw=b"", more={"webhook-id": "acme\r\nX: y/1"})
            assert vendor.log == []
        finally:
            await caller.aclose()


async def test_a_gateway_that_has_moved_says_that_its_address_is_to_be_mended() -> None:
    """A redirect is not followed: it would carry the token elsewhere."""
    async with serving(HttpProtocol({"k": Key()})) as vendor:
        vendor.always = Fault("status", 308, {"Location": f"{vendor.address}/elsewhere"})
        caller = Caller(Connection(connection_id="way", gateway=Gateway.HTTP, address=vendor.address), {})
        try:
            with pytest.raises(GatewayRefused, match="another address"):
                (await caller.ask("GET", "/v1/keys")).done()
            assert len(vendor.log) == 1
        finally:
            await caller.aclose()
