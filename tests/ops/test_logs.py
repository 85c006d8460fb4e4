"""The formats of log lines, and what they must never contain."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from streamer.ops import logs

SECRET = "hunter2"


@pytest.fixture
def lines(capfd):
    """Standard error after a warning of a library and an exception of the program."""

    def output_of(look):
        logs.begin(look)
        structlog.get_logger("test").info("turns.summary", readings=3)
        logging.getLogger("kafka.client").warning("node %d is away", 7)
        password = SECRET
        try:
            {}[len(password)]
        except KeyError:
            structlog.get_logger("test").exception("turn.failed")
        return capfd.readouterr().err

    yield output_of
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


def test_logfmt_is_one_line_an_event(lines):
    """Time, level and event first, then what they are about."""
    first, second, third = lines("auto").splitlines()
    assert first.split(" ", 1)[1] == "level=info event=turns.summary readings=3"
    assert 'event="node 7 is away" logger=kafka.client' in second
    assert "event=turn.failed" in third


def test_json_is_one_object_an_event(lines):
    """Also for the lines of libraries."""
    output = [json.loads(line) for line in lines("json").splitlines()]
    assert [each["event"] for each in output] == ["turns.summary", "node 7 is away", "turn.failed"]
    assert output[0]["readings"] == 3


@pytest.mark.parametrize("look", ["logfmt", "json", "pretty"])
def test_a_traceback_has_no_local_variables(lines, look):
    """Some of them are secrets."""
    output = lines(look)
    assert "KeyError" in output
    assert SECRET not in output
