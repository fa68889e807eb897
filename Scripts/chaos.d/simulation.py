# SPDX-License-Identifier: Apache-2.0
"""20,000 simulated clusters that crash, stall and lose messages; then each planted mistake must be found."""
import os
import re
import subprocess

SEEDS = 20_000


def run(world, figures, random, seconds):
    halves = [subprocess.Popen([world.apus_path, "simulate", "--seed", str(first), "-n", str(SEEDS // 2)],
                               stdout=subprocess.PIPE, text=True) for first in (0, SEEDS // 2)]
    world.cleanups += [half.kill for half in halves]
    outputs = [half.communicate()[0] for half in halves]
    found = [re.search(r"(\d+) seeds, (\d+) events, (\d+) simulated seconds: (\d+) failing", text) for text in outputs]
    seeds, events, simulated, failing = (sum(int(match.group(i)) for match in found) for i in (1, 2, 3, 4))
    for text in outputs:
        if failing:
            print(text[:2000])
    figures.add("seeds that break no promise", f"{SEEDS} of {SEEDS}",
                f"{seeds - failing} of {seeds} ({events} events, {simulated} s)", seeds == SEEDS and failing == 0)
    help_text = world.apus("simulate", "--help").stdout
    faults = re.search(r"\(values:\s*(.*?)\)", help_text, re.S)
    names = [name.strip() for name in re.sub(r"\s+", "", faults.group(1)).split(",")]
    missed = [name for name in names if not any(
        world.apus("simulate", "--seed", first, "-n", count, "--fault", name, check=False,
                   timeout=600).returncode == 5 for first, count in ((0, 20), (20, 180), (200, 800)))]
    figures.add("planted mistakes found within 1,000 seeds", f"{len(names)} of {len(names)}",
                f"{len(names) - len(missed)} of {len(names)}{': not ' + ', '.join(missed) if missed else ''}",
                not missed)
