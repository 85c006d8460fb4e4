"""docs/configuration.md is made from config/streamer.yaml."""

from streamer.config import sources
from tests.docs.configuration import PAGE, SOURCE, page, sections


def test_the_page_is_up_to_date():
    """If this fails: `python -m tests.docs.configuration`."""
    assert PAGE.read_text(encoding="utf-8") == page(SOURCE.read_text(encoding="utf-8"))


def test_the_page_has_every_key():
    """The parser of comments finds the keys that the parser of YAML finds."""
    found = {
        (section.name, name) if section.name else (name,)
        for section in sections(SOURCE.read_text(encoding="utf-8"))
        for name, _, _ in section.keys
    }
    expected = set()
    for name, value in sources.read(SOURCE).items():
        expected |= {(name, key) for key in value} if isinstance(value, dict) else {(name,)}
    assert found == expected


def test_a_comment_may_take_several_lines():
    """Each further line belongs to the key above it; a section has a comment of its own."""
    text = (
        "# header\na: 1   # first\n       # second\n"
        "b:      # of b\n  c: null # x | y <g>\n  d: [1, 2]\n"
    )
    top, b = sections(text)
    assert top.keys == [["a", "1", "first second"]]
    assert (b.meaning, b.keys) == ("of b", [["c", "null", "x | y <g>"], ["d", "[1, 2]", ""]])
    assert "| `b.c` | `null` | x \\| y &lt;g&gt; |" in page(text)
