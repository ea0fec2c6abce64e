"""`python -m consumers` that dies by SIGKILL at a step: DIE_AT="module.name before|after", NAME the consumers."""

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from consumers.__main__ import main
from ledger import pipeline


def die_at(step: str, when: str) -> None:
    """Replaces a step by one that kills the process before or after doing its work."""
    pipeline.FEWEST_AHEAD = 1 if step.startswith("ledger.pipeline.") else 1_000_000  # so that every batch goes that way
    where, _, name = step.rpartition(".")
    try:
        owner: Any = importlib.import_module(where)
    except ModuleNotFoundError:  # a method
        module, _, kind = where.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    real = getattr(owner, name)

    async def dying(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            await real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)


die_at(*os.environ.pop("DIE_AT").split())
sys.argv = ["consumers", *sys.argv[1:]]
main()
