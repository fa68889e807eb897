# SPDX-License-Identifier: Apache-2.0
"""The owner of a shard killed in the middle of a step, between gradients, and while it applies one: at most K steps are
taken again, no rollout is generated again, the weights are the quiet run's. Once it comes back, once it stays away."""
import time

from world import same_run, wait_for

K = 4
# One batch of rollouts for all steps, and a checkpoint after every K of them.
SETTINGS = ("steps=8", "updates_per_batch=8", f"checkpoint.every={K}", "rows_per_step=32", "cell_tokens=128")
# Where it dies: the place, which passage, and whether it comes back.
PLACES = (("training.cell-done", 5, True), ("training.step", 7, False), ("training.apply", 6, True),
          ("training.cell-done", 8, False), ("training.apply", 3, False))
POLL = 0.05


def run(world, figures, random, seconds):
    world.make()
    quiet = world.cluster("owner-quiet", 3).start()
    status, problem = quiet.finish(quiet.submit("grpo", "owner-quiet", *SETTINGS), 240)
    if status != "done":
        raise RuntimeError(f"the quiet job: {status}, {problem}")
    quiet.kill_all()
    equal, redone, regenerated, pauses, struck = 0, [], 0, [], 0
    for turn, (place, passage, returns) in enumerate(PLACES):
        found = kill_one(world, turn, place, passage, returns)
        print(f"   {place}, passage {passage}, {'comes back' if returns else 'stays away'}: {found}", flush=True)
        struck += found["struck"]
        equal += found["different"] is None
        regenerated += found["regenerated"]
        if found["struck"]:
            redone.append(found["redone"])
            pauses.append(found["pause"])
    total = len(PLACES)
    figures.add("owners killed in a step", total, struck, struck == total)
    figures.add("steps taken again", f"<= {K} each", f"at most {max(redone, default='-')} of {redone}",
                bool(redone) and max(redone) <= K)
    figures.add("responses given out again", 0, regenerated, regenerated == 0)
    figures.add("runs with the quiet run's weights and state", f"{total} of {total}", f"{equal} of {total}",
                equal == total)
    figures.time("until a member computes a step again", "<= 5 s each", f"at most {max(pauses, default=99):.1f} s",
                max(pauses, default=99) <= 5)


def kill_one(world, turn, place, passage, returns):
    cluster = world.cluster(f"owner-{turn}", 3)
    marker = cluster.directory / "struck"
    victim = 1 + turn % 3
    cluster.environments[victim] = {"APUS_FAIL_POINT": f"{place}:{passage}:{marker}"}
    cluster.start()
    output = f"owner-{turn}"
    number = cluster.submit("grpo", output, *SETTINGS)
    journal = cluster.journal()

    def step():
        journal.news()
        return marker.exists() or journal.counts.get("ended")

    if not returns:
        cluster.wanted.discard(victim)
    cluster.rest(120, step)
    if not marker.exists():
        cluster.finish(number, 60)
        cluster.kill_all()
        return {"struck": False, "different": "nothing was killed", "regenerated": 0}
    died = time.monotonic()
    # While steps are taken nothing is left to generate. The coordinator's own count: workers' counters lag by a beat.
    before = granted(cluster, number)
    committed = journal.counts.get("committed", 0)
    # Its members' next epoch says from where the steps are taken again.
    cluster.rest(30, lambda: cluster.seen(r"training epoch \d+ from version", died))
    at, match = cluster.seen(r"training epoch \d+ from version (\d+)", died) or (time.monotonic(), None)
    version = int(match.group(1)) if match else committed
    status, problem = cluster.finish(number, 120)
    after = granted(cluster, number)
    journal.close()
    cluster.kill_all()
    different = f"{status}: {problem}" if status != "done" else same_run(
        world.directory / "owner-quiet", world.directory / output)
    return {"struck": True, "different": different, "redone": committed - version, "regenerated": after - before,
            "pause": at - died}


def granted(cluster, number):
    """What the coordinator has given to workers so far."""
    view = wait_for(lambda: cluster.job(number), 20)
    if view is None:
        raise RuntimeError(f"the coordinator tells nothing of job {number}")
    return view.get("sequences_granted", 0)
