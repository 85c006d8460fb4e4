"""Readings out of a Parquet file, whose columns are those of a CSV; needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamer.feed.columns import Layout, NotReadable, table_of
from streamer.feed.rows import CsvLine, Default, Kind
from streamer.feed.timed import Bad, Parsed, Timed

ROWS = 10_000  # that are read at once
HEAD_ROWS = 500  # by which a file is judged
PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class ParquetReadings(Timed):
    """See `FileReadings`; timestamps of the file's own type need no unit."""

    def __init__(
        self,
        path: Path,
        kind: Kind | None = None,
        unit: str | None = None,
        *,
        sort: bool = False,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(Bad("row"), sort=sort)
        self._path, self._default, self._columns = path, Default(kind, unit), columns
        self.form = "parquet"

    def _parsed(self) -> Iterator[list[Parsed]]:
        try:
            with pq.ParquetFile(self._path) as file:
                yield from self._rows(file)
        except (pa.ArrowException, OSError) as error:
            raise NotReadable(f"it is no Parquet file that can be read: {error}") from error

    def _rows(self, file: Any) -> Iterator[list[Parsed]]:  # noqa: ANN401 - pyarrow has no types
        layout: Layout | None = None
        parse: CsvLine | None = None
        number = 0
        for batch in file.iter_batches(batch_size=ROWS):
            columns = [texts(column) for column in batch.columns]
            rows = list(zip(*columns, strict=True))
            if layout is None or parse is None:
                layout = table_of(file.schema_arrow.names, rows[:HEAD_ROWS], self._columns)
                parse = CsvLine(layout, self._default, self.bad)
            found: list[Parsed] = []
            for row in rows:
                number += 1
                try:
                    found += [(number, b"", reading) for reading in parse.of(row)]
                except (ValueError, IndexError) as error:
                    self.bad.add(number, b"", str(error))
            yield found


def texts(column: Any) -> Sequence[str]:  # noqa: ANN401 - likewise
    """The values of a column as a CSV would have them; timestamps as epoch seconds."""
    kind = column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s"))
        kind = column.type
    if pa.types.is_timestamp(kind):
        per_s = PER_S[kind.unit]
        whole = column.cast(pa.int64()).to_pylist()
        return ["" if each is None else repr(each / per_s) for each in whole]
    return [text_of(each) for each in column.to_pylist()]


def text_of(value: object) -> str:
    """A value as text; an empty one for null."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    return format(value, "f") if isinstance(value, Decimal) else str(value).strip()
