// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import CoordinatorRuntime
import Foundation
import RuntimeSupport

/// Follows a job on the terminal: a table that is redrawn, or a line now and then where there is no terminal.
struct JobWatch {
    typealias View = WireJobView

    private let client: ClusterClient
    private let job: UInt64
    private let problem: () -> String?
    private let isTerminal = isatty(STDOUT_FILENO) == 1

    /// - Parameter problem: asked while waiting; a text ends the watch with it.
    init(_ client: ClusterClient, job: UInt64, problem: @escaping () -> String? = { nil }) {
        self.client = client
        self.job = job
        self.problem = problem
    }

    static func isEnded(_ status: String) -> Bool { ["done", "failed", "cancelled"].contains(status) }

    /// Until the job has ended.
    func run() throws -> View {
        let start = MonotonicInstant.now
        var rate = TokenRate()
        var pace = StepPace()
        var drawn = 0
        var lastLine = ""
        var notes: [String] = []
        var lastPrint: MonotonicInstant?
        while true {
            if let problem = problem() { throw ClientError(problem) }
            guard let (view, workers) = try look() else {
                throw ClientError("job \(job) is unknown to the coordinator")
            }
            let tokens = workers.workers.reduce(0) {
                $0 + $1.counters.generatedTokenCount + $1.counters.scoredTokenCount
            }
            rate.note(tokens, at: .now)
            pace.note(view.step, at: .now)
            let left = Self.isEnded(view.status) ? nil : pace.left(view.stepCount)
            let seconds = MonotonicInstant.now.milliseconds(since: start) / 1000
            let ended = Self.isEnded(view.status)
            if isTerminal {
                let lines = table(view, workers, rate.perSecond, left, seconds)
                print((drawn > 0 ? "\u{1B}[\(drawn)A" : "") + lines.map { "\u{1B}[2K" + $0 }.joined(separator: "\n"))
                // Lines left over from a taller table.
                for _ in 0..<max(0, drawn - lines.count) { print("\u{1B}[2K") }
                drawn = max(drawn, lines.count)
                StandardOutput.flush()
            } else {
                for note in view.notes where !notes.contains(note) { print("[\(seconds) s] note: \(note)") }
                notes = view.notes
                let line = summary(view, rate.perSecond, left)
                let isDue = lastPrint.map { MonotonicInstant.now.milliseconds(since: $0) > 5000 } ?? true
                if (isDue && line != lastLine) || ended {
                    print("[\(seconds) s] \(line)")
                    StandardOutput.flush()
                    lastLine = line
                    lastPrint = .now
                }
            }
            if ended { return view }
            Thread.sleep(forTimeInterval: 0.25)
        }
    }

    private func look() throws -> (View, WireWorkerList)? {
        // The coordinator may be restarting: its supervisor has two seconds, we allow sixty.
        guard case .jobList(let list) = try client.request(seconds: 60, { $0.listJobs.job = job }).body,
            case .workerList(let workers) = try client.request(seconds: 60, { $0.listWorkers = WireListWorkers() }).body
        else { return nil }
        return list.jobs.first.map { ($0, workers) }
    }

    private func summary(_ view: View, _ rate: Double, _ left: String?) -> String {
        if view.stepCount > 0 { return trainingSummary(view, left) }
        var parts = ["\(view.status), \(view.groupsDone) of \(view.groupCount) groups"]
        if view.sequenceCount > 0 { parts.append("\(view.sequencesDone) of \(view.sequenceCount) responses") }
        if view.scoreCount > 0 { parts.append("\(view.scoresDone) of \(view.scoreCount) scores") }
        if rate > 0 { parts.append("\(Int(rate)) tokens/s") }
        if view.rewardCount > 0 {
            parts.append("mean reward " + String(format: "%.3f", view.rewardSum / Double(view.rewardCount)))
        }
        if view.groupsFailed > 0 { parts.append("\(view.groupsFailed) groups failed") }
        if let waiting = view.waitingText { parts.append("waits for \(waiting)") }
        return parts.joined(separator: ", ")
    }

