"""The dashboard in a real Chromium, on three node processes under load: what it shows, a move and a drain by buttons.

Skipped where there is no chromium, no chromedriver or no selenium (the extra ``browser``). CAJUN_TEST_SCREENSHOTS
names a folder for pictures of what was seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.management.conftest import Command

webdriver = pytest.importorskip("selenium.webdriver", reason="needs the extra 'browser'")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.processes,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]

PATIENCE = 60.0
ACTORS = """
import cajun_fast as cf

@cf.actor("counter")
class Counter(cf.Actor):
    def __init__(self):
        self.value = 0
    def get_state(self):
        return self.value
    def set_state(self, state):
        self.value = state
    def receive(self, message, context):
        self.value += 1
        return self.value
"""
LOAD = """
import asyncio, random, cajun_fast as cf

async def main():
    config = cf.ClusterConfig.Builder("shop", "sqlite:///cluster.db").with_messaging_port(0).as_client().build()
    async with cf.ClusterFactory.create_cluster_system(config) as system:
        pids = [await system.create_actor_on_node("counter", f"cart-{n:02}", "abc"[n % 3]) for n in range(24)]
        system.pid("cart-99").tell({"op": "add", "item": "gumbo"})
        print("ready", flush=True)
        while True:
            for _ in range(10):
                random.choice(pids).tell(1)
            await asyncio.sleep(0.01)

