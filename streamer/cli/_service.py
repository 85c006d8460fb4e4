"""The metrics of a role, over HTTP and on the log, and its probes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from streamer.core.features.verdicts import Verdict
from streamer.core.types import Partition, Reason
from streamer.ops.health import Health
from streamer.ops.http import Listener, Pages
from streamer.ops.metrics import CONTENT_TYPE, Metrics
from streamer.ops.metrics_topic import MetricsTopic

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

    from streamer.config.schema import Config
    from streamer.daemon.events import Phase, Return, Turn
    from streamer.ops.coverage_slo import CoverageSLO

Role = Literal["forecaster", "trainer", "notifier", "rekeyer"]
KNOWN = {  # counts that are shown as zero from the start
    "forecaster": (
        *(f"rejected.{reason}" for reason in Reason),
        *(f"verdict.{verdict.name.lower()}" for verdict in Verdict),
    ),
    "trainer": (),
    "notifier": (),
    "rekeyer": tuple(f"rejected.{reason}" for reason in Reason),
}
TOKEN = "STREAMER_HTTP_TOKEN"  # noqa: S105 - the variable's name


class Service:
    """The metrics and the health of one role, served until `close`."""

    def __init__(
        self,
        config: Config,
        role: Role,
        counts: Counter[str],
        levels: Mapping[str, float],
        lines: BoundLogger,
    ) -> None:
        """Raises PermanentError if the token's file cannot be read."""
        from streamer.config.schema import open_client
        from streamer.ops.secrets import secret

        def token() -> str | None:
            return secret("http.token_file", config.http.token_file, TOKEN)

        token()
        trains = role == "trainer"
        stall_max_s = config.trainer.hang_timeout if trains else config.http.stall_max
        bind = {
            "forecaster": config.http.bind,
            "trainer": config.http.trainer_bind,
            "notifier": config.http.notifier_bind,
            "rekeyer": config.http.rekeyer_bind,
        }[role]
        self.health = Health(float(stall_max_s))
        version = metadata.version("streamer")
        self.metrics = Metrics(role, version, counts, levels, KNOWN[role])
        pages = Pages(
            self.metrics.text,
            CONTENT_TYPE,
            self.health.why_dead,
            self.health.why_not_ready,
            token,
        )
        self.listener = Listener(bind, pages, counts, lines)
        self.topic = MetricsTopic(
            config.metrics,
            self.metrics.registry.collect,
            {"group": config.group, "instance": config.instance_name, "role": role},
            lambda: open_client(config, existing=True),
            counts,
            lines,
        )
        self.topic.start()

    def close(self) -> None:
        """Stop serving and reporting."""
        self.listener.close()
        self.topic.close()


class ForecasterMetrics:
    """What a forecaster's turns report beyond counts: durations, and tables by partition."""

    def __init__(self, metrics: Metrics, objective: CoverageSLO) -> None:
        self._histograms, self._levels = metrics.histograms, metrics.levels
        self._objective = objective
        self._phase = "starting"
        self._phases: tuple[str, ...] = ()
        self._lag: Mapping[Partition, int] = {}
        self._newest_ms: dict[Partition, int] = {}
        tables = metrics.tables
        tables["phase"] = lambda: {(each,): float(each == self._phase) for each in self._phases}
        tables["lag"] = lambda: {labels(at): lag for at, lag in dict(self._lag).items()}
        tables["newest"] = lambda: {
            labels(at): ms / 1e3 for at, ms in dict(self._newest_ms).items()
        }
        tables["lag_s"] = self._lag_s
        for name in ("error", "coverage", "skill"):
            tables[name] = lambda name=name: self._by_horizon(name)  # type: ignore[misc]

    def turned(self, turn: Turn) -> None:
        """Observe a turn."""
        levels = self._levels
        self._lag = turn.lag
        if self._newest_ms.keys() - turn.lag.keys():
            self._newest_ms = {at: ms for at, ms in self._newest_ms.items() if at in turn.lag}
        self._newest_ms.update(turn.newest_ms)
        levels["pages_stale"] = turn.pages_stale
        levels["objective_missed"] = self._objective.missed
        if turn.epoch.forecasts:
            levels["generation"] = turn.epoch.forecasts[-1].generation
        now = time.time()
        if turn.epoch.entries:
            levels["checkpoint_at"] = now
        if any(turn.epoch.counts.values()):
            self._histograms["turn"].observe(turn.took_s)
            self._histograms["step"].observe(turn.step_s)
            self._histograms["publish"].observe(turn.publish_s)
        if turn.newest_ms:
            newest_ms = max(turn.newest_ms.values())
            if newest_ms > 0:
                self._histograms["latency"].observe(max(0.0, now - newest_ms / 1e3))

    def moved(self, phase: Phase) -> None:
        """The forecaster entered *phase*."""
        self._phases = tuple(each.value for each in type(phase))
        self._phase = phase.value

    def restored(self, back: Return) -> None:
        """A partition was restored."""
        self._histograms["restore"].observe(back.took_s)

    def _lag_s(self) -> dict[tuple[str, ...], float]:
        now, newest_ms = time.time(), dict(self._newest_ms)
        return {
            labels(at): max(0.0, now - newest_ms[at] / 1e3) if lag else 0.0
            for at, lag in dict(self._lag).items()
            if not lag or newest_ms.get(at, 0) > 0
        }

    def _by_horizon(self, name: str) -> dict[tuple[str, ...], float]:
        return {
            (str(horizon),): levels[name]
            for horizon, levels in self._objective.by_horizon.items()
            if name in levels
        }


def labels(at: Partition) -> tuple[str, str]:
    """A partition as labels."""
    return at.topic, str(at.number)
