"""The page in a real browser: silent, offline, and readable at the width of a phone and of a desktop."""

from functools import cache

import pytest

from mnemoscope.reporting import write
from mnemoscope.reporting.trial import write_trial
from tests.unit.chromium import OUTSIDE
from tests.unit.reporting import samples
from tests.unit.reporting.trial_samples import trial

pytestmark = pytest.mark.browser

PAGES = {
    "demo": [samples.text, samples.before, samples.after],
    **{edge.__name__: [edge] for edge in samples.EDGES},
}
BOXES = """() => [...document.querySelectorAll('figure svg')]
    .map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"""
LABEL_PIXELS = """() => [...document.querySelectorAll('figure svg')]
    .map(e => 8.5 * e.getBoundingClientRect().width / e.viewBox.baseVal.width)"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Sample reports by name, each written once."""

    @cache
    def report(name: str):
        path = tmp_path_factory.mktemp("reports") / "report.html"
        write([case() for case in PAGES[name]], path, command="mnemoscope report run", title="A report")
        return path

    return report


@pytest.fixture
def opened(browser, written):
    """Opens a sample report; afterwards the page must have been silent and asked for nothing but itself."""
    noise: list[str] = []
    requests: list[str] = []
    pages = []
    addresses: set[str] = set()

    def open_page(name: str, width: int = 1440, theme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(written(name).as_uri())
        pages.append(page)
        addresses.add(page.url)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert noise == []
    assert {url for url in requests if not url.startswith("data:")} == addresses


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_screen_and_every_figure_is_seen(opened, name):
    page = opened(name)
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(OUTSIDE) == []
            assert all(w > 250 and h > 60 for w, h in page.evaluate(BOXES))
    assert len(page.evaluate(BOXES)) == {"demo": 13, "bare": 0}.get(name, len(page.evaluate(BOXES)))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out_from_the_paper(opened, theme):
    page = opened("demo", theme=theme)
    contrast = page.evaluate(
        """() => {
            const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
            const luminance = colour => {
                canvas.fillStyle = colour;
                canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
                    .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            };
            const style = getComputedStyle(document.documentElement);
            const of = name => luminance(style.getPropertyValue(name));
            const against = (a, b) => (Math.max(of(a), of(b)) + 0.05) / (Math.min(of(a), of(b)) + 0.05);
            const text = ['--fg', '--muted', '--link'].map(name => against(name, '--paper'));
            const badges = ['works', 'partly', 'idle', 'open'].map(name => against(`--${name}`, `--${name}-tint`));
            const lines = [1, 2, 3, 4, 5].map(i => against(`--series-${i}`, '--paper'));
            return {text: Math.min(...text, ...badges), lines: Math.min(...lines)};
        }"""
    )
    assert contrast["text"] >= 4.5
    assert contrast["lines"] >= 3


def test_figure_text_follows_the_theme(opened):
    page = opened("demo", theme="dark")
    label = page.locator("figure svg text").first
    assert label.evaluate("e => getComputedStyle(e).fill") == "rgb(232, 232, 228)"
    page.emulate_media(color_scheme="light")
    assert label.evaluate("e => getComputedStyle(e).fill") == "rgb(27, 28, 30)"


def test_figure_text_is_legible_on_a_phone(opened):
    page = opened("demo", width=390)
    assert min(page.evaluate(LABEL_PIXELS)) >= 9


def test_the_wide_table_scrolls_inside_its_own_box(opened):
    page = opened("demo", width=390)
    box = page.locator(".scroll", has=page.locator(".verdict-table")).first
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    assert box.get_attribute("tabindex") == "0"


def test_paper_shows_all_numbers_and_cuts_nothing(opened):
    page = opened("demo", width=720, theme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    cut = "() => [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(cut) == 0
    hidden = "() => [...document.querySelectorAll('details table')].filter(e => !e.checkVisibility()).length"
    assert page.evaluate(hidden) == 0
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(253, 253, 251)"


@pytest.mark.parametrize(
    "remedy",
    [
        pytest.param("dropout", marks=pytest.mark.long),
        pytest.param("negative_control_reinitialise_slots+branch_dropout", marks=pytest.mark.long),
        samples.HOSTILE,
    ],
)
def test_the_page_of_a_trial_fits_a_phone_and_a_desktop(browser, tmp_path, remedy):
    page = browser.new_page()
    noise: list[str] = []
    page.on("console", lambda message: noise.append(message.text))
    page.goto(write_trial(trial(remedy), tmp_path / "trial.html").as_uri())
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(OUTSIDE) == []
            assert len(page.evaluate(BOXES)) == 2
            assert all(w > 250 and h > 60 for w, h in page.evaluate(BOXES))
        assert min(page.evaluate(LABEL_PIXELS)) >= 9
    page.close()
    assert noise == []
