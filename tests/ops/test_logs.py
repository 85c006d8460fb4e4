"""How log lines look, and what they must never tell."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from streamer.ops import logs

SECRET = "hunter2"


@pytest.fixture
def lines(capfd):
    """What stands on standard error after a warning of a library and a failure of ours."""

    def told(look):
        logs.begin(look)
        structlog.get_logger("test").info("turns.summary", readings=3)
        logging.getLogger("kafka.client").warning("node %d is away", 7)
        password = SECRET
        try:
            {}[len(password)]
        except KeyError:
            structlog.get_logger("test").exception("turn.failed")
        return capfd.readouterr().err

    yield told
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
    told = [json.loads(line) for line in lines("json").splitlines()]
    assert [each["event"] for each in told] == ["turns.summary", "node 7 is away", "turn.failed"]
    assert told[0]["readings"] == 3


@pytest.mark.parametrize("look", ["logfmt", "json", "pretty"])
def test_a_traceback_has_no_local_variables(lines, look):
    """Some of them are secrets."""
    told = lines(look)
    assert "KeyError" in told
    assert SECRET not in told
