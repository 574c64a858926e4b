"""Every kind of page in a real browser: silent, offline, within the screen, and accessible in either theme."""

import pytest

from mnemoscope.reporting import write
from mnemoscope.reporting.comparison import write_comparison
from mnemoscope.reporting.geometry import write_geometry
from mnemoscope.reporting.reproduction import write_reproduction
from mnemoscope.reporting.trace import write_trace
from mnemoscope.reporting.trial import write_trial
from tests.unit.chromium import OUTSIDE, serious
from tests.unit.reporting import samples
from tests.unit.reporting.geometry_samples import geometric
from tests.unit.reporting.test_comparison import labelled
from tests.unit.reporting.test_reproduction import reproduction
from tests.unit.reporting.trace_samples import text
from tests.unit.reporting.trial_samples import trial

pytestmark = pytest.mark.browser

PAGES = {
    "examination": lambda path: write([samples.before(), samples.after()], path, "mnemoscope report run", "A report"),
    "comparison": lambda path: write_comparison(
        labelled(samples.before(), samples.after()), path, "mnemoscope compare a b", "Two runs"
    ),
    "geometry": lambda path: write_geometry(geometric(), path),
    "trial": lambda path: write_trial(trial(), path),
    "reproduction": lambda path: write_reproduction(reproduction(), path),
    "trace": lambda path: write_trace(text(), path),
}
OVERFLOWING = OUTSIDE.replace("closest('svg')", "closest('svg, pre')")


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_is_silent_offline_within_the_screen_and_accessible(browser, tmp_path, kind):
    address = PAGES[kind](tmp_path / "page.html").as_uri()
    context = browser.new_context(bypass_csp=True)
    page, noise, requests = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    for width in (390, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERFLOWING) == []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert serious(page) == []
    context.close()
    assert noise == []
    assert [url for url in requests if not url.startswith(("data:", address))] == []
