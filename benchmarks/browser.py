"""The run browser: a run of 100,000 logged steps is opened, and 1,000 runs are listed, each by a server that is new.

"first" is what the first visitor waits for, when nothing has been read yet; "again" is the same page from a warm server
after the half second in which it trusts what it knows; "unchanged" is the answer to a page that already has it. By the
clock, on one thread; bars are for "first".
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from starlette.testclient import TestClient

from benchmarks.timing import Spread, print_table
from mnemoscope.browser.guarding import Access
from mnemoscope.browser.index import Index
from mnemoscope.browser.server import application
from tests.unit.browser.folders import a_run
from tests.unit.reporting import samples

N_STEPS, N_RUNS, SHORT = 100_000, 1_000, 200
REPEATS = 7
BAR_SECONDS = 1.0
TRUSTED_SECONDS = 0.6
PAGES = {
    f"a run of {N_STEPS:,} steps": ("long", "/runs/run"),
    f"{N_RUNS:,} runs, the first page": ("many", "/"),
    f"{N_RUNS:,} runs, all of them": ("many", f"/?rows={N_RUNS}"),
}


def rows(n: int) -> Iterator[dict[str, float]]:
    """Six figures a step."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n, 6))
    for step in range(1, n + 1):
        row = {f"figure_{i}": value for i, value in enumerate(noise[step - 1].tolist())}
        yield {"step": step, "loss": 3.0 / step} | row


def make(root: Path) -> None:
    """One long run, and many short ones that are examined."""
    a_run(root / "long" / "run", list(rows(N_STEPS)))
    short, examined = list(rows(SHORT)), samples.before().examination
    for i in range(N_RUNS):
        a_run(root / "many" / f"run-{i}", short, examination=examined)


def client(folder: Path) -> TestClient:
    """A server that has read nothing yet."""
    return TestClient(application(Index(folder), Access(names=("testserver",))))


def measure(folder: Path, address: str) -> tuple[str, ...]:
    """First, again, unchanged; and whether the bar is reached."""
    seconds: dict[str, list[float]] = {"first": [], "again": [], "unchanged": []}
    for _ in range(REPEATS):
        visitor, held = client(folder), dict[str, str]()
        for name, found in seconds.items():
            began = time.perf_counter()
            answer = visitor.get(address, headers=held if name == "unchanged" else {})
            found.append(time.perf_counter() - began)
            if answer.status_code != (304 if name == "unchanged" else 200):
                raise ValueError(f"{address}: answered {answer.status_code}")
            held = {"if-none-match": answer.headers["etag"]}
            time.sleep(TRUSTED_SECONDS)
    first, again, unchanged = (Spread.of(np.array(found)) for found in seconds.values())
    return (
        str(first),
        str(again),
        str(unchanged),
        f"{BAR_SECONDS:g}",
        "reached" if first.median < BAR_SECONDS else "MISSED",
    )


def run() -> None:
    """Make the folders, and print one row for each page."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        client(Path(folder)).get("/")
        table = [(name, *measure(Path(folder) / room, address)) for name, (room, address) in PAGES.items()]
    print_table(("page", "first (s)", "again (s)", "unchanged (s)", "bar (s)", ""), table)
