# SPDX-License-Identifier: Apache-2.0
"""A disk that is full after every share of a checkpoint, and everything killed after every share of one: what lies there
is always the whole checkpoint before or the whole new one, the job says what it waits for, goes on when there is room,
and ends with the quiet run's weights."""
import os
import signal
import subprocess
import time

from world import same_run

ROOM = "256m"
# Seconds that a full disk and a kill cost, to choose how many there is time for.
COST = 8.0


def run(world, figures, random, seconds):
    mount = world.directory / "small"
    mount.mkdir(exist_ok=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", mount]).returncode:
        return figures.skip("a disk that is full at each write", "the checkpoint before or the new one",
                            "needs root to mount a small disk")
    world.cleanups.append(lambda: subprocess.run(["umount", "-l", mount]))
    world.make()
    points = max(6, int(seconds / COST))
    settings = (f"steps={points + 1}", "checkpoint.every=1", "checkpoint.keep=1", "rows_per_step=4")
    quiet = world.cluster("disk-quiet", 2).start()
    status, problem = quiet.finish(quiet.submit("grpo", "disk-quiet", *settings), 300)
    if status != "done":
        raise RuntimeError(f"the quiet job: {status}, {problem}")
    quiet.kill_all()
    last = max((world.directory / "disk-quiet" / "checkpoints").iterdir())
    whole = size_of(last)

    cluster = world.cluster("disk", 2).start()
    number = cluster.submit("grpo", "small/out", *settings)
    checkpoints = mount / "out" / "checkpoints"
    cluster.rest(120, lambda: cluster.seen("checkpoint .*step-000001"))
    full = killed = fitted = said = broken = 0
    trouble = []
    for point in range(points):
        # Full disks and kills in turn, each spread over the whole checkpoint, the last files in finer steps.
        share = (point // 2 + random.random()) / ((points + 1) // 2)
        reach = int(whole * share) if random.random() < 0.75 else whole - random.randrange(1 << 15)
        if point % 2 == 0:
            verdict = fill(cluster, number, mount, reach)
        else:
            verdict = kill(cluster, checkpoints, reach)
        full += verdict == "full"
        killed += verdict == "killed"
        fitted += verdict == "fits"
        said += verdict == "full" and "No space left" in (cluster.job(number) or {}).get("waiting_for", "")
        problem = unusable(world, checkpoints)
        if problem:
            broken += 1
            trouble.append(f"{verdict} after {reach} of {whole} bytes: {problem}")
        since = time.monotonic()
        subprocess.run(["mount", "-o", f"remount,size={ROOM}", mount], check=True)
        if not cluster.rest(60, lambda: cluster.seen("checkpoint .*step-|job .* done", since)):
            trouble.append(f"{verdict} after {reach} bytes: no checkpoint in 60 s after there was room again")
            break
    status, problem = cluster.finish(number, 240)
    cluster.kill_all()
    different = f"{status}: {problem}" if status != "done" else same_run(
        world.directory / "disk-quiet", mount / "out")
    for line in trouble:
        print("   " + line)
    figures.add("disks full, all killed (within a checkpoint)", "both > 0", f"{full}, {killed} ({fitted} fitted in)",
                full > 0 and killed > 0)
    figures.add("a whole checkpoint lies there", f"{full + killed + fitted} times",
                f"{full + killed + fitted - broken} times", broken == 0 and not trouble)
    figures.add("the job says what it waits for", f"{full} times", f"{said} times", said == full)
    figures.add("weights and state at the end", "a quiet run's", different or "equal", different is None)


def size_of(directory):
    """Bytes that the files take, in whole pages as tmpfs counts them."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in directory.rglob("*") if path.is_file())


def fill(cluster, number, mount, reach):
    """Leaves `reach` bytes free until a checkpoint fails for want of room."""
    used = os.statvfs(mount)
    taken = (used.f_blocks - used.f_bfree) * used.f_frsize
    since = time.monotonic()
    subprocess.run(["mount", "-o", f"remount,size={taken + reach}", mount], check=True)
    failed = cluster.rest(20, lambda: cluster.seen("could not be (written|named)", since) or (
        cluster.seen("checkpoint .*step-", since) and reach > 0 and len(sealed(cluster, since)) > 1))
    return "full" if failed and cluster.seen("could not be (written|named)", since) else "fits"


def sealed(cluster, since):
    return [line for at, line in cluster.events if at >= since and "] checkpoint " in line]


def kill(cluster, checkpoints, reach):
    """Kills everything once `reach` bytes of a new checkpoint are there."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        for partial in checkpoints.glob("*.partial"):
            try:
                size = size_of(partial)
            except FileNotFoundError:
                continue
            if size >= reach:
                for index in (0, 1, 2):
                    cluster.signal(index, signal.SIGKILL)
                cluster.rest(0.05)
                return "killed"
        time.sleep(0.001)
    return "fits"


def unusable(world, checkpoints):
    """Why the checkpoints that have a name cannot be opened, or None."""
    names = sorted(path for path in checkpoints.iterdir() if not path.name.endswith(".partial"))
    if not names:
        return "there is none"
    for path in names:
        result = world.apus("model", "verify", path, check=False)
        # The one before goes as soon as there is a newer one.
        if result.returncode and path.exists():
            return (result.stderr or result.stdout).strip()
    return None
