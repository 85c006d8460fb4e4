"""
Translates the errors of Kafka's client to LogErrors, in one table.

The client logs many warnings through `logging`. `quiet_client_logger` keeps them out of the
operator's log and remembers the last connection error: if a broker is unreachable, that is the
reason.
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
    """Return *error* as a LogError; *topics* are those that it may concern."""
    cause = root(error)
    text = f"{doing}: {described(cause)}"
    for kinds, meaning in MEANINGS:
        if isinstance(cause, kinds):
            return meaning(text)
    if isinstance(cause, errors.UnknownTopicOrPartitionError):
        return TopicMissing(topics or [str(cause)])
    if isinstance(cause, errors.KafkaTimeoutError | errors.KafkaConnectionError | OSError):
        text = "; ".join(filter(None, (text, last_connection_error())))
    return Unavailable(text)  # any other error: the outcome is unknown


@contextlib.contextmanager
def translated(doing: str, topics: Sequence[str] = ()) -> Iterator[None]:
    """Raise errors of Kafka's client as LogErrors."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        raise translate(error, doing, topics) from error


def described(error: BaseException) -> str:
    """Return *error* in one line; the client may put complete requests and responses into it."""
    if isinstance(error, errors.BrokerResponseError) and len(str(error)) > TEXT_MAX:
        return f"{type(error).__name__}: {error.description}"
    return str(error)[:TEXT_MAX]


def root(error: BaseException) -> BaseException:
    """Return the original error; the client wraps it in the arguments of others."""
    for inner in error.args:
        if isinstance(inner, errors.KafkaError):
            return root(inner)
    return error


class LastConnectionError(logging.Handler):
    """Remembers why the last connection failed, and forwards nothing."""

    message = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Store the message if it concerns a connection."""
        text = record.getMessage()
        if text.startswith(("Bootstrap connection to", "Connection failed")):
            self.message = text


SECRET = re.compile(  # a key of the client's configuration, and its value as `repr` formats it
    r"""((?:sasl_plain_password|ssl_password|password|token|secret)['"]?\s*[:=]\s*b?)"""
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'")}\]]+)""",
    re.IGNORECASE | re.DOTALL,
)


class Redaction(logging.Filter):
    """Removes secrets from a record. Filters are not inherited: each client logger needs one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the secrets in the record's message; keep the record."""
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


def redacted(text: str) -> str:
    """Return *text* with asterisks for the value of each key that names a secret."""
    return SECRET.sub(r"\1'***'", text)


_last_error = LastConnectionError(logging.WARNING)
_redaction = Redaction()


def last_connection_error() -> str:
    """Return why the last failed connection failed; empty if none has failed."""
    return _last_error.message


def quiet_client_logger(level: str) -> None:
    """Let the client's log records of *level* and above through (`critical` passes almost none)."""
    client = logging.getLogger("kafka")
    if _last_error not in client.handlers:
        client.addHandler(_last_error)
    for name in ("kafka", *(n for n in logging.root.manager.loggerDict if n.startswith("kafka."))):
        logging.getLogger(name).addFilter(_redaction)  # adding it again has no effect
    chosen = logging.getLevelNamesMapping()[level.upper()]
    client.setLevel(min(chosen, logging.WARNING))
    client.propagate = chosen < logging.CRITICAL