    private func trainingSummary(_ view: View, _ left: String?) -> String {
        var parts = ["\(view.status), step \(view.step) of \(view.stepCount)"]
        if view.hasLastStep { parts.append(StepMetrics(view.lastStep).summary) }
        if let left { parts.append("\(left) left") }
        if view.groupsFailed > 0 { parts.append("\(view.groupsFailed) groups failed") }
        // A step's own waits are over in a moment.
        if let waiting = view.waitingText, view.status == "queued" || view.waitingMilliseconds > 3000 {
            parts.append("waits for \(waiting)")
        }
        return parts.joined(separator: ", ")
    }

    private func table(
        _ view: View, _ workers: WireWorkerList, _ rate: Double, _ left: String?, _ seconds: UInt64
    ) -> [String] {
        let width = 30
        let share =
            view.stepCount > 0
            ? Double(view.step) / Double(view.stepCount)
            : view.groupCount == 0 ? 0 : Double(view.groupsDone) / Double(view.groupCount)
        let filled = Int(share * Double(width))
        let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
        var lines = ["\(view.name)  \(bar)  \(seconds) s", "  " + summary(view, rate, left)]
        for worker in workers.workers {
            var text = "  worker \(Format.pad(String(worker.id), 3)) \(Format.pad(worker.activity, 12))"
            text += " \(Format.pad(String(worker.counters.runningSequenceCount), 4, right: true)) sequences"
            if !worker.waitingFor.isEmpty {
                text += ", waits for \(worker.waitingFor) since \(worker.waitingMilliseconds) ms"
            }
            if worker.silentMilliseconds > 1000 { text += ", silent for \(worker.silentMilliseconds) ms" }
            lines.append(text)
        }
        for note in view.notes { lines.append("  note: \(note)") }
        return lines
    }
}

extension WireJobView {
    /// What the job waits for and, from a second on, for how long.
    var waitingText: String? {
        guard !waitingFor.isEmpty else { return nil }
        return waitingFor + (waitingMilliseconds < 1000 ? "" : ", since \(waitingMilliseconds / 1000) s")
    }
}

/// How long the steps that are left will take, by those that were seen.
private struct StepPace {
    private var first: (step: UInt32, at: MonotonicInstant)?
    private var last: (step: UInt32, at: MonotonicInstant)?

    /// Steps that were taken back begin the count anew; a first look may fall anywhere into a step.
    mutating func note(_ step: UInt32, at now: MonotonicInstant) {
        if let last, step == last.step { return }
        if last == nil {
            last = (step, now)
        } else if let known = last, step < known.step {
            (first, last) = (nil, (step, now))
        } else {
            last = (step, now)
            if first == nil { first = last }
        }
    }

    /// Such as `about 12 min`; nil until two steps have ended.
    func left(_ stepCount: UInt32) -> String? {
        guard let first, let last, last.step > first.step, stepCount > last.step else { return nil }
        let seconds =
            Double(last.at.milliseconds(since: first.at)) / 1000 / Double(last.step - first.step)
            * Double(stepCount - last.step)
        switch seconds {
        case ..<90: return "about \(Int(seconds.rounded(.up))) s"
        case ..<5400: return "about \(Int((seconds / 60).rounded())) min"
        default: return String(format: "about %.1f h", seconds / 3600)
        }
    }
}

/// Tokens per second over the last few looks.
private struct TokenRate {
    private var samples: [(at: MonotonicInstant, tokens: UInt64)] = []

    mutating func note(_ tokens: UInt64, at now: MonotonicInstant) {
        // A restarted worker counts from zero: begin anew.
        if let last = samples.last, tokens < last.tokens { samples = [] }
        samples.append((now, tokens))
        if samples.count > 12 { samples.removeFirst() }
    }

    var perSecond: Double {
        guard let first = samples.first, let last = samples.last else { return 0 }
        let milliseconds = last.at.milliseconds(since: first.at)
        return milliseconds == 0 ? 0 : Double(last.tokens - first.tokens) * 1000 / Double(milliseconds)
    }
}
