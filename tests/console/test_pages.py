"""
The pages in a real browser: each at two widths, dark and light, without an error.

Screenshots are kept under build/screenshots.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.console.scene import ANSI, RTL, SCRIPT, console, create_topics, publish, settings
from tests.console.test_api import get
from tests.debian import program

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
FLOWS = [f"edge{n // 4 + 1}/xe-0/0/{n % 4}/{way}" for n in range(34) for way in ("in", "out")]
FLOWS = [*FLOWS[:3], SCRIPT, ANSI, RTL, "core1/" + "long-name-" * 12 + "/in", *FLOWS[3:]]
PAGES = {  # path, and what is there once it has data
    "overview": ("/", "text=Processes that report"),
    "flows": ("/flows?sort=flow&order=asc", "tbody tr:nth-child(50)"),
    "flow": (f"/flow?name={FLOWS[0]}", ".chart .main-svg"),
    "alerts": ("/alerts", "text=critical"),
    "models": ("/models", "text=uncertain"),
    "input": ("/input", "text=wrong_type"),
}
PATIENCE_MS = 60_000  # a machine that others use may take long to start a page
expect.set_options(timeout=PATIENCE_MS)
DRAWN = "new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium."""
    path = program("chromium", "chromium")
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=str(path), args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A console on a log that holds what a group has published."""
    config = settings(f"sqlite:///{tmp_path_factory.mktemp('pages') / 'log.db'}")
    create_topics(config)
    publish(config, FLOWS, range(90))
    with console(config) as (_, address, _):
        yield address


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A console on a log without any record."""
    config = settings(f"sqlite:///{tmp_path_factory.mktemp('empty') / 'log.db'}")
    create_topics(config)
    with console(config) as (_, address, _):
        yield address


class Reader:
    """A person at a browser, with one page, and the errors that it has logged."""

    def __init__(self, browser: Browser) -> None:
        self.errors: list[str] = []
        context = browser.new_context(timezone_id="Europe/Berlin", reduced_motion="reduce")
        self.page = page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))

    def open(self, address: str, width: int = 1280, scheme: str = "light") -> Page:
        self.page.goto("about:blank")  # or the last page would load itself again in new colours
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)
        self.page.goto(address)
        return self.page


@pytest.fixture(scope="module")
def reader(browser: Browser):
    """One for all tests: what the pages load is in its cache."""
    found = Reader(browser)
    yield found
    found.page.context.close()


@pytest.fixture
def opened(reader: Reader):
    """A way to open a page; at the end it has not logged an error."""
    reader.errors.clear()
    yield reader.open
    reader.page.evaluate("localStorage.clear()")
    # a flow without data is answered with 404
    assert [each for each in reader.errors if "status of 404" not in each] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_its_data(opened, url, name, width, scheme):
    """Nothing is wider than the screen, and axe finds nothing."""
    path, there = PAGES[name]
    page = opened(url + path, width, scheme)
    page.wait_for_selector(there)
    page.evaluate(DRAWN)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    if (width, scheme) == (390, "dark"):
        return  # neither the layout nor the colours are new to axe
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_without_data_says_what_it_waits_for(opened, empty, name):
    page = opened(empty + PAGES[name][0], 390)
    page.wait_for_selector(
        "text=/Waiting for|No alert is firing|Nothing was rejected|No challenger/"
    )
    expect(page.locator("text=Loading …")).to_have_count(0)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}-empty.png", full_page=True)
    assert page.locator("text=/undefined|NaN|null|Infinity/").count() == 0


@pytest.mark.parametrize("flow", [SCRIPT, ANSI, RTL], ids=["script", "ansi", "rtl"])
def test_a_name_is_text_and_nothing_else(opened, url, flow):
    """No script runs, no character is unseen, and the link leads to the flow."""
    page = opened(url + "/flows?sort=flow&order=asc")
    page.wait_for_selector("tbody tr:nth-child(50)")
    page.fill("#search", flow.split("/")[1][:5] if flow == ANSI else flow[1:5])
    expect(page.locator("tbody tr")).to_have_count(1)
    page.click("tbody a")
    page.wait_for_selector(".chart .main-svg")
    shown = page.inner_text("h1")
    assert shown == flow.replace("\x1b", "\\u001b").replace("\u202e", "\\u202e")
    assert page.locator("main script").count() == 0


def test_the_table_is_used_by_keyboard(opened, url):
    """/ searches, a heading sorts, and the address remembers both."""
    page = opened(url + "/flows")
    page.wait_for_selector("tbody tr:nth-child(50)")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("edge2")
    expect(page.locator("tbody tr")).to_have_count(8)
    page.get_by_role("button", name="Flow", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("th[aria-sort=ascending]")
    names = page.locator("tbody th").all_inner_texts()
    assert names == sorted(names)
    assert "search=edge2" in page.url
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(8)
    page.get_by_role("link", name=names[0]).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".chart .main-svg")


def test_pages_of_the_table(opened, url):
    page = opened(url + "/flows?sort=flow&order=asc")
    page.wait_for_selector("tbody tr:nth-child(50)")
    first = page.locator("tbody th").first.inner_text()
    page.get_by_role("button", name="Next").click()
    page.wait_for_selector("text=page 2 of 2")
    assert page.locator("tbody th").first.inner_text() != first


def test_times_are_local_or_utc(opened, url):
    """By a button that is remembered."""
    page = opened(f"{url}/flow?name={FLOWS[0]}")
    page.wait_for_selector(".chart .main-svg")
    assert "local time" in page.locator(".chart").inner_text()
    before = page.locator("dl time").first.inner_text()
    page.get_by_role("button", name="Times are local time").click()
    page.wait_for_selector("button:has-text('UTC')")
    expect(page.locator("dl time").first).not_to_have_text(before)
    page.reload()
    page.wait_for_selector("button:has-text('UTC')")


def test_a_console_that_ended_is_noticed(browser, tmp_path):
    """The page keeps what it has, and shows its time."""
    config = settings(f"sqlite:///{tmp_path / 'log.db'}")
    create_topics(config)
    publish(config, FLOWS[:5], range(30))
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    with console(config) as (_, address, _):
        page.goto(f"{address}/flow?name={FLOWS[0]}")
        page.wait_for_selector(".chart .main-svg")
        assert get(f"{address}/livez")[0] == 200
    page.wait_for_selector("text=The console does not answer", timeout=PATIENCE_MS)
    assert page.locator(".chart .main-svg").count() >= 1
    page.close()
