"""The page in a real browser: it draws, it moves, it scores and explains, and it runs nobody else's code."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ftrl_engine import FeatureHasher, Schema, Snapshot, build
from streams.names import FILE, Names
from tests.browser import Browser, chromium
from tests.serving_process import Server, serving

pytestmark = pytest.mark.browser

BITS = 18
PARAMETERS = {"alpha": 0.3, "beta": 1.0, "l1": 0.01, "l2": 1.0}
ATTACK = "<img src=x onerror=window.attacked=1><script>window.attacked=1</script>"
SCHEMA = Schema()
SIZES = {"desk": (1280, 900), "phone": (390, 844)}


def rows(seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    drawn = [
        {"user": f"u{user}", "item": f"i{item}", "device": "phone" if user % 2 else "desktop"}
        for user, item in random.integers(0, 30 + 20 * seed, (2000, 2)).tolist()
    ]
    return [row | {"click": int((hash_of(row) + random.random()) > 1.2)} for row in drawn]


def hash_of(row: dict[str, Any]) -> float:
    return sum(map(ord, row["user"] + row["item"])) % 17 / 17


class Model:
    """A model that learns and publishes when it is told to, with a name that attacks the page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hasher = FeatureHasher(SCHEMA, BITS)
        self.learner = build("ftrl_proximal", n_slots=1 << BITS, **PARAMETERS)
        self.loss = self.labels = self.predictions = 0.0
        self.rows = 0
        (path / "snapshots").mkdir(parents=True)

    def learn(self, seed: int) -> None:
        events = rows(seed)
        batch = self.hasher.transform(events)
        margins = self.learner.learn(batch)
        labels = np.array([event["click"] for event in events], dtype=float)
        self.loss += float((np.logaddexp(0.0, margins) - labels * margins).sum())
        self.labels += labels.sum()
        self.predictions += float((1 / (1 + np.exp(-margins))).sum())
        self.rows += len(events)
        self.publish()

    def publish(self) -> None:
        provenance = {
            "rows": self.rows,
            "learner": {"name": "ftrl_proximal", "bits": BITS, **PARAMETERS},
            "metrics": {
                "rows": self.rows,
                "log_loss": self.loss / self.rows,
                "calibration": self.predictions / self.labels,
                "label_mean": self.labels / self.rows,
                "auc": 0.75,
            },
            "published_at": time.time(),
        }
        snapshot = Snapshot.of(self.learner, BITS, SCHEMA, provenance)
        order = np.argsort(-np.abs(snapshot.weights))[:40].tolist()
        known = {int(snapshot.slots[at]): [f"user=u{number}"] for number, at in enumerate(order)}
        known[int(snapshot.slots[order[0]])] = [ATTACK, f"item={ATTACK}"]
        Names.of(known).save(self.path / FILE, SCHEMA, BITS)
        snapshot.save(self.path / "snapshots" / f"{self.rows}.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    model = Model(tmp_path_factory.mktemp("models") / "clicks")
    model.learn(0)
    return model


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[Server]:
    with serving(model.path) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def tile(browser: Browser, label: str) -> str:
    """The number and the unit of a tile."""
    found = browser.run(
        "return [...document.querySelectorAll('.tile')].map((t) => [t.querySelector('.label').textContent, "
        "t.querySelector('.value').textContent])"
    )
    return str(dict(found)[label])


def palette(browser: Browser) -> dict[str, str]:
    """The colors of the scheme that is on, of all that a chart is drawn in: a line, the axes, the grid."""
    style = "getComputedStyle(document.documentElement)"
    return {
        name: browser.run(f"return {style}.getPropertyValue('--{name}').trim()")
        for name in ("first", "soft", "grid")
    }


def dots(browser: Browser, color: str) -> dict[str, int]:
    """How many dots of each chart have a color."""
    script = """
      const [r, g, b] = [1, 3, 5].map((i) => parseInt(COLOR.slice(i, i + 2), 16));
      return [...document.querySelectorAll('.chart')].map((chart) => {
        const canvas = chart.querySelector('canvas');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let dots = 0;
        for (let i = 0; i < data.length; i += 4) {
          const off = Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b);
          dots += data[i + 3] > 150 && off < 12;
        }
        return [chart.querySelector('h2').textContent, dots];
      });"""
    found = browser.run(script.replace("COLOR", json.dumps(color)))
    return {str(title): int(count) for title, count in found}


def drawn(browser: Browser) -> dict[str, int]:
    """How many dots of each chart have the color of its first line."""
    return dots(browser, palette(browser)["first"])


def least(browser: Browser, colors: dict[str, str]) -> int:
    """Dots of the color that is seen least, in the chart where it is."""
    return min(min(dots(browser, color).values()) for color in colors.values())


def most(browser: Browser, colors: dict[str, str]) -> int:
    """Dots of the color that is seen most, in the chart where it is."""
    return max(max(dots(browser, color).values()) for color in colors.values())


def score(server: Server, times: int = 20) -> None:
    with httpx.Client(base_url=server.url) as client:
        for number in range(times):
            body = {"context": {"user": f"u{number}"}, "candidates": [{"item": "i1"}, {"item": "i2"}]}
            assert client.post("/score", json=body).status_code == 200


def test_the_charts_draw_and_the_numbers_move(server: Server, browser: Browser, model: Model) -> None:
    browser.resize(*SIZES["desk"])
    browser.open(server.url + "/")
    browser.wait(lambda: browser.text("#status") == "serving")
    assert browser.text("#name") == "clicks"
    before = {
        label: tile(browser, label) for label in ("Log loss", "Non-zero weights", "Requests for scores")
    }
    assert before["Requests for scores"].startswith("0")
    model.learn(1)

    def moved() -> bool:
        score(server)
        return all(tile(browser, label) != value for label, value in before.items())

    browser.wait(moved)
    browser.wait(lambda: min(drawn(browser).values()) > 20)
    assert len(drawn(browser)) == 6
    assert tile(browser, "Latency p99").endswith(("µs", "ms", "s"))
    assert float(tile(browser, "Log loss")) == pytest.approx(model.loss / model.rows, abs=1e-3)
    assert browser.complaints() == []


def test_a_page_that_is_opened_later_shows_what_was_before(server: Server, browser: Browser) -> None:
    score(server)
    time.sleep(2.5)
    browser.open(server.url + "/")
    browser.wait(lambda: drawn(browser)["Requests a second"] > 20)
    assert browser.complaints() == []


def test_an_event_is_scored_and_explained(server: Server, browser: Browser) -> None:
    browser.open(server.url + "/")
    browser.wait(lambda: '"user"' in browser.run("return document.querySelector('#event').value"))
    body = {"context": {"user": "u3"}, "candidates": [{"item": "i1"}, {"item": "i2"}, {"item": "new"}]}
    browser.fill("#event", json.dumps(body))
    browser.click("#event-form button")
    browser.wait(lambda: browser.text("#score") != "")
    scores = httpx.post(server.url + "/score", json=body).json()["scores"]
    assert browser.text("#score") == f"{100 * max(scores):.1f}%"
    assert browser.text("#ranking button[aria-pressed=true]").startswith(
        f"candidate {scores.index(max(scores)) + 1} "
    )
    assert "user=u3" in browser.text("#contributions")
    browser.click("#ranking button:last-child")
    assert browser.text("#score") == f"{100 * min(scores):.1f}%"
    browser.fill("#event", '{"context": {"user": ')
    browser.click("#event-form button")
    browser.wait(lambda: browser.text("#event-error") != "")
    assert browser.run("return document.querySelector('#answer').hidden") is True


@pytest.mark.parametrize(
    ("call", "ticks"),
    [
        ("plainTicks([0, 0.25, 0.5, 0.75, 1])", ["0", "0.25", "0.50", "0.75", "1.00"]),
        ("plainTicks([0.1, 0.1 + 0.2])", ["0.1", "0.3"]),
        ("plainTicks([0.952, 0.954, 0.956])", ["0.952", "0.954", "0.956"]),
        ("plainTicks([0, 500, 1000])", ["0", "500", "1,000"]),
        ("plainTicks([1250000, 1252000])", ["1.250M", "1.252M"]),
        ("plainTicks([null, 3])", [None, "3"]),
        ("timeTicks([0, 60, 120, 180])", ["0 min", "1 min", "2 min", "3 min"]),
        ("timeTicks([0, 30, 60, 90])", ["0 s", "30 s", "60 s", "90 s"]),
        ("timeTicks([0, 0.5, 1])", ["0 s", "0.5 s", "1.0 s"]),
        ("timeTicks([1e-5, 1e-4, null, 1e-2, 1e-1], true)", ["0.01 ms", "0.1 ms", None, "10 ms", "100 ms"]),
        ("timeTicks([])", []),
    ],
)
def test_an_axis_has_one_unit_and_every_digit_that_counts(
    call: str, ticks: list[str | None], server: Server, browser: Browser
) -> None:
    browser.open(server.url + "/")
    assert browser.run(f"return import('/static/numbers.js').then((numbers) => numbers.{call})") == ticks


def test_the_form_is_near_the_top_and_says_what_confidence_is(server: Server, browser: Browser) -> None:
    place = "return document.querySelector('#try').getBoundingClientRect().top"
    for size, most in (("desk", 750), ("phone", 1100)):
        browser.resize(*SIZES[size])
        browser.open(server.url + "/")
        browser.wait(lambda: browser.text("#positive") != "")
        assert browser.run(f"{place} + scrollY") < most
        browser.click("a.jump")
        browser.wait(lambda: -20 < browser.run(place) < 100)
    browser.fill("#event", json.dumps({"context": {"user": "u3", "item": "i1"}}))
    browser.click("#event-form button")
    browser.wait(lambda: browser.text("#score") != "")
    assert browser.run("return document.querySelector('#confidence').checkVisibility()") is True
    browser.fill("#event", json.dumps({"context": {"user": "nobody"}}))
    browser.click("#event-form button")
    browser.wait(lambda: browser.run("return document.querySelector('#confidence').hidden"))


def test_names_are_text_and_nothing_else(server: Server, browser: Browser) -> None:
    browser.open(server.url + "/")
    browser.wait(lambda: ATTACK in browser.text("#positive") + browser.text("#negative"))
    browser.fill("#event", json.dumps({"context": {ATTACK: ATTACK, "user": "u1"}}))
    browser.click("#event-form button")
    browser.wait(lambda: ATTACK in browser.text("#contributions"))
    assert browser.run("return window.attacked ?? null") is None
    assert browser.run("return document.querySelectorAll('main img, main script, main iframe').length") == 0
    assert browser.complaints() == []


def test_the_policy_forbids_what_the_page_does_not_need(server: Server, browser: Browser) -> None:
    browser.open(server.url + "/")
    browser.run(
        "const s = document.createElement('script'); try { s.textContent = 'window.attacked = 1'; "
        "document.body.append(s) } catch {}; try { document.body.innerHTML += '<b onclick=1>' } catch {}"
    )
    assert browser.run("return window.attacked ?? null") is None
    told = browser.complaints()
    assert len(told) == 2
    assert all("requires 'Trusted" in line for line in told)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "phone"])
