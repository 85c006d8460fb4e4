"""
What Kafka's client raises, said in our words: one table, one place.

The client tells its troubles by the dozen through `logging`, to nobody in
particular. `quiet_client_logger` keeps it from the operator's log and remembers the last thing
that it said: where a broker can't be reached, that is the reason.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence

from kafka import errors

from streamer.log import (
    Fenced,
    InstanceReplaced,
    LogError,
    Misconfigured,
    PermanentError,
    TooLarge,
    TopicMissing,
    Unavailable,
)

FENCED = (
    errors.ProducerFencedError,
    errors.InvalidProducerEpochError,
    errors.CommitFailedError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
)
REFUSED = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
MISCONFIGURED = (
    errors.KafkaConfigurationError,
    errors.UnsupportedVersionError,
    errors.UnsupportedCodecError,
    errors.InvalidRecordError,
    errors.InvalidTopicError,
    errors.InvalidGroupIdError,
    errors.InvalidSessionTimeoutError,
    errors.InvalidTransactionTimeoutError,
    errors.InconsistentGroupProtocolError,
    errors.PolicyViolationError,
    errors.InvalidPartitionsError,
    errors.InvalidReplicationFactorError,
    errors.InvalidConfigurationError,
)

MEANINGS: tuple[tuple[tuple[type[Exception], ...], type[LogError]], ...] = (
    ((errors.FencedInstanceIdError,), InstanceReplaced),
    (FENCED, Fenced),
    (REFUSED, PermanentError),
    (TOO_LARGE, TooLarge),
    (MISCONFIGURED, Misconfigured),
)

TEXT_MAX = 300


def translate(error: Exception, doing: str, topics: Sequence[str] = ()) -> LogError:
    """What *error* means to us; *topics* are those that it may be about."""
    cause = root(error)
    text = f"{doing}: {described(cause)}"
    for kinds, meaning in MEANINGS:
        if isinstance(cause, kinds):
            return meaning(text)
    if isinstance(cause, errors.UnknownTopicOrPartitionError):
        return TopicMissing(topics or [str(cause)])
    if isinstance(cause, errors.KafkaTimeoutError | errors.KafkaConnectionError | OSError):
        text = "; ".join(filter(None, (text, last_connection_error())))
    return Unavailable(text)  # whatever else it is: nobody knows how it ended


@contextlib.contextmanager
def translated(doing: str, topics: Sequence[str] = ()) -> Iterator[None]:
    """Whatever Kafka's client raises inside comes out as a LogError."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        raise translate(error, doing, topics) from error


def described(error: BaseException) -> str:
    """In one line; the client may put whole requests and answers into its words."""
    if isinstance(error, errors.BrokerResponseError) and len(str(error)) > TEXT_MAX:
        return f"{type(error).__name__}: {error.description}"
    return str(error)[:TEXT_MAX]


def root(error: BaseException) -> BaseException:
    """The client hides the error that counts among another's arguments, or in a set of them."""
    for inner in error.args:
        if isinstance(inner, errors.KafkaError):
            return root(inner)
    return error


class LastConnectionError(logging.Handler):
    """Remembers why a connection failed the last time, and passes nothing on."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it if it is about a connection."""
        text = record.getMessage()
        if text.startswith(("Bootstrap connection to", "Connection failed")):
            self.said = text


SECRET = re.compile(  # a key of the client's configuration, and its value as `repr` writes it
    r"""((?:sasl_plain_password|ssl_password|password|token|secret)['"]?\s*[:=]\s*b?)"""
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'")}\]]+)""",
    re.IGNORECASE | re.DOTALL,
)


class Redaction(logging.Filter):
    """Takes secrets out of a record; each logger of the client needs it, filters pass to none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, and what it says without secrets."""
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


def redacted(text: str) -> str:
    """*text* with asterisks for the value of each key that names a secret."""
    return SECRET.sub(r"\1'***'", text)


_last_word = LastConnectionError(logging.WARNING)
_redaction = Redaction()


def last_connection_error() -> str:
    """Why the client could not connect, the last time that it couldn't; empty if it always did."""
    return _last_word.said


def quiet_client_logger(level: str) -> None:
    """Let the client's own log through from *level* on (`critical` is hardly anything)."""
    client = logging.getLogger("kafka")
    if _last_word not in client.handlers:
        client.addHandler(_last_word)
    for name in ("kafka", *(n for n in logging.root.manager.loggerDict if n.startswith("kafka."))):
        logging.getLogger(name).addFilter(_redaction)  # a second time it is not added
    chosen = logging.getLevelNamesMapping()[level.upper()]
    client.setLevel(min(chosen, logging.WARNING))
    client.propagate = chosen < logging.CRITICAL
