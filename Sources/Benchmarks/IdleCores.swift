// SPDX-License-Identifier: Apache-2.0
//
// A peer that takes one of two cores makes a parallel measurement two to seven times slower, so a benchmark first
// looks whether the machine is its own.
internal import Foundation
internal import RuntimeSupport

/// CPU time of the whole machine since its start, in ticks, from the first line of /proc/stat.
package struct CPUTimes: Equatable, Sendable {
    /// Ticks in which a core did something (user, nice, system, interrupts) or the hypervisor gave it to others.
    package var busy: UInt64
    package var total: UInt64

    /// - Returns: nil when the text has no `cpu` line.
    package init?(procStat text: String) {
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("cpu ") }) else { return nil }
        // user nice system idle iowait irq softirq steal; guest times are already inside user and nice.
        let fields = line.split(separator: " ").dropFirst().prefix(8).compactMap { UInt64($0) }
        guard fields.count >= 5 else { return nil }
        total = fields.reduce(0, +)
        busy = total - fields[3] - fields[4]
    }

    package static func read() -> CPUTimes? {
        (try? String(contentsOfFile: "/proc/stat", encoding: .utf8)).flatMap(CPUTimes.init(procStat:))
    }

    /// Cores in use between `earlier` and this reading, of `coreCount`.
    package func coresInUse(since earlier: CPUTimes, coreCount: Int) -> Double {
        guard total > earlier.total, busy >= earlier.busy else { return 0 }
        return Double(busy - earlier.busy) / Double(total - earlier.total) * Double(coreCount)
    }
}

/// Waits until other processes leave the cores alone.
package enum IdleCores {
    /// Others may use this much of a core.
    package static let tolerated = 0.15

    /// Looks every quarter of a second until all but ``tolerated`` of a core is idle, for `seconds` at most.
    /// - Returns: cores in use at the last look; above ``tolerated`` when the machine never became idle.
    package static func wait(seconds: Double = 30) -> Double {
        let cores = ProcessInfo.processInfo.processorCount
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: UInt64(seconds * 1000))
        guard var earlier = CPUTimes.read() else { return 0 }
        while true {
            Thread.sleep(forTimeInterval: 0.25)
            guard let now = CPUTimes.read() else { return 0 }
            let used = now.coresInUse(since: earlier, coreCount: cores)
            if used <= tolerated || MonotonicInstant.now >= deadline { return used }
            earlier = now
        }
    }
}
