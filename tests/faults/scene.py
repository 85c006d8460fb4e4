"""
A group under load, and what may befall it.

Each fault is a method that does its harm, mends it, and reports what it saw that
must not be. Whatever it draws comes from the scene's chance.
"""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

from tests.broker.broker import Broker
from tests.faults.daemons import TRAINERS, Daemon, Group, until
from tests.faults.feeder import Feeder

MEMBERS = ("a", "b", "c")
GUEST = "d"
DISPLACED = 75  # the exit code of the older of two with one name
PATIENCE_S = 90.0
BAD_WORDS = re.compile(r"Traceback|Fatal Python error|AssertionError|pages\.unreadable")


class Scene:
    """Forecasters, what feeds them, and the broker unless the log is SQLite."""

    def __init__(
        self,
        group: Group,
        feeder: Feeder,
        broker: Broker | None,
        *,
        silence_s: float,
        chance: Random,
    ) -> None:
        self.group = group
        self.feeder = feeder
        self.broker = broker
        self.chance = chance
        self.silence_s = silence_s  # after which a member loses its partitions
        self.codes: Counter[str] = Counter()  # how daemons ended
        self.wakings: Counter[str] = Counter()  # what became of those that slept
        self.complaints: list[str] = []

    @property
    def faults(self) -> list[str]:
        """The names of the possible faults; with trainers only kills."""
        if TRAINERS[0] in self.group.running:
            return ["kill", "kill_trainer"]
        return list(FAULTS if self.broker else [f for f in FAULTS if "broker" not in f])

    def befall(self, fault: str) -> None:
        getattr(self, fault)()
        self.look()

    def kill(self) -> None:
        """One is killed, and back after a while."""
        victim = self.anyone()
        self.end(victim)
        self.idle(0, 3)
        self.group.start(victim.instance)

    def kill_trainer(self) -> None:
        """A trainer, active or idle, is killed, and started again after a while."""
        victim = self.group.running[self.chance.choice(TRAINERS)]
        self.end(victim)
        self.idle(0, 3)
        self.group.start(victim.instance)

    def kill_all(self) -> None:
        """All at once, and the feeder."""
        victims = list(self.group.running.values())
        self.feeder.kill()
        for victim in victims:
            victim.process.kill()
        for victim in victims:
            self.end(victim)
        self.idle(0, 1)
        for victim in victims:
            self.group.start(victim.instance)

    def kill_feeder(self) -> None:
        """What it had not sent is sent again, some of it a second time."""
        self.feeder.kill()

    def sleep(self) -> None:
        """One is held until the others have its partitions; it comes back without them."""
        sleeper = self.anyone()
        for member in self.members:  # who is still to join could take nothing
            self.await_partitions(member, member.since)
        before = {member: member.log.stat().st_size for member in self.members}
        sleeper.sleep()
        time.sleep(self.silence_s * self.chance.uniform(1.4, 1.8))
        sleeper.wake()
        self.await_waking(sleeper, before)

    def sleep_a_little(self) -> None:
        """Not long enough to be missed."""
        sleeper = self.anyone()
        sleeper.sleep()
        time.sleep(self.silence_s * self.chance.uniform(0.1, 0.5))
        sleeper.wake()

    def replace_a_sleeper(self) -> None:
        """
        One is held, another of its name is started: when the first wakes, it has to go.

        Unless it had lost the broker when it was put to sleep: then it joins again, as the younger.
        """
        sleeper = self.anyone()
        self.await_partitions(sleeper, sleeper.since)  # who has not joined yet would be the younger
        sleeper.sleep()
        before = sleeper.log.stat().st_size
        other = self.group.start(sleeper.instance)
        try:
            self.await_partitions(sleeper, before)
        finally:
            sleeper.wake()
        both = sleeper, other
        until(lambda: not all(each.lives for each in both), PATIENCE_S, "one of two has ended")
        ended, stays = both if not sleeper.lives else both[::-1]
        self.group.running[sleeper.instance] = stays
        code = ended.process.returncode
        self.codes["displaced" if code == DISPLACED else f"displaced, but {code}"] += 1
        if code != DISPLACED:
            self.complaints.append(f"{sleeper.instance} was replaced and ended with {code}")
        if ended is other and "kind=unavailable" not in sleeper.log_text(before):
            self.complaints.append(f"{sleeper.instance} was replaced, and its replacement ended")

    def stop(self) -> None:
        """One leaves in order, and comes back."""
        leaver = self.anyone()
        self.end_in_order(leaver)
        self.idle(0, 2)
        self.group.start(leaver.instance)

    def join_or_leave(self) -> None:
        """A fourth one comes; the next time it goes."""
        guest = self.group.running.pop(GUEST, None)
        if guest is not None:
            self.end_in_order(guest)
            return
        self.group.start(GUEST)
        self.idle(2, 6)

    def kill_broker(self) -> None:
        """A power cut; sometimes one of us dies in it too."""
        assert self.broker
        self.broker.kill9()
        victim = self.anyone() if self.chance.random() < 0.5 else None
        if victim:
            self.end(victim)
        self.idle(0, 4)
        self.broker.start()
        if victim:
            self.group.start(victim.instance)

    def restart_broker(self) -> None:
        """In order, as for an upgrade."""
        assert self.broker
        self.broker.restart()

    def look(self) -> None:
        """No daemon may have ended by itself."""
        for daemon in list(self.group.running.values()):
            if not daemon.lives:
                code = daemon.process.returncode
                self.codes[f"by itself: {code}"] += 1
                self.complaints.append(f"{daemon.instance} ended by itself with {code}")
                self.group.start(daemon.instance)

    def come_to_rest(self) -> None:
        """All input sent, all daemons running."""
        self.feeder.stop()
        for instance in MEMBERS:
            if instance not in self.group.running:
                self.group.start(instance)
        self.look()

    def leave(self) -> None:
        """All end in order; then nothing may be in their logs that should not."""
        for daemon in list(self.group.running.values()):
            self.end_in_order(daemon)
        self.group.running.clear()
        for log in self.group.home.glob("*.log"):
            if found := BAD_WORDS.findall(log.read_text(errors="replace")):
                self.complaints.append(f"{log.name} holds {', '.join(sorted(set(found)))}")

    def anyone(self) -> Daemon:
        return self.chance.choice([self.group.running[name] for name in MEMBERS])

    def idle(self, least_s: float, most_s: float) -> None:
        time.sleep(self.chance.uniform(least_s, most_s))

    def end(self, victim: Daemon) -> None:
        victim.kill()
        self.codes["killed"] += 1

    def end_in_order(self, daemon: Daemon) -> None:
        code = daemon.stop()
        if code == -signal.SIGTERM and not daemon.has_started:
            self.codes["stopped before it began"] += 1
            return
        self.codes["stopped" if code == 0 else f"stopped, but {code}"] += 1
        if code:
            self.complaints.append(f"{daemon.instance} was stopped and ended with {code}")

    @property
    def members(self) -> list[Daemon]:
        return [each for name, each in self.group.running.items() if name not in TRAINERS]

    def await_partitions(self, daemon: Daemon, since: int) -> None:
        """Until *daemon*, or another of its name, has restored a partition."""
        until(
            lambda: "partition.restored" in daemon.log_text(since),
            PATIENCE_S,
            f"{daemon.instance} has partitions",
        )

    def await_waking(self, sleeper: Daemon, before: Mapping[Daemon, int]) -> None:
        """
        It lost what it held: it must join again, by itself or after a refusal.

        Unless it was put to sleep in the middle of a stroke: that keeps everybody else from the
        file, and so from its partitions, until it wakes.
        """
        woken_s = time.monotonic()

        def has_returned() -> bool:
            return "partition.restored" in sleeper.log_text(before[sleeper])

        def nobody_took() -> bool:
            waited = time.monotonic() - woken_s > self.silence_s
            others = (other for other in before if other is not sleeper)
            took = any("partition.restored" in other.log_text(before[other]) for other in others)
            return self.broker is None and waited and not took

        until(
            lambda: has_returned() or nobody_took(),
            PATIENCE_S,
            f"{sleeper.instance} has partitions again",
        )
        if not has_returned():
            self.wakings["had kept the file to itself"] += 1
            return
        refused = "log.failed" in sleeper.log_text(before[sleeper])
        self.wakings["was refused and came back" if refused else "joined again"] += 1


FAULTS = (
    "kill",
    "kill_broker",
    "sleep",
    "replace_a_sleeper",
    "stop",
    "join_or_leave",
    "kill_feeder",
    "kill_all",
    "restart_broker",
    "sleep_a_little",
)


def logs_of(home: Path) -> str:
    """The last words of everybody, for a failure's report."""
    tails = [
        f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}"
        for log in sorted(home.glob("*.log"))
    ]
    return "\n".join(tails)
