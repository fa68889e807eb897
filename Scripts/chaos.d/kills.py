# SPDX-License-Identifier: Apache-2.0
"""Workers and coordinators killed, frozen and told to end at random moments of a GRPO and a distillation job, again and
again; weights, state and rollouts must be the quiet run's bytes. A SIGKILL counts, the milder signals come on top."""
import signal
import time

from world import Journal, same_run

WORKERS = 4
WORKER_KILLS = 200
COORDINATOR_KILLS = 50
# Strikes without a new step before the job gets time to breathe, and how long that may take at most.
BREATH_AFTER = 5
BREATH_SECONDS = 60


class Striker:
    """Chooses victims and counts them."""

    def __init__(self, cluster, random):
        self.cluster = cluster
        self.random = random
        self.workerKills = self.coordinatorKills = self.pauses = self.terminations = 0

    def strike(self):
        """One blow; a frozen process is thawed before this returns."""
        random, cluster = self.random, self.cluster
        workers = random.sample(range(1, WORKERS + 1), random.choice((1, 1, 2, 2, 3, 4)))
        kind = random.random()
        if kind < 0.1:
            victim = random.choice([0, *workers])
            cluster.signal(victim, signal.SIGSTOP)
            # Shorter and longer than the silence after which a worker is dead.
            cluster.rest(random.uniform(0.1, 4))
            cluster.signal(victim, signal.SIGCONT)
            self.pauses += 1
        elif kind < 0.2:
            cluster.signal(random.choice([0, *workers]), signal.SIGTERM)
            self.terminations += 1
        else:
            if kind < 0.5:
                cluster.signal(0, signal.SIGKILL)
                self.coordinatorKills += 1
            if kind >= 0.4:
                for worker in workers:
                    cluster.signal(worker, signal.SIGKILL)
                self.workerKills += len(workers)


def run(world, figures, random, seconds):
    world.make()
    started = time.monotonic()
    quiet = world.cluster("quiet", WORKERS).start()
    for kind in ("grpo", "distill"):
        status, problem = quiet.finish(quiet.submit(kind, f"quiet-{kind}"), 240)
        if status != "done":
            raise RuntimeError(f"the quiet {kind} job: {status}, {problem}")
    quiet.kill_all()

    cluster = world.cluster("kills", WORKERS).start()
    striker = Striker(cluster, random)
    equal = ended = rounds = 0
    stuck = ""
    trouble = []
    while time.monotonic() - started < seconds and (
            striker.workerKills < WORKER_KILLS or striker.coordinatorKills < COORDINATOR_KILLS):
        kind = ("grpo", "distill")[rounds % 2]
        rounds += 1
        output = f"kills-{rounds}"
        number = cluster.submit(kind, output)
        journal = Journal(cluster.state / "journal.sqlite")
        journal.news()
        base = journal.counts.get("committed", 0)
        status, problem = disturb(cluster, striker, random, number, journal)
        journal.close()
        if status == "stuck":
            stuck = problem
            break
        ended += 1
        if status != "done":
            trouble.append(f"round {rounds} ({kind}): {status}, {problem}")
            continue
        different = same_run(world.directory / f"quiet-{kind}", world.directory / output)
        if different:
            trouble.append(f"round {rounds} ({kind}): {different}")
        else:
            equal += 1
        steps = journal.counts.get("committed", 0) - base
        print(f"   round {rounds} ({kind}): {status}, {steps} steps; so far {striker.workerKills} worker kills, "
              f"{striker.coordinatorKills} coordinator kills", flush=True)
    for line in trouble:
        print("   " + line)
    figures.count("workers killed (SIGKILL)", WORKER_KILLS, striker.workerKills)
    figures.count("coordinators killed (SIGKILL)", COORDINATOR_KILLS, striker.coordinatorKills)
    figures.add("frozen, told to end (besides)", "any", f"{striker.pauses}, {striker.terminations}", True)
    figures.add("runs with the quiet run's weights, state, rollouts", f"{rounds} of {rounds}", f"{equal} of {rounds}",
                equal == rounds and rounds > 0)
    figures.add("a job always gets on", "yes", stuck or "yes", not stuck)


def disturb(cluster, striker, random, number, journal):
    """Strikes until the job ends. Returns its status and problem."""
    since_step = 0
    while True:
        cluster.rest(random.uniform(0.1, 1.8))
        if journal.news().get("committed"):
            since_step = 0
        ended = outcome(cluster, number) if journal.counts.get("ended", 0) >= number else None
        if ended:
            return ended
        if since_step >= BREATH_AFTER:
            # It must get on within a bound once it is left alone.
            if not cluster.rest(BREATH_SECONDS, lambda: journal.news().keys() & {"committed", "ended"}):
                view = cluster.job(number) or {}
                return "stuck", f"no step in {BREATH_SECONDS} s of peace; waits for {view.get('waiting_for', '?')}"
            since_step = 0
            continue
        striker.strike()
        since_step += 1


def outcome(cluster, number):
    for _ in range(20):
        cluster.rest(0.2)
        view = cluster.job(number)
        if view and view.get("status") in ("done", "failed", "cancelled"):
            return view["status"], view.get("problem", "")
    return None
