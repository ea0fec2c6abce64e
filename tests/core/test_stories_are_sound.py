"""Every story again on the core: after every line levels (C3), states (K1) and sums (M7) are what the journal says."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ledger.core import commands as c
from ledger.core import entries as e
from tests.core.harness import assert_levels, assert_parts_add_up
from tests.scenarios import scenario
from tests.scenarios.drivers import CoreDriver

STORIES = sorted(Path(scenario.__file__).parent.glob("*.txt"))


class SoundDriver(CoreDriver):
    """The core, with a second opinion after every line."""

    async def send(self, commands: Sequence[c.Command], now_us: int) -> tuple[list[c.Result], list[e.Entry]]:
        answer = await super().send(commands, now_us)
        assert_levels(self.books, self.journal, now_us)
        assert_parts_add_up(self.books)
        return answer


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
async def test_books_agree_with_the_journal_after_every_line(story: Path) -> None:
    await scenario.Scenario(story, SoundDriver()).run()
