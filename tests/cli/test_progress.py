"""The progress bar: it writes to standard error, and leaves nothing behind."""

import pytest

from streamer.cli._progress import bar


@pytest.mark.parametrize("total", [None, 8])
@pytest.mark.parametrize("spinner", [False, True])
def test_without_a_terminal_nothing_remains(capsys, total, spinner):
    """Neither on standard output nor on standard error."""
    with bar("file.csv", total, spinner=spinner) as shown:
        shown.update(total=8, text="file.csv, read")
        shown.update(3)
        shown.update(advance=5)
    assert "".join(capsys.readouterr()).strip() == ""


def test_at_a_terminal_the_bar_shows_text_and_share(capsys, monkeypatch):
    """On standard error alone."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with bar("file.csv", None) as shown:
        shown.update(2, total=8, text="half way")
    output, error = capsys.readouterr()
    assert output == ""
    assert "half way" in error
    assert "25%" in error
