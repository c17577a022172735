"""The report in a real browser: nothing fails, nothing is fetched, everything can be read and reached by keyboard.

Pictures of the pages, light, dark, on a phone and on paper, stay in build/report for whoever wants to look at them.
"""

import base64
import re
from pathlib import Path

import pytest

from helpers.browser import CHROMIUM, open_page
from helpers.synthetic_run import make_run
from sidelight.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (or Chrome) on the path"),
]
PICTURES = Path(__file__).parents[2] / "build" / "report"
ENTER, TAB, RIGHT = ("Enter", 13, "\r"), ("Tab", 9), ("ArrowRight", 39)

# Text that is not in front of an image, with its contrast to the background that lies behind it (WCAG 2).
CONTRASTS = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const read = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (node) => { for (; node; node = node.parentElement) {
    const c = read(getComputedStyle(node).backgroundColor); if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim(), parent = walk.currentNode.parentElement;
    if (!text || parent.closest('script,style') || parent.closest('svg')?.querySelector('image')) continue;
    if (!parent.checkVisibility()) continue;
    const style = getComputedStyle(parent), own = read(parent.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(own), light(behind(parent))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push([(a + 0.05) / (b + 0.05), large ? 3 : 4.5, text.slice(0, 40)]);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with open_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module", params=["classification", "regression"])
def opened(request, tab, tmp_path_factory):
    """The page of a run in a browser, and its file."""
    runs = tmp_path_factory.mktemp("runs")
    settings = {"folds": 3, "seeds": 1, "methods": ("kl", "pkdot", "pkdot+kl")}
    budgets = (0.2, 1.0) if request.param == "classification" else (0.2,)
    run = make_run(runs / "run", task=request.param, budgets=budgets, **settings)
    file = write_report(run, runs / f"{request.param}.html")
    tab.complaints.clear()
    tab.asked.clear()
    tab.show(1200)
    tab.open(file)
    return tab, file


def test_nothing_fails_and_nothing_is_fetched(opened):
    tab, file = opened
    tab.run("document.body.getBoundingClientRect().height")
    assert tab.complaints == []
    assert [address for address in tab.asked if not address.startswith("data:")] == [file.resolve().as_uri()]


def test_another_script_would_not_run(opened, tmp_path):
    """The policy names the hash of the page's own script."""
    tab, file = opened
    foreign = tmp_path / "foreign.html"
    foreign.write_text(file.read_text().replace("</main>", "<script>document.title = 'run'</script></main>"))
    tab.open(foreign)
    assert tab.run("document.title") != "run"
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)
    tab.complaints.clear()
    tab.open(file)


def test_the_answer_and_its_picture_are_on_the_first_screen(opened):
    tab, _ = opened
    tab.show(1280)
    shown = "[...document.querySelectorAll('.answer, .ladder svg')].filter(e => e.checkVisibility()).slice(0, 2)"
    bottom = tab.run(f"Math.max(...{shown}.map(e => e.getBoundingClientRect().bottom + scrollY))")
    assert 200 < bottom < 800


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(opened, scheme):
    tab, _ = opened
    tab.show(1200, scheme=scheme)
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = tab.run(CONTRASTS)
    assert len(found) > 200
    assert [f"{text!r}: {ratio:.2f}" for ratio, least, text in found if ratio < least] == []


def test_tables_sort_by_keyboard(opened):
    tab, _ = opened
    tab.show(1200)
    column = (
        "[...document.querySelector('table.sortable').tBodies[0].rows].map(r => r.cells[0].firstChild.nextSibling.data)"
    )
    given = tab.run(column)
    assert given[0] == "baseline"
    tab.run("document.querySelector('table.sortable th:nth-child(2) button').focus()")
    orders = []
    for _ in range(3):
        tab.press(*ENTER)
        orders.append((tab.run("document.querySelector('table.sortable th:nth-child(2)').ariaSort"), tab.run(column)))
    (first, falling), (second, rising), (third, back) = orders
    assert (first, second, third, back) == ("descending", "ascending", None, given)
    assert falling[0] == "teacher"
    assert falling[-1] == "baseline"
    heads = [name for name in falling if name != "placebo"]
    assert [name for name in rising if name != "placebo"] == heads[::-1]
    for order in (falling, rising):  # a control stays below its method
        assert order[order.index("placebo") - 1] == "pkdot+kl"


def test_a_slider_steps_through_the_epochs(opened):
    tab, _ = opened
    shown = "[...document.querySelector('.epochs').children].filter(f => f.checkVisibility()).map(f => f.textContent)"
    kept = tab.run(shown)
    assert len(kept) == 1
    assert "(kept)" in kept[0]
    tab.run("document.querySelector('.slider input').focus()")
    tab.press("Home", 36)
    assert "before training" in tab.run(shown)[0]
    tab.press(*RIGHT)
    assert "epoch 1" in tab.run(shown)[0]
    assert "epoch 1" in tab.run("document.querySelector('.slider input').getAttribute('aria-valuetext')")


def test_the_keyboard_reaches_everything(opened):
    tab, _ = opened
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.run("document.activeElement.blur(); scrollTo(0, 0)")
    wanted = tab.run("[...document.querySelectorAll('button, summary, input, .scroll')].length")
    tab.run("window.reached = new Set()")
    for _ in range(wanted + 5):
        tab.press(*TAB)
        tab.run("reached.add(document.activeElement), 0")
    missed = "[...document.querySelectorAll('button, summary, input, .scroll')].filter(e => !reached.has(e))"
    assert tab.run(f"{missed}.map(e => e.outerHTML.slice(0, 80))") == []
    assert tab.run("[...document.querySelectorAll('svg')].filter(s => !s.getAttribute('aria-label')).length") == 0


def test_paper_shows_what_is_folded_away(opened):
    tab, file = opened
    tab.open(file)
    closed = tab.run("document.querySelectorAll('details:not([open])').length")
    assert closed
    tab.show(800, media="print", scheme="dark")
    paper = base64.b64decode(tab.send("Page.printToPDF", printBackground=True)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) > 3
    assert (
        tab.run("getComputedStyle(document.querySelector('th button')).display") == "contents"
    )  # so that heads repeat
    assert tab.run("getComputedStyle(document.body).color") == "rgb(28, 36, 48)"  # ink on paper, whatever the screen
    tab.run("dispatchEvent(new Event('beforeprint'))")
    assert tab.run("document.querySelectorAll('details:not([open])').length") == 0
    assert tab.run("[...document.querySelectorAll('.epochs figure')].every(f => getComputedStyle(f).display != 'none')")
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{file.stem}.pdf").write_bytes(paper)
    tab.screenshot(PICTURES / f"{file.stem}-print.png")
    tab.run("dispatchEvent(new Event('afterprint'))")
    assert tab.run("document.querySelectorAll('details:not([open])').length") == closed


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("light", 1200, "light"), ("dark", 1200, "dark"), ("phone", 390, "light")]
)
def test_no_page_is_wider_than_its_screen(opened, name, width, scheme):
    tab, file = opened
    tab.show(width, scheme=scheme)
    tab.open(file)
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = tab.screenshot(PICTURES / f"{file.stem}-{name}.png")
    assert picture.stat().st_size > 50_000
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.complaints == []
