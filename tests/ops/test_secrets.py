from __future__ import annotations

import pytest
import structlog

from streamer.log import PermanentError
from streamer.ops.secrets import secret


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "password"
    made.write_text("sesame\n")
    made.chmod(0o600)
    return made


def test_one_newline_at_the_end_is_no_part_of_a_secret(file):
    """Editors put it there; a second one is meant."""
    assert secret("key", str(file), "NONE") == "sesame"
    file.write_text("sesame\n\n")
    assert secret("key", str(file), "NONE") == "sesame\n"


def test_a_bare_name_is_looked_for_among_the_credentials_of_the_service(file, monkeypatch):
    """As systemd's LoadCredential brings them."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert secret("key", "password", "NONE") == "sesame"


def test_a_file_counts_more_than_the_environment(file, monkeypatch):
    """And without a file the environment counts; without either there is none."""
    monkeypatch.setenv("SECRET", "open")
    assert secret("key", str(file), "SECRET") == "sesame"
    assert secret("key", None, "SECRET") == "open"
    assert secret("key", None, "NO_SUCH_VARIABLE") is None


def test_a_file_that_cannot_be_read_is_named_with_its_key(file):
    """Missing, empty, or no text: each is the operator's to mend."""
    with pytest.raises(PermanentError, match=r"kafka\.key: cannot read .*missing"):
        secret("kafka.key", str(file.with_name("missing")), "NONE")
    file.write_text("\n")
    with pytest.raises(PermanentError, match=r"kafka\.key: .*password is empty"):
        secret("kafka.key", str(file), "NONE")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(PermanentError, match=r"kafka\.key: cannot read"):
        secret("kafka.key", str(file), "NONE")


def test_a_secret_that_others_may_read_is_warned_of_once(file):
    """A mounted Secret is like that by default, so that it is no reason to refuse."""
    file.chmod(0o644)
    with structlog.testing.capture_logs() as events:
        assert secret("key", str(file), "NONE") == secret("key", str(file), "NONE") == "sesame"
    assert [(e["event"], e["mode"]) for e in events] == [("secret.exposed", "0644")]
