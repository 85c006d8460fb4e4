"""Queries and changes topics: names, partition counts, settings, end offsets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping

import structlog
from kafka import IsolationLevel, KafkaAdminClient, OffsetSpec, TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType

from streamer.core.types import Partition
from streamer.log import LogError, PartitionMissing, TopicConfig, TopicMissing
from streamer.log.kafka.errors import translated
from streamer.log.kafka.settings import Config, KafkaSettings, common, connect, ms
from streamer.log.kafka.untyped import Untyped

log = structlog.get_logger()
WIDEN_MAX_S = 2.0  # how long to wait until every broker has the new partitions

SETTINGS = ("cleanup.policy", "retention.ms", "max.message.bytes")


class Topics:
    """Connects on first use."""

    def __init__(self, bootstrap: str, settings: KafkaSettings, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._client_id = client_id
        self._opened: Untyped = None
        self._known: dict[str, int] = {}  # partition count of each topic that was queried

    def partitions(self, topics: Iterable[str]) -> Mapping[str, int]:
        """Return each topic's partition count; raises TopicMissing with all that do not exist."""
        unknown = sorted(set(topics) - self._known.keys())
        if unknown:
            with translated("topics", unknown):
                described = self._admin().describe_topics(unknown)
            missing = []
            for topic in described:
                error = errors.for_code(topic["error_code"])
                if error is errors.NoError:
                    self._known[topic["name"]] = len(topic["partitions"])
                elif error is errors.UnknownTopicOrPartitionError:
                    missing.append(topic["name"])
                else:
                    with translated(f"topic {topic['name']}"):
                        raise error
            if missing:
                raise TopicMissing(sorted(missing))
        return self._known

    def forget(self) -> None:
        """Clear the cache of partition counts."""
        self._known.clear()

    def check(self, partition: Partition) -> None:
        """Raise TopicMissing or PartitionMissing if the partition does not exist."""
        topic, number = partition
        if number >= self.partitions([topic])[topic]:
            self._known.pop(topic)  # it may have been widened since
        count = self.partitions([topic])[topic]
        if not 0 <= number < count:
            raise PartitionMissing(partition, count)

    def widen(self, topics: Iterable[str], partitions: int) -> Mapping[str, int]:
        """As `Log.widen`."""
        topics = set(topics)
        self.forget()
        narrow = {t: n for t, n in self.partitions(topics).items() if n < partitions}
        for topic, count in sorted(narrow.items()):
            try:
                self._widen(topic, partitions)
            except LogError as error:
                fields = {"topic": topic, "partitions": count, "needed": partitions}
                log.warning("topic.not_widened", **fields, reason=str(error))
            else:
                log.info("topic.widened", topic=topic, partitions=partitions, before=count)
        deadline = time.monotonic() + WIDEN_MAX_S
        while True:  # the broker answers before all brokers have the new partitions
            self.forget()
            found = {topic: self.partitions(topics)[topic] for topic in topics}
            if min(found.values()) >= partitions or time.monotonic() > deadline or not narrow:
                return found
            time.sleep(WIDEN_MAX_S / 20)

    def _widen(self, topic: str, partitions: int) -> None:
        """Add partitions. Raises LogErrors, unless another process has just added them."""
        with translated(f"widen {topic}"), contextlib.suppress(errors.InvalidPartitionsError):
            self._admin().create_partitions({topic: partitions})

    def unassigned(self, group: str, partitions: int) -> int:
        """Return how many of *partitions* no member of the *group* has; 0 unless it is stable."""
        with translated(f"group {group}"):
            found = self._admin().describe_groups([group])[group]
        if found["error"] or found["group_state"] != "Stable":
            return 0
        given = [
            len(each["partitions"])
            for member in found["members"]
            for each in (member["member_assignment"] or {}).get("assigned_partitions", ())
        ]
        return max(0, partitions - sum(given))

    def end(self, partition: Partition) -> int:
        """Return the high watermark: past all records, committed or not."""
        place = TopicPartition(*partition)
        with translated("end of a partition", [partition.topic]):
            found = self._admin().list_partition_offsets(
                {place: OffsetSpec.LATEST}, isolation_level=IsolationLevel.READ_UNCOMMITTED
            )
            return int(found[place].offset)

    def shapes(self) -> Mapping[str, TopicConfig]:
        """Return the layout of all topics except internal ones."""
        with translated("topics"):
            found = {
                topic["name"]: len(topic["partitions"])
                for topic in self._admin().describe_topics()
                if not topic["is_internal"]
            }
            if not found:
                return {}
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, name, SETTINGS) for name in sorted(found)
            ]
            configs = self._admin().describe_configs(resources, config_filter="all")["topic"]
        return {name: shape(found[name], configs[name]) for name in sorted(found)}

    def create(self, topic: str, layout: TopicConfig) -> None:
        """Create the topic; an existing one is left as it is."""
        configs = {"cleanup.policy": "compact" if layout.compact else "delete"}
        if layout.retention_s is not None and not layout.compact:
            configs["retention.ms"] = str(ms(layout.retention_s))
        wanted = {
            "num_partitions": layout.partitions,
            "replication_factor": self._settings.replication,
            "configs": configs,
        }
        with translated(f"create {topic}"):
            with contextlib.suppress(errors.TopicAlreadyExistsError):
                self._admin().create_topics({topic: wanted})
            self._admin().wait_for_topics([topic])

    def close(self) -> None:
        """Close the connection. May be repeated; the next request connects again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _admin(self) -> Untyped:
        if self._opened is None:
            config: Config = common(self._bootstrap, self._settings, self._client_id)
            self._opened = connect(KafkaAdminClient, config)
        return self._opened


def shape(partitions: int, configs: Mapping[str, Mapping[str, str]]) -> TopicConfig:
    """Build a TopicConfig from the values of SETTINGS, as the broker returns them."""
    policy = configs["cleanup.policy"]["value"]
    retention_ms = int(configs["retention.ms"]["value"])
    forever = retention_ms < 0 or "delete" not in policy
    return TopicConfig(
        partitions=partitions,
        compact="compact" in policy,
        retention_s=None if forever else retention_ms / 1000,
        message_bytes_max=int(configs["max.message.bytes"]["value"]),
    )
