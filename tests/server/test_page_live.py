"""The page at `/` of a server: two decoders on one prompt and seed, in a real browser."""

import time

import pytest

from remask.server.limits import Limits
from tests.browser import open_browser
from tests.server.serving import post, serving


@pytest.fixture(scope="module")
def browser():
    driver = open_browser()
    yield driver
    driver.quit()


def fill(browser, **values):
    for name, value in values.items():
        field = browser.find_element("id", name)
        browser.execute_script("arguments[0].value = arguments[1]", field, value)


def decoded(browser):
    """Decode, wait until both panels are done, and return their texts behind the prompt."""
    browser.find_element("id", "go").click()
    end = time.monotonic() + 30
    while browser.find_element("id", "stop").is_enabled() or not browser.find_elements("css selector", ".canvas span"):
        assert time.monotonic() < end
        time.sleep(0.05)
    return ["".join(browser.execute_script("return [...arguments[0].children].map(cell => cell.textContent)", canvas)) for canvas in browser.find_elements("class name", "canvas")]


def test_two_decoders_write_what_the_api_writes_and_can_be_stepped_through(browser, server):
    browser.get(server)
    fill(browser, **{"prompt": "how many", "decoder-0": "low_confidence", "decoder-1": "p2:steps=6", "tokens": "16", "temperature": "1", "seed": "5"})
    texts = decoded(browser)
    for text, decoder in zip(texts, ("low_confidence", "p2:steps=6"), strict=True):
        body = {"prompt": "how many", "decoder": decoder, "max_tokens": 16, "temperature": 1, "seed": 5}
        answer = post(server, "/v1/completions", body)[1]
        assert text.replace("\u21b5", "").startswith("how many" + answer["choices"][0]["text"])
    steps = int(browser.find_element("id", "slider").get_attribute("max"))
    assert steps >= 6
    browser.find_element("id", "first").click()
    assert len(browser.find_elements("css selector", ".panel:first-child .masked")) == 16
    browser.find_element("id", "last").click()
    assert not browser.find_elements("css selector", ".canvas .masked")
    assert not [line for line in browser.get_log("browser") if "favicon" not in line["message"]]


def test_an_error_stands_in_its_panel_and_the_lists_name_the_decoders(browser, server):
    browser.get(server)
    fill(browser, **{"prompt": "abc", "decoder-0": "<b>sloth</b>", "decoder-1": "origin", "tokens": "4"})
    decoded(browser)
    errors = [place.text for place in browser.find_elements("class name", "error")]
    assert "<b>sloth</b>" in errors[0]
    assert errors[1] == ""
    names = browser.execute_script("return [...document.getElementById('decoders').children].map(option => option.value)")
    assert "threshold" in names


def test_the_key_is_sent_when_it_is_given(browser, letters):
    with serving(letters, limits=Limits(api_keys=("secret",))) as (address, _):
        browser.get(address)
        fill(browser, **{"prompt": "abc", "decoder-1": "", "tokens": "4"})
        browser.find_element("id", "go").click()
        end = time.monotonic() + 20
        while "API key" not in browser.find_element("class name", "error").text:
            assert time.monotonic() < end
            time.sleep(0.05)
        fill(browser, key="secret")
        assert decoded(browser)[0].startswith("abc")


def test_hostile_text_in_a_prompt_stays_text(browser, server):
    browser.get(server)
    fill(browser, **{"prompt": "<img src=x onerror=alert(1)>", "decoder-1": "", "tokens": "4"})
    decoded(browser)
    assert not browser.find_elements("css selector", ".canvas img")
    assert browser.title == "remask"
