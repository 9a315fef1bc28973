"""The audit page in a real browser: it loads, sorts, filters and explains. It sends and fetches nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from report_samples import HOSTILE, NOON_2026, World, demo_rows, row, sample_report
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait
from synthesis import TINY_SPEC, calibrated, music, write_model

from sonicscan.analysis.page import MAX_STRIP, strip
from sonicscan.analysis.reviewed import load_reviewed
from sonicscan.cli.demo import write_sound
from sonicscan.cli.report import main
from sonicscan.cli.scan import main as scan_main
from sonicscan.scoring.thresholds import Thresholds, certified_thresholds

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


class Browser:
    """A headless Chromium that records the console messages and the requests of pages."""

    def __init__(self, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def open(self, page: Path, *, width: int = 1280, theme: str = "light") -> None:
        """Load a page and wait until it is ready."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.requests(), self.messages()
        self.driver.get(page.as_uri())
        self.wait(lambda: self.run("return document.documentElement.dataset.ready === 'true'"))

    def run(self, script: str, *args: object) -> Any:
        return self.driver.execute_script(script, *args)

    def wait(self, until: Callable[[], object]) -> None:
        WebDriverWait(self.driver, 30, 0.05).until(lambda _: until())

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def cells(self, column: int) -> list[str]:
        """Text of a column of the table, as far as it is on the page; in one step, so that no redraw comes between."""
        css = f"#tracks tbody tr.main td:nth-child({column})"
        texts: list[str] = self.run("return [...document.querySelectorAll(arguments[0])].map((c) => c.innerText)", css)
        return texts

    @property
    def info(self) -> str:
        """The table's own line: which rows of how many it shows."""
        return str(self.run("return document.querySelector('.dt-info').innerText"))

    def search(self, text: str) -> None:
        box = self.one("input[type=search]")
        box.clear()
        box.send_keys(text)

    def messages(self) -> list[str]:
        """Messages of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Requests of the page since the last call, without embedded data and requests that its policy stopped."""
        asked, stopped = {}, set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            event = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                asked[event["requestId"]] = event["request"]["url"]
            elif message["method"] == "Network.webSocketCreated":
                asked[event["requestId"]] = event["url"]
            elif event.get("blockedReason") == "csp":
                stopped.add(event["requestId"])
        return [url for key, url in asked.items() if key not in stopped and not url.startswith("data:")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None or DRIVER is None:
        message = "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.driver.quit()


def run(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page over 20,000 tracks with an earlier report and decisions."""
    folder = tmp_path_factory.mktemp("large")
    spec = World().model(np.random.default_rng(0))
    limits = certified_thresholds(spec.calibration, 0.01)
    rows = demo_rows(20_000, spec, limits)
    sample_report(folder / "new.parquet", rows, spec, limits)
    sample_report(folder / "old one.parquet", [r for i, r in enumerate(rows) if i % 100], spec, limits)
    flagged = [r.path for r in rows if r.verdict == "flagged"][:3]
    lines = "".join(f"{path},human,<b>Kim</b>,2026-01-20\n" for path in flagged)
    (folder / "reviewed.csv").write_text("path,decision,by,date\n" + lines)
    out = folder / "audit.html"
    args = ("--since", folder / "old one.parquet", "--reviewed", folder / "reviewed.csv")
    run("html", folder / "new.parquet", "--out", out, *args)
    return out


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, small_library: Path) -> Path:
    """A page with evidence, over a library that was really scanned."""
    folder = tmp_path_factory.mktemp("scanned")
    model = write_model(folder / "m.onnx", calibrated(replace(TINY_SPEC, license_note="<i>none</i>")))
    result = CliRunner().invoke(
        scan_main, [str(small_library), "--model", str(model), "--out", str(folder / "r.parquet"), "--workers", "1"]
    )
    assert result.exit_code == 0, result.output
    args = ("--library", small_library, "--explain", 2, "--model", model)
    run("html", folder / "r.parquet", "--out", folder / "audit.html", *args)
    return folder / "audit.html"


def test_twenty_thousand_tracks_stay_light_and_fetch_nothing(browser: Browser, large: Path) -> None:
    assert large.stat().st_size < 15e6
    browser.open(large)
    assert browser.requests() == [large.as_uri()]
    assert browser.messages() == []
    # Elements are what a browser is slow at: rows become elements where the table shows them.
    assert browser.run("return document.querySelectorAll('*').length") < 3000
    assert browser.info == "1 to 25 of 20,000"
    assert len(browser.all("#histogram .bars .point")) > 30
    assert browser.one(".card b").text == "20,000"


def test_the_table_sorts(browser: Browser, large: Path) -> None:
    browser.open(large)
    scores = [float(text) for text in browser.cells(1)]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.99
    browser.one("#tracks thead th:nth-child(1) .dt-column-order").click()
    browser.wait(lambda: browser.cells(1)[0] == "-")  # without a score first, then upwards
    assert browser.cells(3)[:12].count("ok") == 0
    assert browser.cells(1)[12:] == sorted(browser.cells(1)[12:])
    assert browser.messages() == []


def test_the_table_searches(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.search('"Artist 17/Album 3"')
    browser.wait(lambda: browser.cells(4) and all("Artist 17/Album 3" in name for name in browser.cells(4)))
    assert "(of 20,000)" in browser.info
    browser.run("window.jQuery('#tracks').DataTable().search('Song 0123').draw()")
    assert all("0123" in name for name in browser.cells(4))


def test_the_table_filters_by_verdict(browser: Browser, large: Path) -> None:
    browser.open(large)
    browser.one("#tracks thead th:nth-child(2) .dtcc-button_dropdown").click()
    browser.wait(lambda: browser.all(".dtcc-list-buttons button"))
    next(choice for choice in browser.all(".dtcc-list-buttons button") if "review" in choice.text).click()
    browser.wait(lambda: set(browser.cells(2)) == {"review"})
    assert "(of 20,000)" in browser.info


def test_names_and_tags_stay_text(browser: Browser, large: Path) -> None:
    browser.open(large)
    title = browser.driver.title
    browser.search("onerror")
    browser.wait(lambda: browser.info.startswith("1 to 1 "))
    assert browser.cells(4) == [f"A/{HOSTILE}"]
    assert browser.cells(5) == ["<script>alert(1)</script>"]
    assert browser.cells(6) == ["=1+1 & <b>bold</b>"]
    browser.all("#tracks tbody tr.main")[0].click()
    browser.wait(lambda: browser.all(".detail"))
    assert HOSTILE in browser.one(".detail").text
    browser.search("<b>Kim</b>")
    browser.wait(lambda: browser.info.startswith("1 to 3 "))
    assert set(browser.cells(9)) == {"human"}
    assert not browser.all("main img") and not browser.all("main b b")
    assert browser.driver.title == title == "Audit of /music"
    assert browser.messages() == [] and browser.requests() == [large.as_uri()]


def test_even_markup_that_got_in_could_neither_run_nor_fetch(browser: Browser, large: Path) -> None:
    """If text were not escaped by mistake, the content security policy would still stop its scripts."""
    browser.open(large)
    browser.run(
        "const d = document.createElement('div'); d.id = 'bad'; document.body.append(d);"
        "d.innerHTML = `<img src=x onerror=\"document.title='owned'\"><img src='https://example.org/x.png'>`"
    )
    browser.wait(lambda: len([m for m in browser.messages() if "Content Security Policy" in m]) >= 1)
    assert browser.driver.title == "Audit of /music"
    assert not [url for url in browser.requests() if url.startswith("http")]


def test_a_track_s_evidence_opens(browser: Browser, scanned: Path) -> None:
    browser.open(scanned)
    browser.all("#tracks tbody tr.main")[0].click()
    browser.wait(lambda: browser.all(".open-evidence"))
    name = browser.cells(4)[0]
    browser.one(".open-evidence").click()
    box = browser.one("details.track[open]")
    assert box.find_element(By.TAG_NAME, "summary").text == name.rpartition("/")[2]
    assert len(box.find_elements(By.CSS_SELECTOR, "svg")) == 4
    assert float(browser.cells(1)[0]) == pytest.approx(
        browser.run("return JSON.parse(document.querySelector('details[open] .figures').textContent).score"), abs=1e-4
    )
    sound = browser.run("return document.querySelector('details[open] audio')")
    browser.run("arguments[0].load()", sound)
    browser.wait(lambda: browser.run("return arguments[0].duration", sound))
    assert browser.run("return arguments[0].duration", sound) >= 2.9
    assert browser.messages() == [] and browser.requests() == [scanned.as_uri()]


def test_a_track_without_evidence_offers_none(browser: Browser, scanned: Path) -> None:
    browser.open(scanned)
    browser.all("#tracks tbody tr.main")[5].send_keys(Keys.ENTER)
    browser.wait(lambda: browser.all(".detail"))
    with pytest.raises(NoSuchElementException):
        browser.one(".open-evidence")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_screen_in_both_themes(browser: Browser, scanned: Path, width: int, theme: str) -> None:
    browser.open(scanned, width=width, theme=theme)
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    assert browser.run("return document.documentElement.scrollWidth") <= width

    def lightness() -> list[float]:
        colours = browser.run("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
        return [sum(map(int, colour[4:-1].split(","))) / 765 for colour in colours]

    paper, ink = lightness()
    assert (paper > 0.9 and ink < 0.2) if theme == "light" else (paper < 0.15 and ink > 0.8)
    browser.one("#theme").click()
    assert (lightness()[0] > 0.5) != (theme == "light")
    assert browser.messages() == []


def test_a_chart_that_is_wider_than_the_screen_says_so(browser: Browser, scanned: Path) -> None:
    cue, box = ".evidence > .sideways", "details.track[open] .wide"
    for width, wider in ((390, True), (1280, False)):
        browser.open(scanned, width=width)
        browser.run("document.querySelector('details.track').open = true")
        sizes = browser.run(f"const b = document.querySelector('{box}'); return [b.scrollWidth, b.clientWidth]")
        assert (sizes[0] > sizes[1] + 1) == wider == browser.one(cue).is_displayed()


def test_it_prints_on_white(browser: Browser, scanned: Path) -> None:
    browser.open(scanned, theme="dark")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not browser.one("#theme").is_displayed() and not browser.one(".dt-paging").is_displayed()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_charts_take_the_width_of_paper_and_give_it_back(browser: Browser, large: Path) -> None:
    browser.open(large)
    widths = "return [...document.querySelectorAll('.chart .main-svg:first-child')].map((c) => c.clientWidth)"
    before = browser.run(widths)
    assert len(before) == 3 and before != [320] * 3
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    browser.wait(lambda: browser.run(widths) == [320] * 3)
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    browser.wait(lambda: browser.run(widths) == before)


def test_it_says_what_the_report_knows(browser: Browser, scanned: Path, large: Path) -> None:
    browser.open(scanned)
    text = browser.one("main").text
    assert "400 tracks by people: synthetic" in text and "<i>none</i>" in text
    assert "The share of AI cannot be estimated: the model does not say how much AI it catches" in text
    browser.open(large)
    # Of the artists of the highest scores; an artist with a track that people decided about has none.
    e_values = [float(text) for text in browser.cells(10) if text != "-"]
    assert len(e_values) > 15 and min(e_values) > 1.0
    text = browser.one("main").text
    assert "of 500 AI tracks at a false-positive rate of 1.0%" in text
    assert "estimated share of AI" in text and "newly flagged" in text and "3 human" in text
    assert "it claims 180.0 s and holds 0.4 s." in text
    assert browser.one("#changes h2").text == "Since old one.parquet" and not browser.all("#changes h2 a")


def test_an_untrained_model_is_said_first(tmp_path: Path, browser: Browser) -> None:
    spec = replace(TINY_SPEC, untrained=True)
    rows = [row(f"{i}.mp3", 0.1 * i, windows=1, window_margins=[0.0]) for i in range(9)]
    run("html", sample_report(tmp_path / "r.parquet", rows, spec), "--out", tmp_path / "a.html")
    browser.open(tmp_path / "a.html")
    assert browser.one("main section").text.startswith("The model is untrained.")
    assert browser.messages() == []


def test_an_empty_report_is_a_page_too(tmp_path: Path, browser: Browser) -> None:
    run("html", sample_report(tmp_path / "r.parquet", []), "--out", tmp_path / "a.html")
    browser.open(tmp_path / "a.html")
    assert "No tracks" in browser.one("#tracks").text and browser.messages() == []


def test_evidence_needs_the_model_and_the_sound_of_the_scan(tmp_path: Path, small_library: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    other = write_model(tmp_path / "other.onnx", gain=3.0)
    report = tmp_path / "r.parquet"
    scan = CliRunner().invoke(scan_main, [str(small_library / "b"), "--model", str(model), "--out", str(report)])
    assert scan.exit_code == 0
    out = tmp_path / "a.html"
    args = ["html", str(report), "--out", str(out), "--explain", "3"]
    refused = CliRunner().invoke(main, [*args, "--library", str(small_library), "--model", str(other)])
    assert refused.exit_code == 2 and "is not the model of r.parquet" in refused.stderr
    alone = CliRunner().invoke(main, args)
    assert alone.exit_code == 2 and "must be given together" in alone.stderr
    idle = CliRunner().invoke(main, [*args[:4], "--model", str(tmp_path / "none.onnx")])
    assert idle.exit_code == 2 and "--model is the model for --explain N" in idle.stderr
    (tmp_path / "empty").mkdir()
    for name, said in (("none", "none: there is no such folder"), ("empty", "empty holds none of the 3 highest")):
        missing = CliRunner().invoke(main, [*args, "--library", str(tmp_path / name), "--model", str(model)])
        assert missing.exit_code == 2 and said in missing.stderr and len(missing.stderr.splitlines()) == 1
    assert not out.exists()

    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(small_library / "b" / "4.ogg", moved / "4.ogg")
    shutil.copy(small_library / "a" / "1.wav", moved / "5.wav")  # of the same name, and another sound
    result = CliRunner().invoke(main, [*args, "--library", str(moved), "--model", str(model)])
    assert result.exit_code == 0 and "Note: There is no evidence for " in result.stderr
    page = out.read_text(encoding="utf-8")
    assert page.count('class="figures"') == 1
    assert "the file has changed since the scan" in page and "it is not below" in page


def test_a_strip_keeps_the_mean_of_a_long_track() -> None:
    margins = np.random.default_rng(0).normal(size=800)
    bars = strip(margins.tolist())
    assert len(bars) == MAX_STRIP and np.mean(bars) == pytest.approx(margins.mean(), abs=0.06)
    assert strip([0.123, -4.56]) == [0.1, -4.6]


@pytest.mark.parametrize(
    ("paths", "title", "names"),
    [
        (["/a.mp3", "/b/c.mp3"], "/", ["a.mp3", "b/c.mp3"]),
        (["./m/a.mp3", "./m/b.mp3"], "./m", ["a.mp3", "b.mp3"]),
        (["s3://x/m1/a.mp3", "s3://x/m2/a.mp3"], "s3://x", ["m1/a.mp3", "m2/a.mp3"]),
        (["m/a.mp3", "/n/b.mp3"], "files in several places", ["m/a.mp3", "/n/b.mp3"]),
        (["m/a.mp3"], "m", ["a.mp3"]),
    ],
)
def test_whatever_paths_begin_with_they_are_shown_whole(
    tmp_path: Path, browser: Browser, paths: list[str], title: str, names: list[str]
) -> None:
    rows = [row(path, 0.9 - i / 10) for i, path in enumerate(paths)]
    run("html", sample_report(tmp_path / "r.parquet", rows), "--out", tmp_path / "a.html")
    browser.open(tmp_path / "a.html")
    assert browser.driver.title == f"Audit of {title}"
    assert browser.cells(4) == names
    for i, path in enumerate(paths):
        browser.all("#tracks tbody tr.main")[i].click()
        browser.wait(lambda i=i: len(browser.all(".detail")) == i + 1)
        assert browser.all(".detail")[i].text.split("\n")[1] == path


def test_a_decision_is_shown_with_its_track(tmp_path: Path, browser: Browser) -> None:
    rows = [row("a.mp3", 0.95, verdict="flagged"), row("b.mp3", 0.94, verdict="flagged", mtime_ns=NOON_2026)]
    report = sample_report(tmp_path / "r.parquet", rows, thresholds=Thresholds(0.9, 0.5))
    (tmp_path / "d.csv").write_text("path,decision,by,date\nb.mp3,ai,Kim,2026-01-20\n")
    run("html", report, "--out", tmp_path / "a.html", "--reviewed", tmp_path / "d.csv")
    browser.open(tmp_path / "a.html")
    assert browser.cells(9) == ["", "ai"]
    assert "1 of them still to be decided" in browser.one(".card.flagged").text


def test_decisions_are_taken_kept_saved_and_loaded_again(tmp_path: Path, browser: Browser) -> None:
    """By buttons and keys, through a reload, and through the file that --reviewed reads."""
    strange = 'b "quoted", =and\ttabbed.mp3'
    paths = [str(tmp_path / "a.wav"), str(tmp_path / strange), str(tmp_path / "c.mp3"), str(tmp_path / "d.mp3")]
    write_sound(tmp_path / "a.wav", music(3.0, seed=1))
    ranges = [{"start_s": 1.0, "end_s": 2.5}]
    rows = [row(path, 0.95 - i / 100, verdict="flagged", flagged_ranges=ranges) for i, path in enumerate(paths)]
    report = sample_report(tmp_path / "r.parquet", rows, thresholds=Thresholds(0.9, 0.5))
    run("html", report, "--out", tmp_path / "a.html")
    page, tracks = browser, "#tracks tbody tr.main"
    page.open(tmp_path / "a.html")
    page.one("#reviewer").send_keys('Kim, "QA"\t')
    page.all(tracks)[0].click()
    page.wait(lambda: page.all(".detail"))
    player = page.one("audio.player")
    assert (player.get_attribute("src") or "").endswith("/a.wav#t=1,2.5")
    page.driver.execute_script("arguments[0].play()", player)
    page.wait(lambda: page.driver.execute_script("return arguments[0].currentTime", player) >= 1.0)
    page.one('.choice[data-kind="human"]').click()
    page.one(".note-of").send_keys("=mixed by Ada\t")
    page.wait(lambda: page.cells(9)[0] == "human")
    page.all(tracks)[1].send_keys("a")
    page.all(tracks)[2].send_keys("u")
    page.all(tracks)[3].send_keys("h")
    page.all(tracks)[3].send_keys(Keys.BACKSPACE)
    page.wait(lambda: page.cells(9) == ["human", "ai", "unsure", ""])
    page.all(tracks)[0].send_keys("j")
    assert page.driver.switch_to.active_element == page.all(tracks)[1]

    page.driver.refresh()
    page.wait(lambda: page.driver.execute_script("return document.documentElement.dataset.ready") == "true")
    assert page.cells(9) == ["human", "ai", "unsure", ""]
    assert page.one("#decisions-said").text == "3 decided here"
    Select(page.one("#decision-filter")).select_by_value("undecided")
    page.wait(lambda: len(page.all(tracks)) == 1)
    text = page.driver.execute_script("return window.decisions.csv()")
    saved = tmp_path / "reviewed.csv"
    saved.write_bytes(text.encode())
    reviewed = load_reviewed(saved)
    assert {path: (d.decision, d.by) for path, d in reviewed.by_path.items()} == {
        paths[0]: ("human", 'Kim, "QA"'), paths[1]: ("ai", 'Kim, "QA"'), paths[2]: ("unsure", 'Kim, "QA"')
    }  # fmt: skip
    assert reviewed.unmatched(rows) == () and "'=mixed by Ada" in text and ", '=and" in text

    page.driver.execute_script("localStorage.clear()")
    page.open(tmp_path / "a.html")
    assert page.cells(9) == [""] * 4
    more = f"{paths[3]},,accepted,Ada,2026-02-01,,\ngone.mp3,,ai,Ada,2026-02-01,,\n{paths[2]},,,,,,\n"
    (tmp_path / "more.csv").write_bytes(text.encode() + more.encode())
    page.one("#load-decisions").send_keys(str(tmp_path / "more.csv"))
    page.wait(lambda: page.cells(9) == ["human", "ai", "unsure", "accepted"])
    said = "4 decisions loaded; 1 are about tracks that this page does not list: gone.mp3"
    page.wait(lambda: page.one("#decisions-said").text == said)
    page.all(tracks)[0].click()
    page.wait(lambda: page.all(".note-of"))
    assert page.one(".note-of").get_attribute("value") == "=mixed by Ada"
    assert page.messages() == []
    run("html", report, "--out", tmp_path / "b.html", "--reviewed", saved)
    page.driver.execute_script("localStorage.clear()")
    page.open(tmp_path / "b.html")
    assert page.cells(9) == ["human", "ai", "unsure", ""]
