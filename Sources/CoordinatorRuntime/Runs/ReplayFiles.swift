// SPDX-License-Identifier: Apache-2.0
//
// For `apus verify`: of every step whose starting state is still at hand (the job's own model and the checkpoints that
// were kept), what its members were told and what came of it.
internal import Checkpoints
internal import ClusterCore
package import ClusterProtocol
package import Foundation
internal import JobSpecification
internal import SwiftProtobuf

/// Recorded steps of a training run.
package enum ReplayFiles {
    /// Below the run's directory.
    package static let directoryName = "replay"
    /// Bytes of one file, about.
    static let partByteCountMax = 256 << 20

    /// The recorded steps of a run, in order.
    /// - Throws: one line about the file.
    package static func read(_ run: URL) throws -> [WireStepReplay] {
        let directory = run.appendingPathComponent(directoryName, isDirectory: true)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        var steps: [WireStepReplay] = []
        // A large step goes on in step-000003.pb.0001 and so on, right behind step-000003.pb.
        for name in names.filter({ $0.contains(".pb") && !$0.hasSuffix(".partial") }).sorted() {
            let url = directory.appendingPathComponent(name)
            do {
                let part = try WireStepReplay(serializedBytes: Data(contentsOf: url, options: .mappedIfSafe))
                if name.hasSuffix(".pb") {
                    steps.append(part)
                } else if !steps.isEmpty {
                    steps[steps.count - 1].messages += part.messages
                }
            } catch { throw JournalError(description: "\(url.path): is no recorded step: \(error)") }
        }
        return steps
    }

    static func write(
        _ journal: Journal, _ job: JobRecord, _ specification: TrainJob, _ models: [UInt32: WireModelDescription],
        to run: URL
    ) throws {
        let directory = run.appendingPathComponent(directoryName, isDirectory: true)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        // Numbers of jobs and models are a cluster's; the same run in another one leaves the same bytes.
        let guides = job.models.filter { $0 != job.admitted.policyModel }.compactMap { models[$0] }
        let numbers = Dictionary(
            uniqueKeysWithValues: guides.enumerated().map { ($0.element.id, UInt32($0.offset + 1)) })
        for (version, checkpoint) in starts(run) where version < job.stepCount {
            guard let prepared = job.prepared[version], let digest = job.committed[version + 1] else { continue }
            let built = try StepBuilder(
                journal: journal, job: job, specification: specification, epoch: 1, version: version, memberCount: 1
            ).build()
            let replay = WireStepReplay.with {
                $0.checkpoint = checkpoint
                $0.prepared = prepared
                $0.prepared.job = 0
                $0.digest = digest
                $0.guides = guides
                for index in $0.guides.indices { $0.guides[index].id = UInt32(index + 1) }
                $0.apply = .with {
                    $0.epoch = 1
                    $0.version = version
                    $0.number = built.plan.number
                    $0.learningRate = prepared.learningRate
                    $0.gradientScale = prepared.gradientScale
                    $0.beta1 = built.plan.beta1
                    $0.beta2 = built.plan.beta2
                    $0.adamEpsilon = built.plan.epsilon
                    $0.weightDecay = built.plan.weightDecay
                }
            }
            var messages = built.messages[0]
            for index in messages.indices {
                guard case .trainCells(var cells)? = messages[index].body else { continue }
                for cell in cells.cells.indices { cells.cells[cell].guide = numbers[cells.cells[cell].guide] ?? 0 }
                messages[index].trainCells = cells
            }
            try write(replay, messages, to: directory, step: version + 1)
        }
    }

    /// One step, with its messages in as many files as they need.
    static func write(
        _ replay: WireStepReplay, _ messages: [WireEnvelope], to directory: URL, step: UInt64,
        byteCountMax: Int = partByteCountMax
    ) throws {
        for (number, messages) in parts(of: messages, byteCountMax: byteCountMax).enumerated() {
            var part = number == 0 ? replay : WireStepReplay()
            part.messages = messages
            let name = "step-\(padded(step, 6)).pb" + (number == 0 ? "" : ".\(padded(number, 4))")
            try DurableFile.write([UInt8](part.serializedData()), to: directory.appendingPathComponent(name))
        }
    }

    private static func padded(_ number: some BinaryInteger, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }

    /// What goes into one file: protobuf reads and writes less than 2 GiB, and a step with recorded routes can have more.
    static func parts(
        of messages: [WireEnvelope], byteCountMax: Int = partByteCountMax
    ) -> [[WireEnvelope]] {
        var parts: [[WireEnvelope]] = [[]]
        var size = 0
        for message in messages {
            // Its own size, and field and length before it.
            let count = message.encoded().count + 16
            if size + count > byteCountMax, size > 0 {
                parts.append([])
                size = 0
            }
            parts[parts.count - 1].append(message)
            size += count
        }
        return parts
    }

    /// Versions whose state is at hand, with the checkpoint's place in the run.
    private static func starts(_ run: URL) -> [(version: UInt64, checkpoint: String)] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: run.path + "/checkpoints")) ?? []
        let kept = names.sorted().compactMap { name in
            name.hasPrefix("step-") ? UInt64(name.dropFirst(5)).map { ($0, "checkpoints/\(name)") } : nil
        }
        return [(0, "")] + kept
    }
}
