# SPDX-License-Identifier: Apache-2.0
"""Coordinator and workers in namespaces of their own while a rollout job runs: partitions in both directions and in one,
pulled cables, aborted connections, loss and thin wires; then delay, loss, doubled, spoilt and reordered frames. A cut
worker is noticed within 3 s; results are recorded again within 5 s of any fault; finished jobs have a quiet run's bytes."""
import re
import time

import hosts as wires
from figures import percentile
from world import Journal, same_run

WORKERS = 5
EACH = 50
DETECTION = 3.0
RECOVERY = 5.0
# Jobs that wait behind the one that runs, so that there is always work; all are the same.
QUEUED = 3
GROUPS = 300
SETTINGS = ("data.path=few.jsonl",)

CUTS = {
    "partition": lambda wire, host: wire.cut(host, 0),
    "one way, to the coordinator": lambda wire, host: wire.silence_to(host, 0),
    "one way, from the coordinator": lambda wire, host: wire.silence_from(host, 0),
    "cable pulled": lambda wire, host: wire.isolate(host),
}
# Seconds that a milder fault lasts.
MILD = {
    "connections reset": (lambda wire, host, random: wire.reset(host), 1.5),
    "1 to 10 % loss": (lambda wire, host, random: wire.lose(host, random.uniform(1, 10)), 3),
    "1 to 20 Mbit/s": (lambda wire, host, random: wire.throttle(host, random.randrange(1000, 20000)), 3),
    "partition between two workers": (lambda wire, host, random: wire.cut(host, host % WORKERS + 1), 3),
}
RELAYED = {
    "50 ms delay": {"delay": 25, "jitter": 25},
    "1 % loss, doubled, spoilt, reordered": {"loss": 1, "dup": 1, "corrupt": 1, "reorder": 1, "delay": 1, "jitter": 4},
}


def run(world, figures, random, seconds):
    why = wires.why_not()
    if why:
        return figures.skip("faults on the wire: detection, recovery", "<= 3 s, p99 <= 5 s", why)
    world.make()
    started = time.monotonic()
    rows = (world.directory / "many.jsonl").read_text().splitlines(keepends=True)
    (world.directory / "few.jsonl").write_text("".join(rows[:GROUPS]))
    quiet = world.cluster("network-quiet", 2).start()
    status, problem = quiet.finish(quiet.submit("rollout", "network-quiet", *SETTINGS), 240)
    if status != "done":
        raise RuntimeError(f"the quiet job: {status}, {problem}")
    quiet.kill_all()
    wire = wires.Hosts(world, WORKERS + 1)
    cluster, watch = start(world, wire, "network")
    times = {name: [] for name in (*CUTS, *MILD, *RELAYED)}
    detections = {name: [] for name in CUTS}
    undetected = 0
    buried_mildly = {name: 0 for name in (*MILD, *RELAYED)}
    while time.monotonic() - started < seconds * 0.75 and any(len(times[name]) < EACH for name in (*CUTS, *MILD)):
        name = min((*CUTS, *MILD), key=lambda name: (len(times[name]), random.random()))
        victims = random.sample(range(1, WORKERS + 1), 2)
        if name in CUTS:
            undetected += cut(cluster, wire, watch, name, victims, times[name], detections[name])
        else:
            strike, duration = MILD[name]
            begun = time.monotonic()
            for victim in victims[:1]:
                strike(wire, victim, random)
            cluster.rest(duration, watch.look)
            times[name].append(watch.longest(begun))
            wire.heal(victims[0])
            wire.heal(victims[0] % WORKERS + 1)
            buried_mildly[name] += gone(cluster, begun)
        if times[name]:
            print(f"   {name}: {times[name][-1]:.1f} s", flush=True)
        settle(cluster, watch)
    jobs, different = end(world, cluster, watch)
    wire.remove()

    wire = wires.Hosts(world, WORKERS + 1, seed=random.randrange(1 << 30))
    cluster, watch = start(world, wire, "relayed")
    while time.monotonic() - started < seconds and any(len(times[name]) < EACH for name in RELAYED):
        for name, faults in RELAYED.items():
            begun = time.monotonic()
            wire.order(**faults)
            cluster.rest(5, watch.look)
            times[name].append(watch.longest(begun))
            buried_mildly[name] += gone(cluster, begun)
        wire.order()
        cluster.rest(1, watch.look)
        watch.feed()
    relayed = end(world, cluster, watch)
    jobs, different = jobs + relayed[0], different + relayed[1]

    for name in CUTS:
        figures.count(f"{name}: times", EACH, len(times[name]))
        show(figures, f"{name}: noticed", DETECTION, detections[name], 1.0, "the latest")
        show(figures, f"{name}: next result", RECOVERY, times[name], 0.99, "p99")
    figures.add("cut workers that were never noticed", 0, undetected, undetected == 0)
    figures.add("finished jobs with a quiet run's bytes", "all", f"{jobs - len(different)} of {jobs}"
                + "".join(f"; {text}" for text in different[:2]), jobs > 0 and not different)
    for name in (*MILD, *RELAYED):
        figures.count(f"{name}: times", EACH, len(times[name]))
        show(figures, f"{name}: longest wait for a result", RECOVERY, times[name], 0.99,
             f"p99 ({buried_mildly[name]} workers declared dead)")


