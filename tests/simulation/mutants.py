"""
Bugs planted one by one, each of which the simulated worlds or a named test must catch.

    python -m tests.simulation.mutants            all of them, as a table
    python -m tests.simulation.mutants floor      those whose name holds the word

Each mutant is a copy of the project with one small patch; the worlds, or the tests that it
names, are run on it until one fails. A mutant that survives is a hole in the proof.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SEEDS = 200  # the rarest is caught by the 41st
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """One planted bug: what it is, and where it is put; files are named from `streamer/` on."""

    name: str
    file: str
    old: str
    new: str
    worlds: tuple[str, ...] = ()  # `--world` of those that meet it sooner than drawn ones
    tests: str = "simulation/test_worlds.py"  # that catch it


MUTANTS = (
    Mutant(
        "the floor is the round's end, not its beginning",
        "core/state/checkpoint.py",
        "        progress.floor = progress.began\n",
        "        progress.floor = next_offset\n",
    ),
    Mutant(
        "a page is skipped",
        "core/state/checkpoint.py",
        "        if arena.changed(partition, page):",
        "        if page != 0 and arena.changed(partition, page):",
    ),
    Mutant(
        "a changed page counts as saved",
        "core/state/table.py",
        "        self.dirty[slots // self.page_rows] = True\n",
        "",
    ),
    Mutant(
        "a row forgets the last record that it took",
        "core/predict/pipeline.py",
        'rows["offset"] = wave.offset + 1',
        'rows["offset"] = wave.offset',
    ),
    Mutant(
        "a row claims a record that it never saw",
        "core/predict/pipeline.py",
        'rows["offset"] = wave.offset + 1',
        'rows["offset"] = wave.offset + 2',
    ),
    Mutant(
        "a restored row skips one record too many",
        "core/engine.py",
        "offset >= self.state.known_before",
        "offset > self.state.known_before",
    ),
    Mutant(
        "a restored row skips nothing",
        "core/engine.py",
        "offset >= self.state.known_before(settled.readings)",
        "offset >= 0",
    ),
    Mutant(
        "replay ends one record early",
        "daemon/forecaster.py",
        "self.log.replay(partition, start, committed)",
        "self.log.replay(partition, start, max(start, committed - 1))",
    ),
    Mutant(
        "replay begins one record late",
        "daemon/forecaster.py",
        "self.log.replay(partition, start, committed)",
        "self.log.replay(partition, min(start + 1, committed), committed)",
    ),
    Mutant(
        "nothing is replayed",
        "daemon/forecaster.py",
        "            self._replay(records)\n",
        "",
    ),
    Mutant(
        "what made a turn fail is not saved",
        "core/engine.py",
        "        self.state.save_failures(taken.records)\n",
        "",
        tests="simulation/test_isolation.py",  # it costs restores, and no world's result
    ),
    Mutant(
        "records that wait outlive their partition",
        "core/engine.py",
        "        self._intake.release(revoked)\n",
        "",
    ),
    Mutant(
        "a turn commits records that wait",
        "core/engine.py",
        "offsets = self.state.advance(taken.records)\n",
        "waiting = (r for p in self._intake._waiting for r in p.records)\n"
        "        offsets = self.state.advance([*taken.records, *waiting])\n",
    ),
    Mutant(
        "an eviction is not saved",
        "core/state/flow_state.py",
        "self._unsaved += checkpoint.record_evictions(",
        "_ = checkpoint.record_evictions(",
    ),
    Mutant(
        "evictions are read back and ignored",
        "core/state/restoring.py",
        "        read.needed.update(dict.fromkeys(evictions[at, part], at))",
        "        read.needed.update({})",
    ),
    Mutant(
        "an eviction is taken back before its page is saved",
        "core/state/checkpoint.py",
        "for at in [at for at in progress.evictions if at < progress.floor]",
        "for at in list(progress.evictions)",
    ),
    Mutant(
        "the flow with the latest reading is evicted",
        "core/state/table.py",
        "times <= np.partition(times, number - 1)[number - 1]",
        "times >= np.partition(times, -number)[-number]",
    ),
    Mutant(
        "evictions depend on the flows' slots",
        "core/state/table.py",
        "slots[np.lexsort((names, times))[:number]]",
        "np.sort(np.fromiter(holding.slots.values(), np.intp))[:number]",
    ),
    Mutant(
        "lost partitions are kept",
        "daemon/forecaster.py",
        "        self.engine.release(delivery.revoked)\n",
        "        self.engine.release(p for p in delivery.revoked if p in delivery.assigned)\n",
    ),
    Mutant(
        "rows outlive a refusal",
        "daemon/forecaster.py",
        "        self.engine = self._make_engine()\n",
        "        self.engine = CACHE.setdefault(0, None) or CACHE.update({0: self._make_engine()})"
        " or CACHE[0]\n",
    ),
    Mutant(
        "offsets are committed before the messages",
        "daemon/forecaster.py",
        "            self.log.publish(messages, epoch.offsets)\n",
        "            self.log.publish([], epoch.offsets)\n"
        "            self.log.publish(messages, {})\n",
    ),
    Mutant(
        "messages are published before the offsets",
        "daemon/forecaster.py",
        "            self.log.publish(messages, epoch.offsets)\n",
        "            self.log.publish(messages, {})\n"
        "            self.log.publish([], epoch.offsets)\n",
    ),
    Mutant(
        "pages are saved before the turn that they belong to",
        "daemon/forecaster.py",
        "            self.log.publish(messages, epoch.offsets)\n",
        "            self.log.publish([m for m in messages if m.topic == self._state_topic], {})\n"
        "            self.log.publish([m for m in messages if m.topic != self._state_topic],"
        " epoch.offsets)\n",
    ),
    Mutant(
        "pages are saved after the turn, if we live",
        "daemon/forecaster.py",
        "            self.log.publish(messages, epoch.offsets)\n",
        "            self.log.publish([m for m in messages if m.topic != self._state_topic],"
        " epoch.offsets)\n"
        "            self.log.publish([m for m in messages if m.topic == self._state_topic], {})\n",
    ),
    Mutant(
        "a commit that failed is taken for success",
        "daemon/forecaster.py",
        "                self.log.publish(messages, epoch.offsets)\n",
        "                try:\n                    self.log.publish(messages, epoch.offsets)\n"
        "                except LogError:\n                    pass\n",
    ),
    Mutant(
        "a turn is published again where its end is not known",
        "daemon/forecaster.py",
        "                self.log.publish(messages, epoch.offsets)\n",
        "                try:\n                    self.log.publish(messages, epoch.offsets)\n"
        "                except LogError:\n"
        "                    self.log.publish(messages, epoch.offsets)\n",
    ),
    Mutant(
        "two readings of a flow change places",
        "core/budget.py",
        "    nth[order] = np.arange",
        "    nth[order[::-1]] = np.arange",
    ),
    Mutant(
        "the first replay offset is not saved",
        "core/state/restoring.py",
        "floor_saved=floor is not None",
        "floor_saved=True",
    ),
    Mutant(
        "readings that close no step are forgotten",
        "core/engine.py",
        "        yield from self.pipeline.run(rows, wave, model, counts, self._observer(slots))\n"
        "        self.table.scatter(slots, rows)\n",
        "        made = list(self.pipeline.run(rows, wave, model, counts, self._observer(slots)))\n"
        "        yield from made\n"
        "        if made:\n            self.table.scatter(slots, rows)\n",
    ),
    Mutant(
        "an emptied page is not taken back",
        "core/state/checkpoint.py",
        "            entries.append(page_entry(arena, partition, page, digests, progress.meaning))",
        "            saved = page_entry(arena, partition, page, digests)\n"
        "            entries += [saved] if saved.value is not None else []",
    ),
    Mutant(
        "rows that no longer fit their page are dropped",
        "core/state/restoring.py",
        "        spilled |= {names[i]: (rows[i], generation) for i in kept[arena.page_rows :]}\n",
        "",
    ),
    Mutant(
        "a row of another layout is read in this one's layout",
        "core/state/page_format.py",
        "        rows[name] = found[name]\n",
        "        rows[name] = found[name] if found.dtype.fields[name][1] == dtype.fields[name][1]"
        " else 0\n",
    ),
    Mutant(
        "the state of a lost partition is written after the new owner's",
        "daemon/forecaster.py",
        "        self.engine.release(delivery.revoked)\n",
        "        from streamer.core.state import checkpoint\n"
        "        for p in delivery.revoked:\n"
        "            mine = self.engine.state.partitions[p]\n"
        "            late = checkpoint.due_pages(mine.progress, self.engine.table, p,"
        " next_offset=mine.next_offset, share=1.0,"
        " digests=self.engine.generations.digests)\n"
        "            self.log.publish([Message(self._state_topic, p.number, e.key, e.value)"
        " for e in late if b'page' in e.key], {})\n"
        "        self.engine.release(delivery.revoked)\n",
    ),
    Mutant(
        "new weights read the state that the old ones left",
        "core/registry/rollout.py",
        "        self._reprime(slots, self._target)\n",
        "",
    ),
    Mutant(
        "a page that went over is saved when its turn comes",
        "core/engine.py",
        "        migrated = self.rollout.drain_migrated_pages()\n",
        "        self.rollout.drain_migrated_pages()\n        migrated = []\n",
    ),
    Mutant(
        "all flows of a wave are stepped by one model",
        "core/engine.py",
        "        if (of_each == of_each[0]).all():",
        "        if True:",
    ),
    Mutant(
        "a saved page claims to be the incumbent's",
        "core/state/checkpoint.py",
        "    generation = arena.page_generation(partition, page)\n",
        "    generation = arena.generation\n",
    ),
    Mutant(
        "a page of removed weights keeps its state",
        "core/state/restoring.py",
        "        unprimed += placed if not ready else ()\n",
        "",
    ),
    Mutant(
        "a row that moves to another's page keeps its state",
        "core/state/restoring.py",
        "        unprimed += [flow] if arena.generation_of(slot) != generation else ()\n",
        "",
    ),
    Mutant(
        "a fenced member still saves its pages",
        "daemon/forecaster.py",
        "                self.log.publish(messages, epoch.offsets)\n",
        "                try:\n                    self.log.publish(messages, epoch.offsets)\n"
        "                except LogError:\n"
        "                    self.log.publish([m for m in messages if m.topic == self._state_topic]"
        ", {})\n                    raise\n",
    ),
    Mutant(
        "restoring ends before the table does",
        "daemon/forecaster.py",
        "            self.log.read_table(self._state_topic, partition.number),\n",
        "            dict([*self.log.read_table(self._state_topic, partition.number).items()]"
        "[:-1]),\n",
    ),
    Mutant(
        "a log whose table ends one transaction early",
        "../tests/simulation/memory.py",
        "        return latest(self.log.state[number])\n",
        "        return latest(self.log.state[number][:-1])\n",
    ),
    Mutant(
        "a partition that was revoked and assigned between two polls counts as kept",
        "../tests/simulation/memory.py",
        "        self.tenures = owned\n",
        "        lost = self.tenures.keys() - owned.keys()\n"
        "        gained = {p: at for p, at in gained.items() if p not in self.tenures}\n"
        "        self.tenures = owned\n",
    ),
    Mutant(
        "a log that fences by the owner's name alone, not by its tenure",
        "../tests/simulation/memory.py",
        "log.owners[p] is not self or log.tenures[p] != self.tenures[p] for p in offsets",
        "log.owners[p] is not self for p in offsets",
    ),
    Mutant(
        "a log that lets a sleeper finish its turn",
        "../tests/simulation/memory.py",
        "            log.asleep(self)\n",
        "            held = dict(log.owners), dict(log.tenures)\n"
        "            log.asleep(self)\n"
        "            log.owners.update(held[0]); log.tenures.update(held[1])\n",
    ),
    Mutant(
        "a page that went over leaves behind the pages that took in its rows",
        "core/state/checkpoint.py",
        "    due, progress.first = progress.first | {page}, set()\n",
        "    due = {page}\n",
        worlds=(
            *("flows=18", "flows_max=100", "records_max=40"),
            *("learning=0.05", "upgrade=0.9", "crash_before_publish=0.1"),
        ),
    ),
    Mutant(
        "a page is saved in another page's place",
        "core/state/checkpoint.py",
        'prefix(partition) + b"page/%d" % page, value)',
        'prefix(partition) + b"page/%d" % (page // 2), value)',
    ),
    Mutant(
        "alerts of a replay are published again",
        "core/predict/pipeline.py",
        "        self.alerts.begin()\n        self._totals",
        "        self._totals",
    ),
    Mutant(
        "an alert of an evicted flow fires for ever",
        "core/engine.py",
        'compare = bool(wiped or counts["evicted"] or counts["flows_reset"])',
        'compare = bool(wiped or counts["flows_reset"])',
    ),
    Mutant(
        "an alert that is over is still an entry",
        "core/state/open_alerts.py",
        "        for partition, key in changed:\n",
        "        for partition, key in changed:\n"
        "            if key not in self.held[partition]:\n                continue\n",
    ),
    Mutant(
        "alerts of the partition that went are kept",
        "core/engine.py",
        "        self.alerts.release(revoked)\n",
        "",
    ),
    Mutant(
        "a restore does not read which alerts fire",
        "core/engine.py",
        "        self.alerts.restore(partition, table, committed)\n",
        "        self.alerts.restore(partition, {}, committed)\n",
    ),
    Mutant(
        "a removed rule leaves its alerts behind",
        "core/state/open_alerts.py",
        "        return Reason.RULE_REMOVED\n",
        "        return None\n",
        tests="simulation/test_worlds.py::test_a_removed_rule_ends_its_alerts",
    ),
    Mutant(
        "a count starts again with each turn",
        "core/alerts/lifecycle.py",
        '            state["count"],\n            condition.raised',
        '            state["count"] * 0,\n            condition.raised',
        tests="simulation/test_worlds.py::test_an_alert_of_an_evicted_flow_ends",
    ),
    Mutant(
        "alerts are published before the offsets",
        "daemon/forecaster.py",
        "                self.log.publish(messages, epoch.offsets)\n",
        "                first = [m for m in messages if m.topic == self._alerts_topic]\n"
        "                self.log.publish(first, {})\n"
        "                self.log.publish([m for m in messages if m.topic != self._alerts_topic],"
        " epoch.offsets)\n",
    ),
    Mutant(
        "the ledger counts what is missed only once in a turn",
        "core/alerts/lifecycle.py",
        "        missed = condition.above & ~condition.passed & quiet",
        "        missed = condition.above & ~condition.passed & quiet & (not self.ledger.scores())",
        tests="core/alerts/test_lifecycle.py",
    ),
)


NONE = Mutant("none", "__init__.py", '"""Forecast', '"""Forecast')


def caught_by(mutant: Mutant, seeds: int = SEEDS) -> tuple[int | None, str]:
    """How many worlds it took, None if it survives, and what failed."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for part in ("streamer", "tests"):
            shutil.copytree(ROOT / part, home / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", home)
        target = home / "streamer" / mutant.file
        source = target.read_text()
        if source.count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: its place is not found once in {mutant.file}")
        patched = source.replace(mutant.old, mutant.new)
        if "CACHE" in mutant.new:
            patched = patched.replace("PAUSE_S = 0.5", "CACHE: dict = {}\nPAUSE_S = 0.5", 1)
        target.write_text(patched)
        command = [sys.executable, "-m", "pytest", f"tests/{mutant.tests}", "-x", "-q"]
        command += ["-p", "no:cacheprovider", "--seeds", str(seeds), "--tb", "line"]
        command += [part for each in mutant.worlds for part in ("--world", each)]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    failed = re.search(r"(?:FAILED|ERROR) \S+::(\w+)(?:\[(\d+)\])?", done.stdout)
    if failed:
        return int(failed[2] or 0) + 1, failed[1]
    if done.returncode:
        return 1, done.stdout.strip().splitlines()[-1]
    return None, ""


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [mutant for mutant in MUTANTS if word in mutant.name]
    if caught_by(NONE, seeds=20)[0] is not None:
        print("the worlds fail without any mutant: no mutant can be judged", flush=True)
        return 2
    survivors = 0
    for mutant in chosen:
        worlds, by = caught_by(mutant)
        survivors += worlds is None
        result = "SURVIVES" if worlds is None else f"{worlds:3d} worlds"
        print(f"{result:10}  {mutant.name:58}  {by}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
