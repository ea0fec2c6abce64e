"""How gateways are reached: as the environment says, proxies included."""

import pytest

from ledger.core.connections import Connection, Gateway
from ledger.gateways.gateway import GatewayKey
from ledger.gateways.outward import open_gateway
from tests.servers.gateway import TOKEN, HttpProtocol, Key
from tests.servers.vendor import serving

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
