# SPDX-License-Identifier: Apache-2.0
"""Cut and flipped bytes in every format, and the fuzzers for a short while: the package's own tests, where they are
built."""
import re
import subprocess

from world import ROOT

# Suites that cut their format at every byte and change every byte.
FILTER = "DamageTests|SafetensorsFileTests|Qwen3ConfigurationTests|TokenizerFileTests|WireHeaderTests|ExchangeFrameTests" \
    "|ClusterTransportTests.FileTests|ReportTests|CheckpointVerifierTests|ContentStoreTests|BadInputTests"


def run(world, figures, random, seconds):
    bundle = ROOT / ".build" / "release" / "apusPackageTests.xctest"
    goal = "0 crashes, 0 wrong accepts"
    if bundle.exists():
        result = subprocess.run(
            ["swift", "test", "--skip-build", "-c", "release", "-Xswiftc", "-enable-testing", "-Xcc", "-O2", "--filter",
             FILTER], cwd=ROOT, capture_output=True, text=True)
        found = re.search(r"Test run with (\d+) tests?.* (passed|failed)", result.stdout + result.stderr)
        if found:
            figures.add("cut and flipped bytes", goal, f"{found.group(1)} tests {found.group(2)}", result.returncode == 0)
        else:
            last = (result.stderr or result.stdout).strip().splitlines()[-1:]
            figures.skip("cut and flipped bytes", goal, f"swift test does not run: {''.join(last)[:100]}")
    else:
        figures.skip("cut and flipped bytes", goal, "the tests are not built: Scripts/build --product apusPackageTests")
    fuzz = ROOT / "Scripts" / "fuzz"
    if fuzz.exists() and (ROOT / ".build-fuzz").exists():
        result = subprocess.run([fuzz, "--seconds", "5"], cwd=ROOT, capture_output=True, text=True)
        figures.add("mutated inputs", "no crash", (result.stdout or result.stderr).strip().splitlines()[-1][:100],
                    result.returncode == 0)
    else:
        figures.skip("mutated inputs", "no crash", "the fuzzers are not built: Scripts/fuzz")
