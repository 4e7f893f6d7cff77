"""The page in a real browser: it steps, compares, tells numbers, fits a phone, and text of a model stays text."""

import json
import re

import pytest

import remask
from remask.trace.file import TraceFile, read
from remask.trace.page import inert, live_page, page
from remask.trace.record import Draft, Event, Opening, Trace, canvases, record
from tests.browser import look_as, open_browser
from tests.chains import chain_b

MASK = 8
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\"><b>&amp;\u2028"


def trace_of(decoder, prompts=([0, 1],), new=14):
    records = []
    canvas = remask.Canvas.from_prompts(prompts, max_new_tokens=new, mask_id=MASK)
    list(record(remask.denoise(chain_b(), canvas, decoder=remask.parse_decoder(decoder), seed=2), records, settings={"decoder": decoder}))
    return Trace.of(records, {token: f"{token} " for token in range(8)})


@pytest.fixture(scope="module")
def browser():
    driver = open_browser()
    yield driver
    driver.quit()


def opened(browser, folder, traces):
    (folder / "page.html").write_text(page(traces), encoding="utf-8")
    browser.get((folder / "page.html").as_uri())
    assert not browser.get_log("browser"), "nothing is refused and nothing fails"
    return browser


def row(browser, panel=0):
    cells = browser.find_elements("css selector", ".canvas")[panel].find_elements("tag name", "span")
    return [None if "masked" in cell.get_attribute("class").split() else cell.get_attribute("textContent") for cell in cells]


def press(browser, key):
    browser.execute_script("document.activeElement.blur(); document.body.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))", key)


def test_every_step_shows_the_canvas_of_the_replay(browser, tmp_path):
    trace = trace_of("p2:steps=6")
    opening, events = trace.openings["0"], trace.events["0"]
    assert any(event.remask for event in events)
    opened(browser, tmp_path, {"a": trace})
    expected = [opening.tokens, *canvases(opening, events)]
    texts = [[None if token == MASK else f"{token} " for token in tokens] for tokens in expected]
    for number, text in enumerate(texts):
        assert row(browser) == text
        figures = browser.find_element("class name", "figures").text
        assert f"step {number} of {len(events)}" in figures
        assert number == 0 or f"computed positions {events[number - 1].positions}" in figures
        browser.find_element("id", "forth").click() if number < len(events) else None
    assert not browser.find_element("id", "forth").is_enabled()
    for key, number in (("ArrowLeft", -2), ("Home", 0), ("ArrowRight", 1), ("End", -1)):
        press(browser, key)
        assert row(browser) == texts[number]
    browser.execute_script("const s = document.getElementById('slider'); s.value = 3; s.dispatchEvent(new Event('input'))")
    assert row(browser) == texts[3]


def test_two_runs_stand_side_by_side_and_a_position_tells_its_numbers(browser, tmp_path):
    fast, slow = trace_of("threshold:tau=0.1"), trace_of("low_confidence")
    opened(browser, tmp_path, {"fast": fast, "slow": slow})
    press(browser, "End")
    assert [title.text for title in browser.find_elements("css selector", ".panel h2")] == ["threshold:tau=0.1", "low_confidence"]
    assert [None not in row(browser, panel) for panel in (0, 1)] == [True, True]
    event = slow.events["0"][0]
    browser.find_elements("css selector", ".canvas")[1].find_elements("tag name", "span")[event.write[0]].click()
    told = browser.find_elements("class name", "detail")[1].text
    assert f"written at step 1, confidence {event.confidence[0]:.3f}" in told
    browser.find_elements("css selector", ".panel select")[1].find_elements("tag name", "option")[0].click()
    assert [panel.is_displayed() for panel in browser.find_elements("class name", "panel")] == [True, False]


def test_text_of_a_model_never_becomes_markup(browser, tmp_path):
    opening = Opening(HOSTILE, [0, MASK], MASK, settings={"decoder": HOSTILE})
    event = Event(HOSTILE, 0, [1], [1], [0.5], [float("-inf")], [], [], [(0, 2)], 1, 2, True, Draft([], [], []))
    opened(browser, tmp_path, {HOSTILE: Trace.of([opening, event], {0: HOSTILE, 1: HOSTILE})})
    press(browser, "End")
    assert row(browser) == [HOSTILE, HOSTILE]
    assert browser.title == "remask"
    assert not browser.find_elements("css selector", ".canvas b, .canvas img, h2 b, h2 img")
    browser.find_elements("css selector", ".canvas span")[1].click()
    assert "excluded by the shapers" in browser.find_element("class name", "detail").text


@pytest.mark.parametrize("value", [HOSTILE, "<!--<script>", "]]>", "\u2029"])
def test_json_in_the_page_is_inert(value):
    text = inert([value])
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == [value]


@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1200, True)])
def test_the_page_fits_the_screen(browser, tmp_path, width, dark):
    look_as(browser, width=width, dark=dark)
    opened(browser, tmp_path, {"a long name of a trace file that goes on and on": trace_of("low_confidence", new=80), "b": trace_of("random")})
    press(browser, "End")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ground, ink = browser.execute_script("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < sum(map(int, re.findall(r"\d+", ink)[:3]))) == dark
    look_as(browser)


def test_the_page_is_one_file_that_loads_nothing():
    text = live_page()
    assert not re.findall(r'(?:src|href)=(?!"data:,")', text)
    assert "default-src 'none'" in text
    assert "_HASH" not in text
    assert "url(" not in text


def test_a_trace_file_becomes_a_page(tmp_path):
    with TraceFile(tmp_path / "a.jsonl") as file:
        canvas = remask.Canvas.from_prompts([[0]], max_new_tokens=3, mask_id=MASK)
        list(record(remask.denoise(chain_b(), canvas), file))
    carried = re.search(r'id="data">(.*?)</script>', page({"a": read(tmp_path / "a.jsonl")}))
    assert len(json.loads(carried[1])[0]["runs"][0]["events"]) == 3
