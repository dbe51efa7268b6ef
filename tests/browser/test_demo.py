"""The demo as people see it: windows of a real browser, side by side."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from .conftest import ACTION_TIMEOUT, Demo

pytestmark = pytest.mark.timeout(60)

Enter = Callable[..., Page]
Picture = Callable[[Page, str], None]

PHONE = (390, 780)
FLOOD = 200
expect.set_options(timeout=ACTION_TIMEOUT)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    expect(heard(page).last).to_have_text(text)


def heard(page: Page) -> Locator:
    return page.locator("#log .text")


def switch(page: Page, name: str) -> Locator:
    return page.get_by_role("switch", name=name)


def flood(page: Page) -> None:
    page.get_by_role("button", name="Flood the room").click()


def test_two_windows_talk_and_a_third_comes_later(enter: Enter, picture: Picture) -> None:
    ann = enter("Ann Archer")
    expect(ann.locator("#count")).to_have_text("only you are here")
    bob = enter("Bob Baker")
    for page in (ann, bob):
        expect(page.locator("#count")).to_have_text("2 are here")

    say(ann, "Good morning! Is anybody here?")
    say(bob, "Yes, in the other window.")
    say(ann, "So I write here, and you read it there, in the same moment.")
    expect(heard(bob)).to_have_count(3)
    expect(heard(ann)).to_have_count(3)

    cat = enter("Cat Carter")
    expect(heard(cat)).to_have_count(3)
    expect(cat.locator("#log .note")).to_have_text("the last 3 messages")
    expect(ann.locator("#count")).to_have_text("3 are here")
    enter("Dan Dyer", "kitchen")
    expect(ann.locator("#rooms a[href='#kitchen'] .badge")).to_have_text("1")
    say(cat, "Hello! I came late, and can still read what you said.")
    expect(heard(bob)).to_have_count(4)
    picture(cat, "chat")

    cat.close()
    expect(ann.locator("#count")).to_have_text("2 are here")


def test_a_room_is_left_for_another(enter: Enter) -> None:
    ann, bob = enter("Ann"), enter("Bob")
    say(ann, "in the lobby")
    ann.get_by_role("link", name="kitchen").click()
    expect(ann.get_by_role("heading", level=1)).to_have_text("kitchen")
    expect(bob.locator("#count")).to_have_text("only you are here")
    expect(heard(ann)).to_have_count(0)
    say(ann, "in the kitchen")
    ann.get_by_role("link", name="lobby").click()
    expect(heard(ann)).to_have_text("in the lobby")


def test_what_somebody_writes_is_text_and_nothing_else(enter: Enter) -> None:
    markup = "<img src=x onerror=\"document.title='caught'\"><b>bold</b> & so on"
    ann, bob = enter("<i>Ann</i>"), enter("Bob")
    say(ann, markup)
    expect(heard(bob)).to_have_text(markup)
    expect(bob.locator("#log .name")).to_have_text("<i>Ann</i>")
    expect(bob.locator("#log :is(img, b:not(.name), i)")).to_have_count(0)
    assert bob.title() == "lobby · Channels chat"


@pytest.mark.parametrize("strategy", ["backoff", "dropleft"])
def test_a_slow_client_shows_its_backlog_and_its_holes(
    enter: Enter, picture: Picture, strategy: str
) -> None:
    ann, bob = enter("Ann Archer"), enter("Bob Baker", scheme="dark")
    say(ann, "Bob, read slowly, please. Here comes a flood.")
    bob.get_by_role("radio", name=strategy).check()
    switch(bob, "Read ten events a second").check()
    expect(bob.locator("#backlog")).not_to_have_attribute("data-idle", "")
    flood(ann)
    expect(bob.locator("#backlog")).to_have_attribute("data-full", "")
    expect(bob.locator("#dropped")).not_to_have_text("0")
    expect(ann.locator(".grid .arrived")).to_have_count(FLOOD)
    expect(ann.locator(".sum")).to_have_text("200 of 200 arrived, none is missing")

    if strategy == "dropleft":
        # The oldest were evicted: the holes show while the newest still wait.
        expect(bob.locator(".grid .hole").first).to_be_visible()
        picture(bob, "slow")
    expect(bob.locator("#waiting")).to_have_text("0 of 40")
    expect(bob.locator(".grid .hole").first).to_be_visible()
    total = bob.locator(".grid .arrived").count() + int(bob.locator("#dropped").inner_text())
    assert total == FLOOD
    last = bob.locator(".grid i").last
    expect(last).to_have_class("arrived" if strategy == "dropleft" else "hole")


def test_a_slow_client_that_is_disconnected_gets_everything(enter: Enter) -> None:
    ann, bob = enter("Ann"), enter("Bob")
    bob.get_by_role("radio", name="disconnect").check()
    switch(bob, "Read ten events a second").check()
    flood(ann)
    expect(bob.locator("#log .note")).to_have_text(re.compile(r"back; \d+ missed events"))
    # As fast as before, it goes on behind the last one it has.
    switch(bob, "Read ten events a second").uncheck()
    expect(bob.locator(".sum")).to_have_text("200 of 200 arrived, none is missing")


def test_who_was_unplugged_goes_on_without_a_gap_or_a_duplicate(enter: Enter) -> None:
    ann, bob = enter("Ann"), enter("Bob")
    say(ann, "one")
    expect(heard(bob)).to_have_text("one")
    switch(bob, "Unplug this tab").check()
    expect(bob.locator("#state")).to_have_text("unplugged")
    expect(ann.locator("#count")).to_have_text("only you are here")
    say(ann, "two")
    say(ann, "three")
    switch(bob, "Unplug this tab").uncheck()
    expect(bob.locator("#log .note")).to_have_text("back; 2 missed events read from history")
    say(ann, "four")
    expect(heard(bob)).to_have_text(["one", "two", "three", "four"])


def test_the_page_comes_back_when_the_server_does(enter: Enter, demo: Demo) -> None:
    ann, bob = enter("Ann"), enter("Bob")
    say(ann, "before")
    demo.kill()
    for page in (ann, bob):
        expect(page.locator("#state")).to_have_text("connecting again")
        expect(page.get_by_role("button", name="Send")).to_be_disabled()
    ann.get_by_label("Message", exact=True).fill("after")
    demo.start()
    for page in (ann, bob):
        expect(page.locator("#state")).to_have_text("online")
    # The broker in memory went with the process, and nobody is left in doubt about it.
    expect(bob.locator("#log .note.bad").first).to_contain_text("no longer kept")
    ann.get_by_label("Message", exact=True).press("Enter")
    expect(heard(bob)).to_have_text(["before", "after"])
    expect(ann.locator("#count")).to_have_text("2 are here")


def test_it_fits_a_phone(enter: Enter, picture: Picture) -> None:
    ann = enter("Ann Archer")
    phone = enter("Eve Ellis", size=PHONE, has_touch=True, is_mobile=True)
    say(ann, "Where are you?")
    say(phone, "On the train. A long message on a narrow page breaks into lines and stays inside.")
    say(ann, "Then mind the tunnel: switch off, and on again behind it.")
    expect(heard(phone)).to_have_count(3)
    flood(ann)
    expect(phone.locator(".grid .arrived")).to_have_count(FLOOD)
    width = "document.documentElement.scrollWidth"
    assert phone.evaluate(width) <= PHONE[0]
    expect(phone.get_by_role("button", name="Send")).to_be_in_viewport()
    expect(phone.locator(".sum")).to_be_in_viewport()
    picture(phone, "phone")

    experiments = phone.get_by_role("button", name="Experiments")
    expect(switch(phone, "Unplug this tab")).to_be_hidden()
    experiments.tap()
    switch(phone, "Unplug this tab").check()
    expect(phone.locator("#state")).to_have_text("unplugged")
    phone.keyboard.press("Escape")
    expect(switch(phone, "Unplug this tab")).to_be_hidden()
    expect(experiments).to_be_focused()
    assert phone.evaluate(width) <= PHONE[0]


def test_the_keyboard_is_enough(enter: Enter) -> None:
    page = enter("Ann")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("one line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and another")
    page.keyboard.press("Enter")
    expect(heard(page)).to_have_text("one line\nand another")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(switch(page, "Read ten events a second")).to_be_focused()
    page.keyboard.press("Space")
    expect(switch(page, "Read ten events a second")).to_be_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(enter: Enter, scheme: str) -> None:
    page = enter("Ann", scheme=scheme)
    bob = enter("Bob")
    say(bob, "hello")
    say(page, "hello to you")
    assert page.evaluate(LOW_CONTRAST) == []


LOW_CONTRAST = """() => {
  // Text of less than 4.5 to 1 against what is behind it, as WCAG 2 counts.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (color) => {
    const [r, g, b] = Array.from(rgba(color).slice(0, 3), (value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (rgba(color)[3] === 255) return color;
    }
    return "white";
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !element.checkVisibility() || element.closest("[data-idle], :disabled")) continue;
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) low.push(`${element.textContent.trim()}: ${contrast.toFixed(2)}`);
  }
  return low;
}"""