def show(figures, name, goal, values, share, what):
    if not values:
        return figures.skip(name, f"<= {goal:g} s", "no time for it")
    seen = percentile(values, share)
    figures.add(name, f"<= {goal:g} s", f"{seen:.2f} s {what} of {len(values)}, median {percentile(values, 0.5):.2f} s",
                seen <= goal)


class Watch:
    """When results became durable; keeps the cluster in work."""

    def __init__(self, cluster, name):
        self.journal = Journal(cluster.state / "journal.sqlite")
        self.moments = []
        self.cluster = cluster
        self.name = name
        self.jobs = 0

    def look(self):
        if self.journal.news().get("recorded"):
            self.moments.append(time.monotonic())
        return False

    def feed(self):
        while self.jobs - self.journal.counts.get("ended", 0) < QUEUED:
            self.jobs += 1
            self.cluster.submit("rollout", f"{self.name}-{self.jobs}", *SETTINGS)

    def next(self, since):
        return next((moment for moment in self.moments if moment > since), None)

    def longest(self, since):
        """The longest time without a result from `since` until now."""
        points = [since, *[moment for moment in self.moments if moment > since], time.monotonic()]
        return max(later - earlier for earlier, later in zip(points, points[1:]))


def start(world, wire, name):
    cluster = world.cluster(name, WORKERS, place=wire.place, listen=wire.address).start()
    watch = Watch(cluster, name)
    watch.feed()
    if not cluster.rest(90, lambda: watch.look() or len(watch.moments) > 10):
        raise RuntimeError(f"the job does not start: {(cluster.job(1) or {}).get('waiting_for', 'no answer')}")
    return cluster, watch


def end(world, cluster, watch):
    """Lets the running job finish. Returns how many are done, and what differs from the quiet run."""
    done = watch.journal.counts.get("ended", 0)
    cluster.rest(90, lambda: watch.look() or watch.journal.counts.get("ended", 0) > done)
    cluster.rest(0.5, watch.look)
    done = watch.journal.counts.get("ended", 0)
    cluster.kill_all()
    different = []
    for number in range(1, done + 1):
        text = same_run(world.directory / "network-quiet", world.directory / f"{watch.name}-{number}",
                        ("metrics.jsonl", "rollouts"))
        if text:
            different.append(f"{watch.name}-{number}: {text}")
    return done, different


def gone(cluster, since):
    return sum(1 for at, line in cluster.events if at >= since and " is gone: " in line)


def cut(cluster, wire, watch, name, victims, recoveries, detections):
    """Cuts two workers off, waits until the coordinator knows and results go on, and heals. Returns how many stayed
    unnoticed."""
    pids = [cluster.pid(victim) for victim in victims]
    begun = {}
    for victim, pid in zip(victims, pids):
        begun[pid] = time.monotonic()
        CUTS[name](wire, victim)

    def known(pid):
        return cluster.seen(rf"pid {pid}\) is gone", begun[pid])

    cluster.rest(10, lambda: watch.look() or all(known(pid) for pid in pids))
    cluster.rest(10, lambda: watch.look() or all(known(pid) and watch.next(known(pid)[0]) for pid in pids))
    unnoticed = 0
    for pid in pids:
        at = known(pid)
        if not at:
            unnoticed += 1
            continue
        detections.append(at[0] - begun[pid])
        recoveries.append((watch.next(at[0]) or time.monotonic()) - begun[pid])
    for victim in victims:
        wire.heal(victim)
    return unnoticed


def settle(cluster, watch):
    """Waits until all are back and at work."""
    def back():
        watch.look()
        members = set()
        for _, line in cluster.events:
            found = re.search(r"pid (\d+)\) (joined with|is gone)", line)
            if found:
                (members.add if found.group(2) == "joined with" else members.discard)(found.group(1))
        return all(str(cluster.pid(index)) in members for index in range(1, WORKERS + 1))

    cluster.rest(30, back)
    watch.feed()
    since = time.monotonic()
    cluster.rest(30, lambda: watch.look() or watch.next(since))
