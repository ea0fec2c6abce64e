"""`python -m consumers` whose clock is as many microseconds ahead as the file CLOCK says."""

import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import consumers.__main__ as program
from ledger.service import Service, system_clock

SHIFT = Path(os.environ.pop("CLOCK"))


def shifted() -> int:
    return system_clock() + int(SHIFT.read_text())


if __name__ == "__main__":
    program.Service = functools.partial(Service, clock=shifted)  # type: ignore[assignment,misc]
    sys.argv = ["consumers", *sys.argv[1:]]
    program.main()
