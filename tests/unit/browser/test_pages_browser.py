"""The run browser in a real one: silent, on loopback alone, accessible, live, and usable by keys."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from mnemoscope.runs import RunDirectory
from tests.unit.browser.folders import a_folder, falling, log
from tests.unit.chromium import OUTSIDE, serious

pytestmark = pytest.mark.browser

PAGES = {
    "list": "/",
    "nothing": "/?q=nothing",
    "trials": "/?kind=trial",
    "run": "/runs/recall/before",
    "growing": "/runs/recall/after?y=log",
    "compare": "/compare?run=recall/before&run=recall/after",
    "trial": "/trials/trial",
    "geometry": "/geometry/recall/before/nodes",
    "missing": "/runs/none",
}
CASES = [name if name in ("list", "run") else pytest.param(name, marks=pytest.mark.long) for name in PAGES]
OVERFLOWING = OUTSIDE.replace("closest('svg')", "closest('svg, pre, .skip, .said')")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The command, as a user runs it: address and folder."""
    root = a_folder(tmp_path_factory.mktemp("runs"))
    command = [sys.executable, "-c", "from mnemoscope.cli import main; main()", "serve", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found, "the command says where it is"
            yield found[0], root
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def opened(browser, served):
    """Opens pages; afterwards they must have been silent and asked for nothing but this server."""
    noise: list[str] = []
    requests: list[str] = []
    pages = []

    def open_page(path: str, width: int = 1440, theme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        page.on("console", lambda message: noise.append(message.text) if "404" not in message.text else None)
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(served[0] + path)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert noise == []
    assert [url for url in requests if not url.startswith((served[0] + "/", "data:"))] == []


@pytest.mark.parametrize("name", CASES)
def test_every_page_fits_and_is_accessible(opened, name):
    page = opened(PAGES[name])
    expect(page.locator("[data-load] > p > a")).to_have_count(0)
    for width in (390, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERFLOWING) == []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert serious(page) == []


def test_curves_grow_while_the_run_trains(opened, served):
    page = opened("/runs/recall/after")
    assert "step 5 of 100" in page.locator(".status").inner_text()
    before = page.locator("svg.curve path.line").first.get_attribute("d")
    log(RunDirectory(served[1] / "recall" / "after"), falling(4, first=6), after_step=5)
    expect(page.locator(".status")).to_contain_text("step 9 of 100", timeout=20_000)
    assert page.locator("svg.curve path.line").first.get_attribute("d") != before


def test_the_filter_stands_in_the_address_and_survives_a_reload(opened):
    page = opened("/")
    page.keyboard.press("/")
    page.keyboard.type("before")
    expect(page.locator("[data-row]")).to_have_count(1, timeout=20_000)
    assert page.url.endswith("/?q=before")
    page.reload()
    assert page.locator("[data-row]").count() == 1
    page.get_by_label("Name has").fill("")
    expect(page.locator("[data-row]")).to_have_count(2, timeout=20_000)


def test_runs_are_chosen_and_compared_by_keys(opened):
    page = opened("/")
    page.keyboard.press("c")
    assert "at least two" in page.locator("#said").inner_text()
    for key in "jxjxc":
        page.keyboard.press(key)
    page.wait_for_url("**/compare?run=*&run=*")
    assert page.locator(".compared li").count() == 2


def test_a_value_is_said_under_the_pointer_and_by_arrow_keys(opened):
    page = opened("/runs/recall/before")
    plot = page.locator(".plot").first
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert plot.locator(".readout").inner_text() == "step 2: loss 1.5"
    page.keyboard.press("Escape")
    assert not plot.locator(".readout").is_visible()
    plot.locator("svg").hover()
    assert re.match(r"step (9|10|11|12): loss 0\.[23]", plot.locator(".readout").inner_text())


def test_keys_are_explained_and_can_be_switched_off(opened):
    page = opened("/")
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.get_by_label("Single keys do this").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("j")
    assert page.locator("[data-row].at").count() == 0


def test_a_stored_page_runs_nothing_of_its_own(browser, served):
    page = browser.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{served[0]}/runs/recall/before/files/report.html")
    assert page.locator("body").inner_text().strip() == "stored"
    assert requests == [page.url]
    assert page.evaluate("window.origin") == "null"
    page.close()


def test_without_scripts_everything_is_there(browser, served):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served[0]}/runs/recall/before")
    assert page.locator("svg.curve").count() == 2
    page.get_by_role("link", name="Draw the figures").click()
    assert page.locator("figure svg[aria-label^='Loss by position']").count() == 1
    context.close()


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [
            sys.executable,
            "-c",
            "from mnemoscope.cli import main; main()",
            "serve",
            str(tmp_path),
            "--port",
            port,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert re.fullmatch(rf"mnemoscope: 127\.0\.0\.1:{port} cannot be listened on: .*\n", done.stderr)