cf.run(main())
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a node of three, with 24 actors that get messages."""
    folder = tmp_path_factory.mktemp("dashboard")
    (folder / "counters.py").write_text(ACTORS)
    words = (
        "--store",
        "sqlite:///cluster.db",
        "--port",
        "0",
        "--import",
        "counters",
        "--log-level",
        "warning",
    )
    http = ("--http", "127.0.0.1:0", "--http-writable")
    nodes = [Command(("node", "--id", name, *words, *http), folder, {}) for name in "abc"]
    load: subprocess.Popen[str] | None = None
    try:
        urls = [node.ready()["http"] for node in nodes]
        load = subprocess.Popen([sys.executable, "-c", LOAD], cwd=folder, stdout=subprocess.PIPE, text=True)
        assert load.stdout is not None
        assert load.stdout.readline() == "ready\n"
        yield urls[0]
    finally:
        if load is not None:
            load.kill()
            load.communicate()
        for node in nodes:
            node.abandon()


class Page:
    """The dashboard, as somebody sees it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1360, height: int = 900, scheme: str = "light") -> None:
        self.look_like(width, height, scheme)
        self.driver.get(f"{url}/dashboard/")
        self.until("document.getElementById('connection').textContent === 'live'")
        self.until("document.querySelectorAll('#nodes tr').length >= 3")

    def look_like(self, width: int, height: int, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def until(self, script: str) -> Any:
        """What the expression is, once it is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = self.run(script)
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"did not come true: {script}\n{self.run('document.body.innerText')}")

    def click(self, css: str) -> None:
        self.until(f"document.querySelector({css!r})")
        self.driver.find_element("css selector", css).click()

    def text(self, css: str) -> str:
        return str(self.run(f"document.querySelector({css!r}).innerText"))

    def picture(self, name: str) -> None:
        if folder := os.environ.get("CAJUN_TEST_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def complaints(self) -> list[str]:
        """Of the browser: errors, and what the page's own policy kept it from."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Page(driver)
    finally:
        driver.quit()


def row(name: str) -> str:
    return f"[...document.querySelectorAll('tr')].find(row => row.dataset.key === '{name}')"


def test_it_shows_the_cluster_as_it_is(url: str, page: Page) -> None:
    page.open(url)
    page.until("Number(document.getElementById('t-rate').textContent.replace(',', '')) > 50")
    page.until("document.querySelectorAll('#map path.flows').length >= 3")
    assert page.text("#t-actors") == "24"
    assert {page.run(f"{row(name)} !== undefined") for name in "abc"} == {True}
    assert "cart-99" in page.until("document.getElementById('dead').innerText")
    assert "joined" in page.until("document.getElementById('activity').innerText")
    assert "a: 8 actors" in page.run("document.getElementById('map-text').textContent")
    assert page.complaints() == []


def test_nothing_is_loaded_from_elsewhere(url: str, page: Page) -> None:
    page.open(url)
    loaded = page.run("performance.getEntriesByType('resource').map(each => each.name)")
    assert len(loaded) > 5
    assert all(each.startswith(url) for each in loaded), loaded


def test_it_can_be_used_without_seeing_it(url: str, page: Page) -> None:
    page.open(url)
    page.until("document.querySelectorAll('#actors tr').length > 5")
    nameless = page.run(
        "[...document.querySelectorAll('button, select, input, a, svg[role=img]')]"
        ".filter(each => each.offsetParent !== null && !(each.innerText || each.ariaLabel"
        " || each.labels?.[0]?.textContent || each.getAttribute('aria-labelledby'))).map(each => each.outerHTML)"
    )
    assert nameless == []
    assert page.run("document.documentElement.lang") == "en"
    assert page.run("document.querySelectorAll('main').length") == 1
    assert page.run("document.querySelectorAll('h1').length") == 1
    assert page.run("[...document.querySelectorAll('th')].every(each => each.scope === 'col')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone_and_in_the_dark(url: str, page: Page, scheme: str) -> None:
    page.open(url, width=390, height=844, scheme=scheme)
    page.until("document.querySelectorAll('#actors tr').length > 5")
    assert page.run("document.documentElement.scrollWidth <= 390")
    contrast = page.run(CONTRAST)
    assert contrast >= 4.5, contrast
    page.picture(f"dashboard-phone-{scheme}")
    page.look_like(1360, 900, scheme)
    time.sleep(1.5)  # for the picture only
    page.picture(f"dashboard-{scheme}")


#: The least contrast between the text of some kind and what is behind it.
CONTRAST = """(() => {
  const light = (color) => {
    const part = color.match(/[\\d.]+/g).map(Number).slice(0, 3)
      .map(each => each / 255).map(each => each <= .03928 ? each / 12.92 : ((each + .055) / 1.055) ** 2.4);
    return .2126 * part[0] + .7152 * part[1] + .0722 * part[2];
  };
  const behind = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (color !== 'rgba(0, 0, 0, 0)' && color !== 'transparent') return color;
    }
  };
  const kinds = ['h1', 'h2', '.quiet', '.label', '.note', 'output', '.legend', '.axis', 'th', 'td', '.chip', '.pill',
    'button', '.message', 'time'];
  return Math.min(...kinds.map(kind => document.querySelector(kind)).filter(Boolean).map(each => {
    const [one, other] = [light(getComputedStyle(each).color), light(behind(each))].sort((a, b) => b - a);
    return (one + .05) / (other + .05);
  }));
})()"""


def test_an_actor_is_moved_and_a_node_is_drained_by_its_buttons(url: str, page: Page) -> None:
    if "migrate" not in httpx.get(f"{url}/api/v1/self").json()["can"]:
        pytest.skip("actors cannot be moved yet")
    page.open(url)
    chosen = "document.querySelector(\"select[aria-label='Move cart-00 to']\")"
    page.until(chosen)
    page.driver.find_element("css selector", "select[aria-label='Move cart-00 to'] option[value='b']").click()
    page.until(f"{row('cart-00')}?.innerText.includes('b')")
    page.until("document.querySelector('#jobs li[data-state=done]')?.innerText.includes('cart-00')")
    moved = httpx.get(f"{url}/api/v1/actors/cart-00").json()
    assert (moved["node"], moved["here"]["state"]) == ("b", "running")
    page.picture("dashboard-move")

    page.click("button[aria-label='Drain node c']")
    page.until("document.getElementById('ask').open")
    page.picture("dashboard-question")
    page.click("#ask-yes")
    page.until(
        "[...document.querySelectorAll('#jobs li')].some(each => each.innerText.includes('Drain of c'))"
    )
    page.until(f"{row('c')}.innerText.includes('cordoned')")
    done = "[...document.querySelectorAll('#jobs li[data-state=done]')]"
    page.until(f"{done}.some(each => each.innerText.includes('Drain of c'))")
    page.until(f"{row('c')}.querySelector('.meter').innerText.trim() === '0'")
    left = httpx.get(f"{url}/api/v1/actors", params={"node": "c"}).json()["actors"]
    assert left == []
    assert page.text("#t-actors") == "24"
    page.picture("dashboard-drained")
    page.click("button[aria-label='Uncordon node c']")
    page.until(f"!{row('c')}.innerText.includes('cordoned')")
    assert page.complaints() == []


def test_a_reader_who_may_not_steer_sees_no_buttons_and_a_token_is_asked_for(
    page: Page, start_node: Callable[..., Command]
) -> None:
    node = start_node(
        "lone",
        "--http",
        "127.0.0.1:0",
        "--set",
        "http.token_env=DASH_TOKEN",
        DASH_TOKEN="a-token-for-the-dashboard",
    )
    url = node.ready()["http"]
    page.driver.get(f"{url}/dashboard/")
    page.until("document.getElementById('ask').open && document.getElementById('ask-input').offsetParent")
    page.driver.find_element("css selector", "#ask-input").send_keys("a-token-for-the-dashboard")
    page.click("#ask-yes")
    page.until("document.getElementById('connection').textContent === 'live'")
    page.until("document.querySelectorAll('#nodes tr').length === 1")
    assert page.text("#mode") == "read-only"
    assert page.run("document.querySelectorAll('#nodes button, #actors select').length") == 0
    page.run("sessionStorage.clear()")
