# SPDX-License-Identifier: Apache-2.0
"""A real Slurm of several nodes that loses one in the middle of a job: Scripts/slurm-demo --kill-node."""
import os
import subprocess

from world import ROOT


def run(world, figures, random, seconds):
    demo = ROOT / "Scripts" / "slurm-demo"
    goal = "the job outlives a node, a quiet run's bytes"
    if not demo.exists():
        return figures.skip("Slurm loses a node", goal, "there is no Scripts/slurm-demo")
    if os.geteuid() != 0:
        return figures.skip("Slurm loses a node", goal, "needs root")
    result = subprocess.run([demo, "--kill-node"], cwd=ROOT, capture_output=True, text=True)
    print("\n".join("   " + line for line in result.stdout.splitlines()[-25:]))
    last = ((result.stdout if result.returncode == 0 else result.stderr).strip().splitlines() or ["?"])[-1]
    figures.add("Slurm loses a node", goal, last[:100], result.returncode == 0)
