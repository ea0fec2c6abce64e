"""What every loop of the service does between its steps."""

import asyncio
import time

from ledger.loop import repeat


async def ended_after(count: int, step_s: float, rests: float = 0, failing: bool = False) -> float:
    """Seconds from the first step to the last of so many, each of which finds work, or fails."""
    done = asyncio.Event()
    times: list[float] = []

    async def step() -> int:
        times.append(time.monotonic())
        if len(times) == count:
            done.set()
        await asyncio.sleep(step_s)
        if failing:
            raise OSError("the database is away")
        return 1

    loop = asyncio.create_task(repeat("test", step, asyncio.Event(), 0.02, rests))
    await asyncio.wait_for(done.wait(), 10)
    loop.cancel()
    return times[-1] - times[0]


async def test_a_loop_leaves_as_many_times_the_time_that_it_worked_to_others() -> None:
    assert await ended_after(5, 0.05, rests=2) >= 4 * 3 * 0.05


async def test_a_loop_goes_on_after_what_it_meets_and_waits_longer_each_time() -> None:
    assert await ended_after(4, 0, failing=True) >= 0.04 + 0.08 + 0.16
