"""`python -m consumers` that is sent SIGTERM as it comes to the step of its start that STOP_AT names."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import consumers.__main__ as program
import consumers.app as app

if __name__ == "__main__":
    step = os.environ.pop("STOP_AT")
    place: Any = program if hasattr(program, step) else app
    was = getattr(place, step)

    def signalled(*given: Any, **said: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return was(*given, **said)

    setattr(place, step, signalled)
    sys.argv = ["consumers", *sys.argv[1:]]
    program.main()
