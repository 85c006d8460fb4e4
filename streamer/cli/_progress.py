"""The progress bar of the commands: on standard error, removed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


class Bar:
    """A bar with a text before it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def update(
        self,
        completed: float | None = None,
        *,
        advance: float | None = None,
        total: float | None = None,
        text: str | None = None,
    ) -> None:
        """Set what is given: the amount done, or a further amount, of the *total*; the text."""
        self._progress.update(
            self._task, completed=completed, advance=advance, total=total, description=text
        )


@contextmanager
def bar(text: str, total: float | None, *, spinner: bool = False) -> Iterator[Bar]:
    """
    Show a bar; without a *total* it moves to and fro until `Bar.update` sets one.

    With *spinner* there is only a spinner and the text: for work whose total never becomes known.
    """
    measured = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    columns: tuple[ProgressColumn, ...] = (
        *((SpinnerColumn(),) if spinner else ()),
        TextColumn("{task.description}"),
        *(() if spinner else measured),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, progress.add_task(text, total=total))
