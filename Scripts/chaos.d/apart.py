# SPDX-License-Identifier: Apache-2.0
"""Two of three workers, each a network namespace, lose each other in the middle of a training job and of a rollout job with
experts, while the coordinator hears both: both are named within seconds in log, job and workers, the job goes on without
one of them and ends with the quiet run's bytes; once the wire is whole, all three are used again."""
import os
import shutil
import time

import hosts as wires
from world import same_run

CASES = (("grpo", ("steps=8",), ("metrics.jsonl", "checkpoints")), ("rollout", ("data.path=few.jsonl",), ("rollouts",)))
NAMED = 10.0


def run(world, figures, random, seconds):
    if os.geteuid() != 0 or not shutil.which("ip"):
        return figures.skip("two workers that cannot reach each other", f"named in {NAMED:g} s", "needs root and ip")
    world.make()
    rows = (world.directory / "many.jsonl").read_text().splitlines(keepends=True)
    (world.directory / "few.jsonl").write_text("".join(rows[:400]))
    for job, settings, names in CASES:
        quiet = world.cluster(f"apart-quiet-{job}", 2).start()
        status, problem = quiet.finish(quiet.submit(job, f"apart-quiet-{job}", *settings), 240)
        quiet.kill_all()
        if status != "done":
            raise RuntimeError(f"the quiet job: {status}, {problem}")
        found = part(world, job, settings)
        different = same_run(world.directory / f"apart-quiet-{job}", world.directory / f"apart-{job}", names) \
            if found["status"] == "done" else f"{found['status']}: {found['problem']}"
        figures.time(f"{job}: until both are named", f"<= {NAMED:g} s", f"{found['named']:.1f} s", found["named"] <= NAMED)
        figures.add(f"{job}: both are named by job and workers", "yes", found["said"], found["said"] == "yes")
        figures.add(f"{job}: goes on without one", "yes", f"after {found['left']:.1f} s", found["left"] < 60)
        figures.add(f"{job}: the quiet run's bytes", "yes", different or "yes", different is None)
        figures.add(f"{job}: used again when the wire is whole", "yes", found["again"], found["again"] == "yes")


def part(world, job, settings):
    wire = wires.Hosts(world, 4)
    cluster = world.cluster(f"apart-{job}", 3, place=wire.place, listen=wire.address).start()
    number = cluster.submit(job, f"apart-{job}", *settings)
    journal = cluster.journal()

    def under_way():
        journal.news()
        return journal.counts.get("committed", 0) >= 2 or journal.counts.get("recorded", 0) >= 40

    cluster.rest(60, under_way)
    journal.close()
    begun = time.monotonic()
    wire.part(1, 2)
    cluster.rest(30, lambda: cluster.seen("cannot reach each other", begun))
    named = (cluster.seen("cannot reach each other", begun) or (begun + 99, None))[0] - begun
    notes = " ".join((cluster.job(number) or {}).get("notes", []))
    problems = [worker.get("problem", "") for worker in cluster.workers()]
    said = "yes" if "cannot reach each other" in notes and sum("cannot reach" in text for text in problems) >= 2 else \
        f"job: {notes or 'nothing'}; workers: {problems}"
    cluster.rest(60, lambda: cluster.seen("is left out: it cannot reach", begun) or ended(cluster, number))
    left = (cluster.seen("is left out: it cannot reach", begun) or (begun + 99, None))[0] - begun
    status, problem = cluster.finish(number, 240)
    whole = time.monotonic()
    wire.join(1, 2)
    again = cluster.rest(30, lambda: cluster.seen("reach each other again", whole))
    cluster.kill_all()
    wire.remove()
    return {"named": named, "said": said, "left": left, "status": status, "problem": problem,
            "again": "yes" if again else "no"}


def ended(cluster, number):
    view = cluster.job(number)
    return view and view.get("status") in ("done", "failed", "cancelled")