def test_it_fits_and_can_be_read(
    server: Server, browser: Browser, scheme: str, size: str, tmp_path: Path
) -> None:
    browser.resize(*SIZES[size], scheme)
    browser.open(server.url + "/")
    browser.wait(lambda: browser.text("#status") == "serving" and browser.text("#positive") != "")
    assert browser.run("return document.documentElement.scrollWidth") == SIZES[size][0]
    dark, light = browser.run(
        "const luminance = (c) => c.match(/[0-9.]+/g).slice(0, 3).map(Number)"
        ".map((x) => x / 255).map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)"
        ".reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);"
        "const of = (s, p) => luminance(getComputedStyle(document.querySelector(s))[p]);"
        "return [of('.card', 'backgroundColor'), of('.tile .more', 'color')].sort((a, b) => a - b)"
    )
    assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG 2.1 AA"
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.removeprefix("rgb(").rstrip(")").split(","))) < 150) == (scheme == "dark")
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


@pytest.mark.parametrize("schemes", [("light", "dark"), ("dark", "light")])
def test_the_charts_follow_the_color_scheme(
    server: Server, browser: Browser, model: Model, schemes: tuple[str, str]
) -> None:
    """Lines, axes and grid are drawn in the scheme that the page is opened in, then in the other one."""
    at_load, later = schemes
    browser.resize(*SIZES["desk"], at_load)
    browser.open(server.url + "/")
    before = palette(browser)
    model.learn(2)

    def all_drawn() -> bool:
        score(server)
        return least(browser, before) > 20

    browser.wait(all_drawn)
    browser.resize(*SIZES["desk"], later)
    after = palette(browser)
    assert not set(after.values()) & set(before.values())
    browser.wait(lambda: least(browser, after) > 20)
    assert most(browser, before) < 5, "something is still drawn in the colors of the scheme before"


def test_the_token_is_asked_for_and_kept(model: Model, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("right-token")
    browser.resize(*SIZES["desk"])
    with serving(model.path, "--token-file", str(tmp_path / "token")) as server:
        browser.open(server.url + "/")
        browser.wait(lambda: browser.text("#status") == "token needed")
        browser.fill("#token", "wrong-token")
        browser.click("#token-form button")
        browser.wait(lambda: "not the right token" in browser.text("#token-error"))
        browser.fill("#token", "right-token")
        browser.click("#token-form button")
        browser.wait(lambda: browser.text("#status") == "serving")
        browser.driver.refresh()
        browser.wait(lambda: browser.text("#status") == "serving")
        assert browser.run("return [localStorage.length, document.cookie]") == [0, ""]
