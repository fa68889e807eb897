// SPDX-License-Identifier: Apache-2.0
import ClusterPlanning
import Foundation

/// A plan on a terminal.
enum PlanTable {
    static func print(_ plan: ClusterPlan) {
        Swift.print(
            "\(plan.model) on \(plan.workerCount) worker\(plan.workerCount == 1 ? "" : "s"): "
                + "\(plan.promptCount) prompts × \(plan.groupSize) responses a step, \(plan.slots) sequences at once on each"
        )
        Swift.print("\nmemory of the fullest worker")
        for part in plan.memory { row(part.name, Format.bytes(Int(part.byteCount))) }
        row("in all", Format.bytes(Int(plan.memoryByteCount)))
        Swift.print("\none step, seconds                total  compute   memory     wire overhead   busy   tokens/s")
        for phase in plan.phases {
            let numbers = [
                phase.seconds, phase.parts.compute, phase.parts.memory, phase.parts.wire, phase.parts.overhead,
            ]
            Swift.print(
                "  " + Format.pad(phase.name, 26)
                    + numbers.map { Format.pad(String(format: "%.4g", $0), 9, right: true) }.joined()
                    + String(format: "%6.0f %% %10.1f", phase.busyShare * 100, Double(phase.tokens) / phase.seconds))
        }
        Swift.print("  " + Format.pad("step", 26) + Format.pad(String(format: "%.4g", plan.seconds), 9, right: true))
        Swift.print("\non the wire a step")
        for phase in plan.phases { row(phase.name, Format.bytes(Int(phase.wireByteCount))) }
        row("a worker, on average", Format.bytes(Int(plan.wireByteCount) / plan.workerCount))
        if !plan.leftOut.isEmpty { Swift.print("\nnot in the times: \(plan.leftOut.joined(separator: ", "))") }
        if !plan.hotSpots.isEmpty { Swift.print("\nhot spots, times the average") }
        for spot in plan.hotSpots.sorted(by: { $0.factor > $1.factor }) {
            row(spot.what, String(format: "%.2f", spot.factor))
        }
    }

    private static func row(_ name: String, _ value: String) {
        Swift.print("  \(Format.pad(name, 60)) \(Format.pad(value, 12, right: true))")
    }

    static func write(_ plan: ClusterPlan, to url: URL) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        try encoder.encode(plan).write(to: url)
    }
}
