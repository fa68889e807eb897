# SPDX-License-Identifier: Apache-2.0
"""The coordinator killed before and after every journal entry of a training job that keeps one checkpoint, from the first
to the last: each time the job goes on and ends with the quiet run's bytes."""
from world import same_run

SETTINGS = ("steps=4", "rows_per_step=4", "group_size=2", "checkpoint.every=1", "checkpoint.keep=1")
NAMES = ("metrics.jsonl", "checkpoints")


def run(world, figures, random, seconds):
    world.make()
    quiet = world.cluster("journal-quiet", 2).start()
    journal = quiet.journal()
    status, problem = quiet.finish(quiet.submit("grpo", "journal-quiet", *SETTINGS), 240)
    if status != "done":
        raise RuntimeError(f"the quiet job: {status}, {problem}")
    journal.news()
    entries = sum(journal.counts.values())
    journal.close()
    quiet.kill_all()
    struck, equal, wrong, place = 0, 0, [], 0
    while True:
        place += 1
        found = [kill_at(world, when, place) for when in ("before", "after")]
        if not any(hit for hit, _ in found):
            break  # commits of several entries together make fewer places than entries
        struck += sum(hit for hit, _ in found)
        equal += sum(hit and different is None for hit, different in found)
        for when, (hit, different) in zip(("before", "after"), found):
            if hit and different is not None:
                wrong.append(f"{when} {place}: {different}")
                print(f"   {wrong[-1]}", flush=True)
        if place % 10 == 0:
            print(f"   {place} commits, {equal} of {struck} equal", flush=True)
    figures.add("journal commits at which the coordinator was killed", f"all, of about {entries} entries", place - 1,
                place > 12)
    figures.add("runs with the quiet run's bytes", f"{struck} of {struck}", f"{equal} of {struck}", equal == struck)


def kill_at(world, when, place):
    """Whether somebody was killed there, and what differs."""
    name = f"journal-{when}-{place}"
    cluster = world.cluster(name, 2)
    marker = cluster.directory / "struck"
    cluster.environments[0] = {"APUS_FAIL_POINT": f"journal.{when}-sync:{place}:{marker}"}
    try:
        cluster.start_process(0)  # it may die as soon as it listens
        cluster.rest(20, cluster.join.exists)
        for index in sorted(cluster.wanted - {0}):
            cluster.start_process(index)
        number = submit(cluster, name)
        status, problem = cluster.finish(number, 240) if number else ("no job", "it was not accepted")
    finally:
        cluster.kill_all()
    different = same_run(world.directory / "journal-quiet", world.directory / name, NAMES) if status == "done" else \
        f"{status}: {problem}"
    return marker.exists(), different


def submit(cluster, output):
    """Submits once more when the coordinator died over it; what was accepted is not submitted twice."""
    for _ in range(3):
        try:
            return cluster.submit("grpo", output, *SETTINGS)
        except Exception:
            cluster.rest(2)
            found = cluster.job(1)
            if found:
                return 1
    return None
