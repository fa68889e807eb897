# SPDX-License-Identifier: Apache-2.0
"""Cancel, kill, drain, scale and redeploy at every phase of a training job, then a rollout job on a mixture of experts:
it runs. Scripts/chaos phases; it takes what it takes, about ten minutes."""
import signal
import time

import mix
from world import wait_for

WORKERS = 3
# What the job waits for in a phase.
PHASES = {
    "placing": "to load (?!the training state)|to be placed|workers? to join|to settle",
    "loading": "to load the training state",
    "gradients": "to finish gradients",
    "applying": "to apply the step",
    "checkpoint": "to write the checkpoint|to be named",
}
ACTIONS = ("cancel", "kill", "drain", "scale", "redeploy")
# The job must run once it is left alone; a job that waits says for what.
SECONDS = 120


def run(world, figures, random, seconds):
    mix.make(world)
    print(f"   the dense model has {mix.bytes_of(world, 'wide') >> 20} MiB; a window between two workers is 32 MiB")
    cluster = world.cluster("phases", WORKERS, keys=WORKERS + 1).start()
    rounds = ran = hits = 0
    trouble = []
    for phase in PHASES:
        for action in ACTIONS:
            rounds += 1
            hit = strike(cluster, phase, action, random)
            hits += hit
            problem = settle(cluster, action)
            print(f"   {action} while {phase}{'' if hit else ' (not met, done a little later)'}: "
                  f"{problem or 'the rollout job ran'}", flush=True)
            if problem:
                trouble.append(f"{action} while {phase}: {problem}")
            else:
                ran += 1
    figures.add("phases that were met", f">= {rounds * 3 // 4} of {rounds}", hits, hits >= rounds * 3 // 4)
    figures.add("rollout jobs that ran afterwards", f"{rounds} of {rounds}", "; ".join(trouble) or ran, ran == rounds)


def strike(cluster, phase, action, random):
    """Submits a training job and acts in its phase; whether the phase was met."""
    number = cluster.submit("train-wide", "phases-train", "steps=6")
    met = meet(cluster, number, PHASES[phase])
    # Anywhere within it.
    time.sleep(random.uniform(0, 0.08))
    if action in ("cancel", "redeploy"):
        cluster.client("cancel", str(number), check=False)
        if action == "redeploy":
            # Another model takes the place of the first, and goes before it is there.
            other = cluster.submit("rollout-dense", "phases-other")
            cluster.rest(random.uniform(0, 0.5))
            cluster.client("cancel", str(other), check=False)
    elif action == "kill":
        cluster.signal(random.randrange(1, WORKERS + 1), signal.SIGKILL)
        go_on(cluster, number)
    elif action == "drain":
        workers = cluster.workers()
        if len(workers) > 1:
            # A drained worker ends and is started again, like one whose host was served.
            cluster.client("drain", "--no-wait", str(random.choice(workers)["id"]), check=False)
        go_on(cluster, number)
    elif action == "scale":
        newcomer = WORKERS + 1
        if newcomer in cluster.wanted:
            cluster.wanted.discard(newcomer)
            cluster.signal(newcomer, signal.SIGTERM)
        else:
            cluster.wanted.add(newcomer)
            cluster.start_process(newcomer)
        go_on(cluster, number)
    return met


def meet(cluster, number, pattern):
    """Waits until the job waits for something."""
    import re
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        cluster.tend()
        view = cluster.job(number) or {}
        if view.get("status") in ("done", "failed", "cancelled"):
            return False
        if re.search(pattern, view.get("waiting_for", "")):
            return True
    return False


def go_on(cluster, number):
    """Lets the job take another step, then cancels it."""
    before = int((cluster.job(number) or {}).get("step", 0))
    wait_for(lambda: cluster.rest(0.3) or ended_or_past(cluster, number, before), 60, step=0)
    cluster.client("cancel", str(number), check=False)


def ended_or_past(cluster, number, step):
    view = cluster.job(number) or {}
    return view.get("status") in ("done", "failed", "cancelled") or int(view.get("step", 0)) > step


def settle(cluster, action):
    """A rollout job on a mixture of experts; what went wrong, or nothing."""
    number = cluster.submit("rollout-experts", "phases-rollout")
    status, problem = cluster.finish(number, SECONDS)
    if status == "done":
        return ""
    waits = [f"worker {worker.get('id')}: {worker.get('activity', '')} {worker.get('waiting_for', '')}".strip()
             for worker in cluster.workers()]
    cluster.client("cancel", str(number), check=False)
    return f"{status}, {problem} ({'; '.join(waits)})"
