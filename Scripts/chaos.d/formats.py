# SPDX-License-Identifier: Apache-2.0
"""Cut and flipped bytes in every format, and the fuzzers for a short while: the package's own tests, where they are
built."""
import re
import subprocess

from world import ROOT

FILTER = "Mutation|Mutated|Flip|Truncat|Damaged|Fuzz|Corrupt|Broken|Tampered|Hostile|BadInput"


def run(world, figures, random, seconds):
    bundle = ROOT / ".build" / "release" / "apusPackageTests.xctest"
    goal = "0 crashes, 0 wrong accepts"
    if bundle.exists():
        result = subprocess.run(
            ["swift", "test", "--skip-build", "-c", "release", "-Xswiftc", "-enable-testing", "-Xcc", "-O2", "--filter",
             FILTER], cwd=ROOT, capture_output=True, text=True)
        found = re.search(r"Test run with (\d+) tests?.* (passed|failed)", result.stdout + result.stderr)
        figures.add("cut and flipped bytes", goal, f"{found.group(1)} tests {found.group(2)}" if found else
                    (result.stderr or result.stdout).strip()[-120:], result.returncode == 0 and bool(found))
    else:
        figures.skip("cut and flipped bytes", goal, "the tests are not built: Scripts/build --build-tests")
    fuzz = ROOT / "Scripts" / "fuzz"
    if fuzz.exists() and (ROOT / ".build-fuzz").exists():
        result = subprocess.run([fuzz, "--seconds", "5"], cwd=ROOT, capture_output=True, text=True)
        figures.add("mutated inputs", "no crash", (result.stdout or result.stderr).strip().splitlines()[-1][:100],
                    result.returncode == 0)
    else:
        figures.skip("mutated inputs", "no crash", "the fuzzers are not built: Scripts/fuzz")
