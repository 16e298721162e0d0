"""The page: self-contained, escaped, the same each time, written whole."""

import re
from html.parser import HTMLParser

import pytest

from tests.report.builder import write_run
from thinwire.report import load_runs, page_html, write_page

ATTACK = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'


class Tags(HTMLParser):
    """Collects tags and attributes and checks that every tag is closed."""

    VOID = ("meta", "br", "img", "link", "input", "hr")

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.open = set(), [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    first = write_run(root / "a", epochs=6, skips=60)
    second = write_run(root / "b", name=ATTACK, finish=False, stage=ATTACK)
    third = write_run(root / "c", name=ATTACK, stage=ATTACK, factor=1.0)
    runs = load_runs([first, second, third])
    return runs, page_html(runs)


def test_nothing_is_loaded_from_elsewhere(page):
    html = page[1]
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert "http://" not in without_namespaces
    assert "https://" not in without_namespaces
    found = Tags(html)
    assert not found.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#")
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html


def test_names_are_escaped_everywhere(page):
    html = page[1]
    assert "<script" not in html
    assert "<img" not in html
    assert "<b>weight" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_references_inside_figures_stay_inside_them(page):
    html = page[1]
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', html)) <= set(ids)


def test_it_says_what_happened(page):
    html = page[1]
    assert "2.0 % test error after 6 epochs, 28.6 times fewer bytes than dense" in html
    assert 'class="badge">unfinished' in html
    assert "<details>" in html
    assert "recipe.lr.a" in html
    assert "version.torch" in html
    assert html.count("<svg ") == 12
    assert "and 10 more" in html
    assert "90.0 %" in html


def test_the_same_runs_give_the_same_page(page):
    runs, html = page
    assert page_html(runs) == html


def test_a_lone_dense_run_without_events_has_a_page(tmp_path):
    runs = load_runs([write_run(tmp_path / "a", epochs=0, finish=False, residual=False)])
    html = page_html(runs, title="<mine>")
    assert "<h1>&lt;mine&gt;</h1>" in html
    assert "every gradient was finite" in html
    assert "Traffic and residuals" not in html
    assert "What a step takes" not in html


def test_it_is_written_whole_or_not_at_all(tmp_path, page):
    runs, html = page
    path = tmp_path / "new" / "report.html"
    write_page(runs, path)
    assert path.read_text(encoding="utf-8") == html
    with pytest.raises(ValueError, match="runs: got none"):
        write_page([], path)
    assert path.read_text(encoding="utf-8") == html
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]
