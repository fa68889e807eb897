# SPDX-License-Identifier: Apache-2.0
"""64 stub workers (Tests/LoadProbe) hold 10,000 rollouts together and answer 5,000 of them per second: every one is
durable before it is acknowledged, acknowledgements stay quick, and the coordinator's memory flat."""
import json
import os
import re
import subprocess
import time

STUBS = 64
PROCESSES = 4
IN_FLIGHT = 10_000
RATE = 5_000
# Asked for: a little more, so that the pace is no bound.
ASKED = 5_500
SECONDS = 15
GROUP_SIZE = 8
REMEMBERED = 256


def run(world, figures, random, seconds):
    world.make()
    cluster = world.cluster("load", 0, expect=STUBS, keys=STUBS).start()
    number = cluster.submit("rollout", "load-out", f"group_size={GROUP_SIZE}", "resources.max_sequences=1024")
    probe = os.environ["APUS_LOAD_PROBE"]
    share = STUBS // PROCESSES
    children, outputs = [], []
    for part in range(PROCESSES):
        keys = [cluster.directory / f"worker-{1 + part * share + i}.key" for i in range(share)]
        output = open(cluster.directory / f"probe-{part}.jsonl", "w")
        child = subprocess.Popen(
            [probe, cluster.join, str(IN_FLIGHT // PROCESSES), str(ASKED / PROCESSES), str(SECONDS), *keys],
            stdin=subprocess.DEVNULL, stdout=output, stderr=open(cluster.directory / f"probe-{part}.log", "w"))
        world.cleanups.append(child.kill)
        children.append(child)
        outputs.append(output.name)
    memory = []
    started = time.monotonic()
    while any(child.poll() is None for child in children) and time.monotonic() - started < 120 + SECONDS:
        cluster.rest(0.5)
        memory.append((time.monotonic(), resident(cluster.pid(0))))
    for child in children:
        child.kill()
        if child.wait() not in (0, -9):
            raise RuntimeError((cluster.directory / f"probe-{children.index(child)}.log").read_text())
    lines = [[json.loads(line) for line in open(name)] for name in outputs]
    steady = [[line for line in part if line["seconds"] >= 3] for part in lines]
    if not all(len(part) > 2 for part in steady):
        held = sum(part[-1]["inFlight"] for part in lines if part)
        view = cluster.job(number) or {}
        return figures.add("rollouts in flight", f">= {IN_FLIGHT}", f"{held}; the job waits for "
                           f"{view.get('waiting_for', '?')}", False)
    held = min(sum(part[i]["inFlight"] for part in steady) for i in range(min(map(len, steady))))
    rate = sum((part[-1]["acknowledged"] - part[0]["acknowledged"]) / (part[-1]["seconds"] - part[0]["seconds"])
               for part in steady)
    # Of the worst process and second, and of all seconds together by their counts.
    worst = max(line["p99"] for part in steady for line in part)
    p99 = sum(line["p99"] * line["count"] for part in steady for line in part) / max(
        1, sum(line["count"] for part in steady for line in part))
    p50 = sum(line["p50"] * line["count"] for part in steady for line in part) / max(
        1, sum(line["count"] for part in steady for line in part))
    tail = [size for at, size in memory if at >= memory[-1][0] - SECONDS + 5]
    growth = tail[-1] - tail[0]
    # What is durable is remembered by its digest.
    remembered = rate * (len(tail) - 1) / 2 * REMEMBERED
    figures.add(f"rollouts in flight on {STUBS} stub workers", f">= {IN_FLIGHT}", held, held >= IN_FLIGHT)
    figures.time("durable results per second", f">= {RATE}", f"{rate:.0f} (load {os.getloadavg()[0]:.0f} on "
                f"{os.cpu_count()} cores)", rate >= RATE)
    figures.time("p99 of acknowledgements", "<= 20 ms", f"{p99:.0f} ms (median {p50:.0f} ms, worst second {worst:.0f} ms)",
                p99 <= 20)
    figures.add(f"the coordinator's memory beside {REMEMBERED} bytes per result", "flat within 5 %",
                f"{max(0.0, growth - remembered) / tail[0] * 100:.1f} % more ({growth / tail[0] * 100:.1f} % with them, "
                f"{max(tail) >> 20} MiB)", growth - remembered <= 0.05 * tail[0])


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) << 10
