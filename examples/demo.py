"""`make run`: an org with 48 keys, real arrivals on a fast clock, one agent that runs away, and a ledger that stops it.

Everything is real: the ledger serves HTTP over a SQLite file, the agents call a gateway over HTTP, the gateway reports usage and
obeys the ledger's key commands. Only the clock is fast, until the show is over; then it is the system's, and the ledger goes on.
"""

import argparse
import asyncio
import contextlib
import math
import os
import secrets
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn

from examples.fleet import ORG, RUNAWAY, Call, fleet, runaway, trace
from examples.gateway import Gateway, GatewayKey, Reporter, build_app
from examples.watch import Watch
from ledger.cli.policy import read_policies
from ledger.cli.serve import Running, configure_logs, running
from ledger.core.commands import SetConnection
from ledger.core.connections import Connection
from ledger.core.connections import Gateway as Kind
from ledger.settings import Settings

DAY_US = 86_400_000_000
BEFORE_MIDNIGHT_US = 2_700_000_000
LOOP_FROM_US, LOOP_EVERY_US, LOOP_CALLS = 900_000_000, 3_000_000, 660
AFTER_US = 60_000_000
MOST_UNBOOKED = 12  # more of them wait for each other: the pause comes later, and the night no sooner
STRIDE_US = 2_000_000
GATEWAY_TOKEN = "DEMO_GATEWAY_TOKEN"


class FastClock:
    """Trace time: starts 45 minutes before a midnight of UTC and runs `speed` times as fast, until `settle`.

    It waits for the show: it stands still a stride after the instant that was waited for last, so that a slow machine sees the
    same show, only longer.
    """

    def __init__(self, speed: float) -> None:
        now_us = time.time_ns() // 1000
        # The last midnight that leaves the whole show in the past, so that the system's clock is ahead when it ends.
        self.midnight_us = (now_us - 3_600_000_000) // DAY_US * DAY_US
        self.start_us = self.midnight_us - BEFORE_MIDNIGHT_US
        self.speed = speed
        self._began = time.monotonic()
        self._latest_us: float = self.start_us
        self._settled = False

    def __call__(self) -> int:
        """Microseconds since 1970."""
        if self._settled:
            return time.time_ns() // 1000
        return int(min(self._ahead_us(), self._latest_us))

    def _ahead_us(self) -> float:
        return self.start_us + (time.monotonic() - self._began) * 1_000_000 * self.speed

    def run_free(self) -> None:
        """From here on it waits for nobody."""
        self._leave_at(math.inf)

    def settle(self) -> None:
        """From here on it is the system's clock."""
        self._settled = True

    async def until(self, offset_us: int) -> None:
        """Waits for an instant of the trace."""
        self._leave_at(self.start_us + offset_us + STRIDE_US)
        await asyncio.sleep(max(0.0, (self.start_us + offset_us - self()) / 1_000_000 / self.speed))

    def _leave_at(self, latest_us: float) -> None:
        self._began += max(0.0, self._ahead_us() - self._latest_us) / 1_000_000 / self.speed
        self._latest_us = latest_us


@dataclass
class Story:
    """What happened, as the agents and the gateway saw it: the other side of the ledger's books."""

    accepted_nanos: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    refused: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    sent_at: dict[str, float] = field(default_factory=dict)
    pause_ms: float | None = None


@dataclass
class Stage:
    """The running parts."""

    clock: FastClock
    ledger: Running
    gateway: Gateway
    client: httpx.AsyncClient
    agents: httpx.AsyncClient
    story: Story
    token: str


async def act(stage: Stage, calls: list[Call]) -> None:
    """Every agent makes its calls when they are due, and not faster than the ledger books them."""
    under_way = set[asyncio.Task[None]]()
    try:
        for call in calls:
            await stage.clock.until(call.offset_us)
            while len(under_way) + stage.gateway.unreported >= MOST_UNBOOKED:
                await asyncio.sleep(0.005)
            task = asyncio.create_task(_call(stage, call))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
    finally:
        for task in under_way:
            task.cancel()


async def _call(stage: Stage, call: Call) -> None:
    began = time.monotonic()
    body = {
        "model": call.agent.model,
        "simulate": {"input_tokens": call.input_tokens, "output_tokens": call.output_tokens, "session": call.session},
    }
    answer = await stage.agents.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {call.agent.secret}"})
    if answer.status_code == 200:
        stage.story.accepted_nanos[call.agent.name] += call.nanos
        stage.story.sent_at[answer.json()["id"]] = began
    else:
        stage.story.refused[call.agent.name] += 1


