# SPDX-License-Identifier: Apache-2.0
"""Figures beside their goals."""
import math


class Figures:
    """What every part found; a row is (part, figure, goal, seen, verdict)."""

    def __init__(self):
        self.part = ""
        self.rows = []

    @property
    def missed(self):
        return any(row[4] == "MISSED" for row in self.rows)

    def _row(self, figure, goal, seen, verdict):
        self.rows.append((self.part, figure, str(goal), str(seen), verdict))
        print(f"{figure} | {goal} | {seen} | {verdict}", flush=True)

    def add(self, figure, goal, seen, ok):
        self._row(figure, goal, seen, "ok" if ok else "MISSED")

    def count(self, figure, goal, seen):
        """A count that grows with --minutes: too few of them is no fault of the cluster."""
        self._row(figure, f">= {goal}", seen, "ok" if seen >= goal else "short (give it more --minutes)")

    def skip(self, figure, goal, why):
        self._row(figure, goal, "-", f"skipped ({why})")

    def table(self):
        rows = [("PART", "FIGURE", "GOAL", "SEEN", "")] + self.rows
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(" | ".join(row[i].ljust(widths[i]) for i in range(4)) + " | " + row[4] for row in rows)


def percentile(values, share):
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
