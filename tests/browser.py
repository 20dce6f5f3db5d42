"""Chromium without a window, for tests of the page; driven over the driver that comes with it."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--no-first-run",
)  # fmt: skip


class Browser:
    """One window; ``driver`` is that of selenium."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load a page, in a tab that remembers nothing."""
        self.driver.get_log("browser")
        self.driver.get(url)

    def run(self, script: str) -> Any:
        """What a piece of JavaScript returns."""
        return self.driver.execute_script(script)

    def text(self, selector: str) -> str:
        """The text of the first element, whether it is seen or not."""
        return str(self.run(f"return document.querySelector({selector!r})?.textContent ?? ''"))

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({selector!r}).click()")

    def fill(self, selector: str, text: str) -> None:
        """Put text into a field as if it were typed."""
        element = self.driver.find_element("css selector", selector)
        element.clear()
        element.send_keys(text)

    def resize(self, width: int, height: int, scheme: str = "light") -> None:
        """A window of this size, on a system with this color scheme."""
        self._command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self._command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the console says of errors and of what was forbidden, since the page was opened."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]

    def wait(self, found: Callable[[], T], seconds: float = 30.0) -> T:
        """The first true result."""
        end = time.monotonic() + seconds
        while not (result := found()):
            assert time.monotonic() < end, f"not in {seconds} s; console: {self.complaints()}"
            time.sleep(0.1)
        return result

    def _command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; where there is none, CI fails and others skip."""
    try:
        driver = _start()
    except RuntimeError as error:
        if os.environ.get("CI"):
            pytest.fail(f"the tests of the page are required here: {error}")
        pytest.skip(f"no browser: {error}")
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def _start() -> Any:
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError as error:
        raise RuntimeError("selenium is not installed; pip install 'ftrl-engine[dev]'") from error
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        raise RuntimeError("install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Both are named, so nothing is searched for and nothing is downloaded.
    return webdriver.Chrome(options=options, service=Service(driver))
