"""Every story, against the core and, line by line the same, against each database."""

from pathlib import Path

import pytest

from ledger.store.dialect import Database
from tests.scenarios.drivers import CoreDriver, StoreDriver
from tests.scenarios.scenario import Scenario

STORIES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
async def test_the_core_tells_the_story_as_written(story: Path) -> None:
    await Scenario(story, CoreDriver()).run()


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
async def test_each_database_tells_the_story_as_written(story: Path, database: Database) -> None:
    await Scenario(story, StoreDriver(database)).run()
