# SPDX-License-Identifier: Apache-2.0
"""Alternating jobs (dense and expert models trained, sampled and scored) with losses on four workers, for all of --minutes:
memory stays flat after warm-up, and no job waits for more than a minute without a printed reason. `Scripts/chaos --minutes 40
soak`; memory is printed once a minute."""
import signal
import time
from pathlib import Path

import mix
from figures import percentile

WORKERS = 4
# The first worker and the coordinator live as long as the soak, so that their memory can be watched.
VICTIMS = range(2, WORKERS + 1)
ORDER = ("train-wide", "rollout-experts", "train-experts", "rollout-dense", "rollout-experts", "score")
# Of the time, before memory is compared.
WARM_UP = 0.25
# Growth of the last quarter's median over the first quarter after the warm-up.
GROWTH_MAX = 1.10
SLACK_BYTES = 24 << 20
SILENCE_SECONDS = 60
JOB_SECONDS = 300


def run(world, figures, random, seconds):
    mix.make(world)
    cluster = world.cluster("soak", WORKERS).start()
    soak = Soak(cluster, random, seconds)
    soak.run()
    for line in soak.trouble:
        print("   " + line)
    figures.count("jobs that ended well", 6, soak.done)
    figures.add("jobs that did not", "0", len(soak.trouble), not soak.trouble)
    figures.count("workers lost", int(seconds) // 60, soak.losses)
    figures.add("longest wait without a printed reason", f"<= {SILENCE_SECONDS} s", f"{soak.silence:.0f} s",
                soak.silence <= SILENCE_SECONDS)
    print(f"   longest time without progress: {soak.longest[0]:.0f} s ({soak.longest[1] or 'no reason'})")
    for index, name in ((0, "coordinator"), (1, "worker 1")):
        # At rest, between two jobs, what is kept shows most.
        for what, share in (("at rest", 0.05), ("median", 0.5)):
            first, last = soak.quarters(index, share)
            figures.add(f"resident memory of {name}, {what}, early and late", f"<= +{100 * GROWTH_MAX - 100:.0f} %",
                        f"{first >> 20} MiB, {last >> 20} MiB", last <= max(first * GROWTH_MAX, first + SLACK_BYTES))
    most = max((value for index in VICTIMS for _, value in soak.memory[index]), default=0)
    print(f"   the largest of the other workers' processes had {most >> 20} MiB")


class Soak:
    def __init__(self, cluster, random, seconds):
        self.cluster = cluster
        self.random = random
        self.seconds = seconds
        self.started = time.monotonic()
        self.memory = {index: [] for index in range(WORKERS + 1)}
        self.trouble = []
        self.done = self.losses = 0
        self.silence = 0.0
        self.longest = (0.0, "")
        self.nextSample = self.nextPrint = 0.0
        self.nextLoss = 20.0

    @property
    def elapsed(self):
        return time.monotonic() - self.started

    def run(self):
        rounds = 0
        while self.elapsed < self.seconds:
            kind = ORDER[rounds % len(ORDER)]
            rounds += 1
            number = self.cluster.submit(kind, f"soak-{kind}")
            problem = self.watch(number)
            if problem:
                self.trouble.append(f"job {number} ({kind}) at {self.elapsed:.0f} s: {problem}")
                self.cluster.client("cancel", str(number), check=False)
            else:
                self.done += 1

    def watch(self, number):
        """Until the job ends; what went wrong with it, or nothing."""
        begun = moved = spoken = time.monotonic()
        before = None
        while True:
            self.cluster.rest(0.5)
            self.sample()
            self.lose()
            now = time.monotonic()
            view = self.cluster.job(number)
            if view is None:
                continue
            status, reason = view.get("status", ""), view.get("waiting_for", "")
            if status in ("done", "failed", "cancelled"):
                return "" if status == "done" else f"{status}, {view.get('problem', '')}"
            state = [view.get(key) for key in ("status", "step", "groups_done", "sequences_done", "scores_done", "token_count")]
            if state != before:
                before, moved, spoken = state, now, now
            if reason:
                spoken = now
            self.silence = max(self.silence, now - spoken)
            if now - moved > self.longest[0]:
                self.longest = (now - moved, reason)
            if now - begun > JOB_SECONDS:
                return f"no end in {JOB_SECONDS} s; waits for {reason or 'nothing it names'}"

    def lose(self):
        """Now and then a worker dies, ends or freezes for a while."""
        if self.elapsed < self.nextLoss:
            return
        self.nextLoss = self.elapsed + self.random.uniform(10, 40)
        victim = self.random.choice(VICTIMS)
        kind = self.random.random()
        if kind < 0.7:
            self.cluster.signal(victim, signal.SIGKILL)
        elif kind < 0.85:
            self.cluster.signal(victim, signal.SIGTERM)
        else:
            self.cluster.signal(victim, signal.SIGSTOP)
            self.cluster.rest(self.random.uniform(0.5, 4))
            self.cluster.signal(victim, signal.SIGCONT)
        self.losses += 1

    def sample(self):
        if self.elapsed < self.nextSample:
            return
        self.nextSample = self.elapsed + 0.5
        for index in self.memory:
            value = resident(self.cluster.pid(index))
            if value:
                self.memory[index].append((self.elapsed, value))
        if self.elapsed >= self.nextPrint:
            self.nextPrint = self.elapsed + 60
            now = " ".join(f"{series[-1][1] >> 20}" if series else "-" for series in self.memory.values())
            print(f"   {self.elapsed:5.0f} s: {self.done} jobs, {self.losses} losses, MiB of coordinator and workers: {now}",
                  flush=True)

    def quarters(self, index, share):
        """Resident bytes that a share of samples does not exceed, in the first and in the last quarter of the time after the warm-up."""
        begin = self.seconds * WARM_UP
        span = (self.elapsed - begin) / 4
        first = [value for at, value in self.memory[index] if begin <= at < begin + span]
        last = [value for at, value in self.memory[index] if at >= self.elapsed - span]
        return percentile(first, share), percentile(last, share)


def resident(pid):
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return int(fields[1]) * 4096
    except (OSError, IndexError):
        return 0
