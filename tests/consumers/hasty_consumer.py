"""`python -m consumers` whose watchdog loses patience after as many seconds as STALLED_S says."""

import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import consumers.app
from consumers.__main__ import main

if __name__ == "__main__":
    stalled_s = float(os.environ.pop("STALLED_S"))
    consumers.app.Watchdog = functools.partial(consumers.app.Watchdog, stalled_s=stalled_s, look_every_s=0.5)  # type: ignore[assignment,misc]
    sys.argv = ["consumers", *sys.argv[1:]]
    main()
