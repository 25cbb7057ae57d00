"""The page of a report in a real browser: both themes, a desk's width and a phone's; no error, no overflow, no request.

A browser is needed: Debian's ``chromium`` (``make chromium``) or a Chrome. Without one the tests are skipped, unless
REQUIRE_BROWSER says that it must be there.
"""

import html
import json
import os
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import report_runs
from matplotlib.image import imread

import kullback as kb

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = {"desk": 1200, "phone": 390}
HEIGHT = 1400

# Holds the page in frames of both widths, and writes what it measures into its own text.
MEASURE = """<!DOCTYPE html><title>measure</title><link rel="icon" href="data:,"><body>
<iframe id="desk" src="PAGE" width="1200" height="900"></iframe>
<iframe id="phone" src="PAGE" width="390" height="900"></iframe>
<pre id="found"></pre><script>
addEventListener("load", () => {
  const found = {}, seen = (element) => element.getBoundingClientRect().width > 0;
  for (const frame of document.querySelectorAll("iframe")) {
    const view = frame.contentWindow, page = frame.contentDocument, root = page.documentElement;
    const all = (selector) => [...page.body.querySelectorAll(selector)];
    const sticksOut = (element) => element.getBoundingClientRect().right > root.clientWidth + 1
      && !element.closest(".table, svg, .skip, .hidden");
    const scale = (text) => Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b);
    const size = (text) => parseFloat(view.getComputedStyle(text).fontSize) * scale(text);
    found[frame.id] = {
      title: page.title,
      overflow: root.scrollWidth - root.clientWidth,
      sticking: all("*").filter(sticksOut).map((element) => element.tagName + "." + element.className),
      charts: all("svg").filter(seen).map((svg) => svg.getAttribute("class")),
      letters: Math.min(...all("svg text").filter(seen).map(size)),
      resources: view.performance.getEntriesByType("resource").map((entry) => entry.name),
    };
  }
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>"""


@pytest.fixture(scope="module")
def browser():
    """Return the browser's program."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(f"no browser: expected one of {', '.join(BROWSERS)} (make chromium)")
        pytest.skip("no browser; make chromium installs one on Debian")
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Serve a folder with a report of everything, with hostile texts; give folder, address and requests seen."""
    folder = tmp_path_factory.mktemp("browser")
    out = report_runs.make(
        folder / "run", [0.01, 0.1, 0.8], names=["q8", "a-rather-long-name-of-a-candidate-0123456789", "q2"]
    )
    report_runs.extend(out)
    kb.report(out, folder / "page.html", token_texts=report_runs.token_texts(folder))
    (folder / "measure.html").write_text(MEASURE.replace("PAGE", "page.html"))
    bad = '<script src="http://example.invalid/x.js"></script><p style="width:3000px;background:red">wide</p>'
    head = '<title>bad</title><link rel="icon" href="data:,">'
    (folder / "bad.html").write_text(f"<!DOCTYPE html>{head}{bad}<script>nonsense()</script>")
    (folder / "measure-bad.html").write_text(MEASURE.replace("PAGE", "bad.html"))
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Run the browser on an address and return its output and what it wrote on the console."""

    def run(address, *options):
        command = [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
            ),
            *("--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"),
            *(f"--user-data-dir={tmp_path / 'profile'}", *options, address),
        ]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=True)
        return done.stdout, re.findall(r"CONSOLE.*", done.stderr)

    return run


def measure(open_page, address):
    dumped, console = open_page(address, "--window-size=1700,1000", "--dump-dom")
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dumped, re.S)[1])), console


def test_no_error_no_overflow_no_request(open_page, served):
    _, address, requests = served
    requests.clear()
    found, console = measure(open_page, f"{address}/measure.html")
    assert console == []
    assert set(requests) == {"/measure.html", "/page.html"}
    for name, shown in (("desk", "wide"), ("phone", "narrow")):
        assert found[name]["title"].startswith("How far did ")
        assert found[name]["overflow"] == 0
        assert found[name]["sticking"] == []
        assert found[name]["resources"] == []
        assert found[name]["charts"] == [shown] * 6
        assert found[name]["letters"] >= 9.5  # pixels, as they stand on the screen


def test_the_measurement_sees_what_is_wrong(open_page, served):
    found, console = measure(open_page, f"{served[1]}/measure-bad.html")
    assert any("nonsense is not defined" in line for line in console)
    assert found["phone"]["overflow"] > 2000
    assert found["phone"]["sticking"]
    assert found["desk"]["resources"] == ["http://example.invalid/x.js"]


def screenshot(open_page, served, name, width, dark):
    """Return a picture of the page as an array; it stands in a frame, as windows cannot be as narrow as a phone."""
    folder, address, _ = served
    frame = f'<iframe src="page.html" style="width:{width}px;height:{HEIGHT}px;border:0"></iframe>'
    head = '<link rel="icon" href="data:,"><meta name="color-scheme" content="light dark">'
    (folder / f"{name}.html").write_text(f'<!DOCTYPE html><title>frame</title>{head}<body style="margin:0">{frame}')
    path = folder / f"{name}.png"
    theme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    open_page(f"{address}/{name}.html", f"--window-size={width},{HEIGHT}", theme, f"--screenshot={path}")
    return imread(path)[:HEIGHT, :width, :3]


@pytest.mark.parametrize("device", list(WIDTHS))
def test_both_themes_are_drawn(open_page, served, device):
    width = WIDTHS[device]
    light = screenshot(open_page, served, f"{device}-light", width, dark=False)
    dark = screenshot(open_page, served, f"{device}-dark", width, dark=True)
    assert light.shape[1] == dark.shape[1] == width
    assert light.mean() > 0.8
    assert dark.mean() < 0.25
    for picture in (light, dark):
        # Not blank: text from the top to the bottom, in more than two colours.
        bands = [band.std() for band in np_bands(picture)]
        assert min(bands) > 0.01
        assert len({tuple(pixel) for pixel in (picture[::3, ::3].reshape(-1, 3) * 255).astype(int)}) > 50


def np_bands(picture):
    step = picture.shape[0] // 4
    return [picture[start : start + step] for start in range(0, 4 * step, step)]


def test_it_prints(open_page, served):
    folder, address, _ = served
    path = folder / "page.pdf"
    dark = "--blink-settings=preferredColorScheme=0"
    _, console = open_page(f"{address}/page.html", dark, f"--print-to-pdf={path}")
    assert console == []
    content = path.read_bytes()
    assert content.startswith(b"%PDF-")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20
