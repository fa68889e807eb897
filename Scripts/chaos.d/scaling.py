# SPDX-License-Identifier: Apache-2.0
"""One worker, then four, then two during a training run: the weights of one worker alone, and no long pause."""
import signal
import time

from world import same_run

SETTINGS = ("steps=16", "checkpoint.every=4")


def run(world, figures, random, seconds):
    world.make()
    quiet = world.cluster("scaling-quiet", 1).start()
    status, problem = quiet.finish(quiet.submit("grpo", "scaling-quiet", *SETTINGS), 300)
    if status != "done":
        raise RuntimeError(f"the quiet job: {status}, {problem}")
    quiet.kill_all()

    has_drain = "drain" in world.apus("--help").stdout.split()
    cluster = world.cluster("scaling", 1, keys=4).start()
    number = cluster.submit("grpo", "scaled", *SETTINGS)
    journal = cluster.journal()
    moments = []
    last = [None]

    def watch():
        """Every durable entry is a sign of life."""
        new = journal.news()
        now = time.monotonic()
        if new.keys() & {"recorded", "prepared", "committed", "snapshot"}:
            if last[0] is not None:
                moments.append((now - last[0], now))
            last[0] = now
        return bool(journal.counts.get("ended"))

    def until_step(step):
        cluster.rest(240, lambda: watch() or journal.counts.get("committed", 0) >= step)

    until_step(4)
    cluster.wanted |= {2, 3, 4}
    for index in (2, 3, 4):
        cluster.start_process(index)
    grown = time.monotonic()
    cluster.rest(60, lambda: watch() or len(members(cluster, grown)) >= 1 and members(cluster, grown)[-1] == 4)
    most = max(members(cluster, 0), default=1)
    until_step(journal.counts.get("committed", 0) + 4)
    shrunk = time.monotonic()
    cluster.wanted -= {3, 4}
    if has_drain:
        by_pid = {worker.get("process_id"): worker.get("id") for worker in cluster.workers()}
        for index in (3, 4):
            cluster.client("drain", "--no-wait", str(by_pid[cluster.pid(index)]), check=False)
    else:
        for index in (3, 4):
            cluster.signal(index, signal.SIGTERM)
    cluster.rest(240, watch)
    status, problem = cluster.finish(number, 30)
    last_count = (members(cluster, shrunk) or [0])[-1]
    journal.close()
    rollbacks = sum(1 for _, line in cluster.events if "training epoch" in line and "from version" in line)
    cluster.kill_all()
    longest = max((gap for gap, _ in moments), default=99)
    for gap, at in sorted(moments, reverse=True)[:3]:
        print(f"   a pause of {gap:.1f} s, {at - grown:+.1f} s from growing, {at - shrunk:+.1f} s from shrinking")
    different = f"{status}: {problem}" if status != "done" else same_run(
        world.directory / "scaling-quiet", world.directory / "scaled")
    way = "apus drain" if has_drain else "SIGTERM, there is no apus drain yet"
    figures.add(f"members on the way ({way})", "1, 4, 2", f"1, {most}, {last_count}", most == 4 and last_count == 2)
    figures.add("one worker's weights, state and rollouts", "equal", different or "equal", different is None)
    figures.add("longest pause without a durable result", "<= 5 s", f"{longest:.1f} s ({rollbacks} training epochs)",
                longest <= 5)


def members(cluster, since):
    """Sizes of the training epochs since then."""
    return [int(line.split(" with ")[1].split()[0]) for at, line in cluster.events
            if at >= since and "training epoch" in line and " with " in line]
