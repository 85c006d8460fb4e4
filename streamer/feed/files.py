"""
Readings out of a file: CSV, messages of collectors, or what rrdtool and Cacti print.

The first lines determine what the file is, how it is laid out, and the unit of its times. A file
that cannot be right as a whole ends with `NotReadable`. Single lines that are no readings are
counted and left out. Parquet has a module of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import msgspec

from streamer.core.wire import InputConfig
from streamer.core.wire.words import plainly
from streamer.feed import cacti, messages, rrd
from streamer.feed.columns import NotReadable, layout_of
from streamer.feed.rows import CsvLine, Default, JsonLine, Kind, Message, Parse
from streamer.feed.timed import Bad, Parsed, Timed

__all__ = ["FileReadings", "Kind", "NotReadable"]

HEAD_LINES = 500  # by which a file is judged
DOCUMENT_BYTES_MAX = 256 << 20  # of a JSON document that has several lines

Numbered = tuple[int, bytes]  # a line and its number, from 1


class FileReadings(Timed):
    """
    Readings out of lines, see the module; *kind* and *unit* are the defaults of those without.

    With *sort* all are read before the first is given, in the order of their times. *columns* names
    columns of a table, as `layout_of` takes them; messages are decoded by *config*. *prefix* comes
    before names that are the same in every file.
    """

    def __init__(  # noqa: PLR0913 - each is an option of reading a file
        self,
        lines: Iterable[Sequence[bytes]],
        kind: Kind | None = None,
        unit: str | None = None,
        *,
        sort: bool = False,
        columns: Mapping[str, str] | None = None,
        config: InputConfig | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__(Bad(), sort=sort)
        self._lines = lines
        self._default = Default(kind, unit)
        self._columns = columns
        config = config or InputConfig()
        self._config = msgspec.structs.replace(config, format="auto", sources=(), rekeyed=None)
        self._prefix = prefix
        self.form = "csv"

    def _parsed(self) -> Iterator[list[Parsed]]:
        """The readings with their lines; the first batch is the head's."""
        parse: Parse | None = None
        for batch in self._headed():
            numbered = batch
            if parse is None and batch:
                parse, numbered = self._begin(batch)
            found: list[Parsed] = []
            for number, line in numbered:
                assert parse is not None
                try:
                    found += [(number, line, reading) for reading in parse(line)]
                except (ValueError, IndexError, csv.Error, msgspec.MsgspecError) as error:
                    self.bad.add(number, line, plainly(error))
            yield found

    def _begin(self, numbered: list[Numbered]) -> tuple[Parse, list[Numbered]]:
        """How to read the file whose first lines are *numbered*, and those that hold readings."""
        texts = [line.decode("utf-8-sig", errors="replace").rstrip("\r") for _, line in numbered]
        if rrd.is_xport(texts):
            self.form = "rrdtool"
            return rrd.Xport(texts, self._prefix, self._default, self.bad), numbered
        if numbered[0][1].lstrip()[:1] in (b"{", b"["):
            self.form = "json"
            return JsonLine(self._default, self._config, self.bad), numbered
        if rrd.is_fetch(texts):
            self.form = "rrdtool"
            return rrd.Fetch(texts[0], self._prefix, self._default, self.bad), numbered[1:]
        first = next((i for i, text in enumerate(texts) if text.lstrip()[:1] != "#"), 0)
        message = Message(self._default, self._config, self.bad)
        if messages.is_text(numbered[first][1]):
            self.form = "messages"
            return message, numbered[first:]
        return self._table(texts[first:], numbered[first:])

    def _table(self, texts: list[str], numbered: list[Numbered]) -> tuple[Parse, list[Numbered]]:
        """How to read a table, after the lines about it that Cacti writes."""
        default, about = self._default, cacti.about(texts)
        texts, numbered = texts[about.lines :], numbered[about.lines :]
        if not texts:
            raise NotReadable("it ends before its table begins")
        layout = layout_of(texts, self._columns)
        if layout.in_bits:
            default = Default(default.kind or "gauge", default.unit or "b/s")
        if about.lines:
            self.form = "cacti"
            default = about.default(default)
            if layout.wide:
                layout = about.named(layout)
        return CsvLine(layout, default, self.bad), numbered[layout.header :]

    def _headed(self) -> Iterator[list[Numbered]]:
        """Lines with their numbers; the first batch waits for HEAD_LINES, the end, or a pause."""
        number, head, started = 0, [], False
        for lines in self._whole():
            batch = []
            for line in lines:
                number += 1
                if line and not line.isspace():
                    batch.append((number, line))
            if started:
                yield batch
                continue
            head += batch
            started = len(head) >= HEAD_LINES or (not lines and bool(head))
            if started:
                yield head
            elif not lines:
                yield []
        if not started:
            yield head

    def _whole(self) -> Iterator[Sequence[bytes]]:
        """The batches of lines; a JSON document of several lines as one line."""
        batches = iter(self._lines)
        for lines in batches:
            filled = [line for line in lines if line.strip()]
            if not filled or not messages.is_opened(filled[0].strip()):
                yield lines
                if not filled:
                    continue
                break
            if rrd.is_xport([line.decode(errors="replace") for line in filled[:40]]):
                yield lines
                break
            yield [b"\n".join(document([filled], batches))]
        yield from batches


def document(*parts: Iterable[Sequence[bytes]]) -> list[bytes]:
    """All lines of a document; raises NotReadable if it is too long to be held."""
    found: list[bytes] = []
    size = 0
    for lines in chain(*parts):
        found += lines
        size += sum(map(len, lines))
        if size > DOCUMENT_BYTES_MAX:
            raise NotReadable("it is one JSON document that is too long, expected JSON lines")
    return found