async def time_the_pause(stage: Stage) -> None:
    """Notes how long after the call that crossed the cap the gateway had its key paused."""
    await stage.gateway.by_name[RUNAWAY].stopped.wait()
    paused = time.monotonic()
    answer = await stage.client.get(f"/v1/orgs/{ORG}/explain", params={"scope": f"key:{RUNAWAY}"})
    crossed = answer.json()["facts"]["crossed"][0]["id"]
    stage.story.pause_ms = (paused - stage.story.sent_at[crossed]) * 1000


async def caught_up(stage: Stage) -> None:
    """Until the ledger has booked what the gateway accepted, and every key command is confirmed."""
    while stage.gateway.unreported:
        await asyncio.sleep(0.05)
    while any(
        row["delivery"] in ("pending", "attempted") for row in (await stage.client.get(f"/v1/orgs/{ORG}/commands")).json()["commands"]
    ):
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def staged(listen: str, gateway_port: int, database: Path, speed: float) -> AsyncIterator[Stage]:
    """The ledger and the gateway, serving; the demo's policy applied."""
    for old in database.parent.glob(database.name + "*"):
        old.unlink()
    clock, token, gateway_token = FastClock(speed), f"ldg_{secrets.token_urlsafe(32)}", secrets.token_urlsafe(16)
    gateway_url = f"http://127.0.0.1:{gateway_port}"
    os.environ[GATEWAY_TOKEN] = gateway_token  # the ledger is told where it lies, never what it is
    settings = Settings(database_url=f"sqlite:///{database}", listen=listen, metrics_port=0, admin_token=token)
    keys = {agent.secret: GatewayKey(ORG, agent.workspace, agent.name) for agent in fleet()}
    gateway = Gateway(keys, Reporter(f"http://{listen}", token), gateway_token, clock)
    async with running(settings, clock) as ledger, _serving(gateway, gateway_port):
        policy = read_policies((Path(__file__).parent / "policy.yaml").read_text())[0]
        way = Connection(connection_id="gateway", gateway=Kind.HTTP, address=gateway_url, token=f"env:{GATEWAY_TOKEN}")
        orders = policy.orders((), (), (), {}, by="demo", prune=False)
        await ledger.service.record([*orders, SetConnection(org=ORG, by="demo", connection=way)])
        async with (
            httpx.AsyncClient(base_url=f"http://{listen}", headers={"Authorization": f"Bearer {token}"}) as client,
            httpx.AsyncClient(base_url=gateway_url, timeout=30, limits=httpx.Limits(max_connections=MOST_UNBOOKED)) as agents,
        ):
            yield Stage(clock, ledger, gateway, client, agents, Story(), token)


@contextlib.asynccontextmanager
async def _serving(gateway: Gateway, port: int) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(build_app(gateway), "127.0.0.1", port, log_level="error", access_log=False))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    with contextlib.suppress(AttributeError):
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


async def show(stage: Stage, watch: Watch) -> None:
    """The whole story, before the eyes of whoever watches."""
    calls = sorted([*trace(), *runaway(LOOP_FROM_US, LOOP_EVERY_US, LOOP_CALLS)])
    timing, watching = asyncio.create_task(time_the_pause(stage)), asyncio.create_task(watch.run(stage))
    try:
        await act(stage, calls)
        await stage.clock.until(calls[-1].offset_us + AFTER_US)
        stage.clock.run_free()
        await caught_up(stage)
        await timing
        await watch.last(stage)
    finally:
        watching.cancel()
    stage.clock.settle()


async def main(args: argparse.Namespace) -> None:
    """The show, then the ledger goes on serving."""
    configure_logs("error")
    async with staged(args.listen, args.gateway_port, args.database, args.speed) as stage:
        with Watch() as watch:
            await show(stage, watch)
        if not args.exit:
            watch.farewell(stage, args.listen, args.database)
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await stop.wait()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8080", help="where the ledger serves (default %(default)s)")
    parser.add_argument("--gateway-port", type=int, default=8081, help="where the agents' gateway serves (default %(default)s)")
    parser.add_argument("--database", type=Path, default=Path("demo.db"), help="SQLite file, made anew (default %(default)s)")
    parser.add_argument("--speed", type=float, default=100, help="how much faster than real the clock runs (default %(default)s)")
    parser.add_argument("--exit", action="store_true", help="end with the show instead of serving on")
    return parser.parse_args()


def in_use(listen: str, gateway_port: int) -> str | None:
    """The first address of the show's where something listens already, asked before anything of an earlier show is removed."""
    host, _, port = listen.rpartition(":")
    for address in ((host, int(port)), ("127.0.0.1", gateway_port)):
        try:
            socket.create_server(address).close()
        except OSError:
            return f"{address[0]}:{address[1]}"
    return None


if __name__ == "__main__":
    args = arguments()
    if busy := in_use(args.listen, args.gateway_port):
        sys.exit(
            f"{busy} is in use: stop what listens there, or say --listen HOST:PORT and --gateway-port PORT to `python -m examples.demo`"
        )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(args))
