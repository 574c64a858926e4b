"""The picture that turns, in a real browser: by mouse, keys and slider, without a word on the console."""

import pytest

from mnemoscope.reporting.geometry import render_geometry, write_geometry
from tests.unit.chromium import OUTSIDE
from tests.unit.reporting.geometry_samples import bare, geometric, hostile, large
from tests.unit.reporting.samples import HOSTILE
from tests.unit.reporting.test_browser import BOXES

pytestmark = pytest.mark.browser

PIXELS = "() => document.querySelector('figure.turning canvas').toDataURL()"
OVERFLOWING = OUTSIDE.replace("closest('svg')", "closest('svg, pre')")
INK = """() => {
    const canvas = document.querySelector('figure.turning canvas');
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let n = 0;
    for (let i = 3; i < data.length; i += 4) n += data[i] > 0;
    return n / (data.length / 4);
}"""
FRAMES = "n => new Promise(done => { const next = () => n-- ? requestAnimationFrame(next) : done(); next(); })"


def settled(page) -> str:
    """The picture once it no longer changes."""
    before = ""
    for _ in range(50):
        page.evaluate(FRAMES, 5)
        now = page.evaluate(PIXELS)
        if now == before:
            return now
        before = now
    raise AssertionError("the picture does not come to rest")


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page; afterwards it must have been silent and asked for nothing but itself."""
    noise: list[str] = []
    requests: list[str] = []
    pages = []
    path = tmp_path / "report.html"

    def open_page(made, width: int = 1440, theme: str = "light", **context):
        write_geometry(made, path)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme, **context)
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: noise.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.evaluate(FRAMES, 5)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert noise == []
    assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}


@pytest.mark.parametrize(
    "made",
    [
        geometric,
        lambda: hostile(HOSTILE),
        *(pytest.param(made, marks=pytest.mark.long) for made in (bare, large, lambda: [geometric(), bare()])),
    ],
)
def test_the_page_fits_a_phone_and_a_wide_screen(opened, made):
    page = opened(made())
    for width in (390, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(OVERFLOWING) == []
            assert all(w > 250 and h > 60 for w, h in page.evaluate(BOXES))


def test_drag_keys_and_reset_turn_the_picture(opened):
    page = opened(geometric())
    canvas = page.locator("figure.turning canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert 0.001 < page.evaluate(INK) < 0.5
    start = settled(page)
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 120, middle[1] + 40, steps=4)
    page.mouse.up()
    page.mouse.move(2, 2)
    dragged = settled(page)
    page.get_by_role("button", name="Reset").click()
    assert settled(page) == start
    seen = {start, dragged}
    for key in ("ArrowLeft", "ArrowUp", "+"):
        canvas.press(key)
        seen.add(settled(page))
    assert len(seen) == 5
    canvas.press("-")
    canvas.press("ArrowDown")
    for _ in range(3):
        canvas.press("ArrowRight")
    assert settled(page) != start
    canvas.press("Home")
    assert settled(page) == start


def test_the_slider_goes_through_the_steps_by_keyboard(opened):
    page = opened(geometric())
    slider, output = page.locator("figure.turning input"), page.locator("figure.turning output")
    assert output.text_content() == slider.get_attribute("aria-valuetext") == "step 1,000"
    slider.focus()
    slider.press("ArrowLeft")
    assert output.text_content() == slider.get_attribute("aria-valuetext") == "step 100"
    settled(page)
    page.get_by_label("Drawn by").select_option("the graph's own eigenvectors")
    assert not page.locator(".through").is_visible()
    page.get_by_label("Drawn by").select_option("principal axes")
    assert output.text_content() == "step 1,000"


@pytest.mark.long
def test_points_that_move_between_steps_move_in_the_picture(opened):
    page = opened(large(100, 3))
    before = settled(page)
    slider = page.locator("figure.turning input")
    slider.focus()
    slider.press("Home")
    first = settled(page)
    slider.press("End")
    assert first != before
    assert settled(page) == before


def test_a_node_says_its_name_in_plain_text(opened):
    page = opened(hostile(HOSTILE))
    canvas = page.locator("figure.turning canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    tip, found = page.locator("figure.turning .tip"), ""
    for i in range(0, int(box["width"]), 20):
        page.mouse.move(box["x"] + i, box["y"] + box["height"] / 2)
        page.evaluate(FRAMES, 2)
        if tip.is_visible():
            found = tip.text_content()
            break
    assert "<script>alert(1)</script>" in found
    assert page.locator(".tip *").count() == 0


def test_nothing_moves_by_itself_until_it_is_asked(opened):
    page = opened(geometric(), reduced_motion="reduce")
    start = settled(page)
    slider = page.locator("figure.turning input")
    slider.focus()
    slider.press("Home")
    page.evaluate(FRAMES, 2)
    at_once = page.evaluate(PIXELS)
    assert start != at_once == settled(page)
    spin = page.get_by_role("button", name="Turn by itself")
    spin.click()
    assert spin.get_attribute("aria-pressed") == "true"
    page.evaluate(FRAMES, 20)
    assert page.evaluate(PIXELS) != at_once
    spin.click()
    assert settled(page) != at_once


def test_the_picture_follows_the_theme(opened):
    page = opened(geometric())
    light = settled(page)
    page.emulate_media(color_scheme="dark")
    page.evaluate(FRAMES, 3)
    assert settled(page) != light
    page.emulate_media(color_scheme="light")
    page.evaluate(FRAMES, 3)
    assert settled(page) == light


def test_without_scripts_a_still_picture_stands_there(browser, tmp_path):
    page = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900}).new_page()
    page.goto(write_geometry(geometric(), tmp_path / "report.html").as_uri())
    assert page.locator("figure.turning noscript svg").is_visible()
    assert not page.locator("figure.turning canvas").is_visible()
    assert not page.locator("figure.turning input").is_visible()
    page.context.close()


def test_a_foreign_script_does_not_run(browser, tmp_path):
    path = tmp_path / "report.html"
    foreign = "<script>document.title = 'changed'</script></main>"
    path.write_text(render_geometry(geometric()).replace("</main>", foreign), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.title() == "Geometry of a memory"
    assert page.locator("figure.turning canvas").is_visible()
    page.close()
