"""The loop of a role whose memory comes from the log: turns, and a new start after an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streamer.log import FINAL, LogError
from streamer.ops.backoff import Backoff

PAUSE_S = 0.5  # delay of the first retry after a LogError, doubled up to PAUSE_MAX_S
PAUSE_MAX_S = 10.0


class Role(Protocol):
    """What a process does in turns."""

    def start(self) -> None:
        """Join the group; may raise a LogError."""
        ...

    def turn(self) -> None:
        """Do one turn; may raise a LogError."""
        ...

    def finish(self) -> None:
        """Do what remains after the last turn; may raise a LogError."""
        ...

    def forget(self) -> None:
        """Leave the group, and drop what the log has not accepted."""
        ...


def run_turns(
    role: Role,
    stopping: Callable[[], bool],
    refused: Callable[[LogError, float], None],
    pause: Callable[[float], None],
) -> None:
    """
    Run the turns of *role* until *stopping*; after each LogError it starts anew.

    *refused* is called with the error and the seconds until the retry, and *pause* waits for them.
    Raises PermanentError if a retry would change nothing, and InstanceReplaced if another process
    runs under our instance id: two that fence each other in turn would both make no progress.
    """
    backoff = Backoff(PAUSE_S, PAUSE_MAX_S)
    while not stopping():
        delay_s = 0.0
        try:
            role.start()
            while not stopping():
                role.turn()
                backoff.reset()
            role.finish()
        except LogError as error:
            delay_s = backoff.take()
            refused(error, delay_s)
            if isinstance(error, FINAL):
                raise
        finally:
            role.forget()
        if delay_s:
            pause(delay_s)
