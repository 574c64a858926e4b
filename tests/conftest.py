"""What every test runs under: checked shapes, one thread, and NaN in memory that nobody has written to."""

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

SHAPED = [f"mnemoscope.{room}" for room in ("contracts", "ops", "memories", "models", "examination")]
"""Rooms whose functions state shapes. The others refuse ill-typed values in their own words, and are tested for it."""

if os.environ.get("JAXTYPING_DISABLE") != "1":
    # Before the package is imported for the first time; from then on every call is checked. An int is a float as well.
    install_import_hook(SHAPED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

torch.set_num_threads(1)

# A shell starts what runs in its background without Ctrl-C, and so do all that it starts; tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# torch fills uninitialised memory only while deterministic algorithms are on; on a CPU they cost next to nothing.
torch.use_deterministic_algorithms(True)
torch.utils.deterministic.fill_uninitialized_memory = True

settings.register_profile("mnemoscope", deadline=None, derandomize=True)
settings.load_profile("mnemoscope")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes what the user has kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNEMOSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_configure(config: pytest.Config) -> None:
    # Strategies build checked dataclasses, and beartype looks at a random item of a tuple.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The confusion table of the planted memories that ran: what was planted, what verdict it got, how often."""
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, [])]
    table = Counter(tuple(value) for report in reports for name, value in report.user_properties if name == "planted")
    if table:
        terminalreporter.section("planted memories: kind, verdict, memories")
        for (kind, verdict), n in sorted(table.items()):
            terminalreporter.line(f"{kind:<18} {verdict:<22} {n:>4}")
