"""Processes beside the one that runs the tests, with a torch that was imported once for all.

Most of the time of a short process is the import of torch. Where a fork is safe, a server imports
it (``multiprocessing`` has one), and each process begins as a copy of the server.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# not taylortorch: the processes take it from where the tests have it
IMPORTED = [
    "matplotlib.pyplot",
    "torch._dynamo",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "tqdm",
]
PATIENCE = 1800
"""Seconds after which a process hangs: no machine is so busy that it should need them."""


def context() -> Any:
    """What makes processes; on other systems than Linux, libraries do not survive a fork."""
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(IMPORTED)
    return forking


class Script:
    """A script that runs in a process of its own, with what it prints."""

    def __init__(
        self,
        script: Path,
        *arguments: object,
        log: Path,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        """``before`` is called in the process, ahead of the script."""
        self.log = log
        command = [str(script), *map(str, arguments)]
        self.process = context().Process(
            target=_run, args=(command, log, dict(environment or {}), before), daemon=True
        )
        self.process.start()

    def finish(self) -> str:
        """What it printed, once it has ended; fails if that was not without an error."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        said = self.log.read_text()
        assert self.process.exitcode == 0, f"exit code {self.process.exitcode}\n{said}"
        return said


def _run(
    command: list[str],
    log: Path,
    environment: Mapping[str, str],
    before: Callable[[], None] | None,
) -> None:
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    with log.open("w") as file:
        # the numbers too: what C++ prints knows nothing of sys.stdout
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                if before is not None:
                    before()
                runpy.run_path(command[0], run_name="__main__")
            except Exception:
                sys.excepthook(*sys.exc_info())
                sys.exit(1)
