// SPDX-License-Identifier: Apache-2.0
package import ClusterCore
internal import ClusterProtocol
internal import JobSpecification
internal import SwiftProtobuf

/// A job as a coordinator would admit it, without a coordinator: data read, models looked at, nothing loaded.
package struct JobPlan {
    package let kind: String
    package let rowCount: Int
    package let warnings: [String]
    /// The first row as the model will read it, for people.
    package let firstPrompt: String
    /// What workers must be able to do to judge the responses, each in a few words.
    package let judgingNeeds: [String]
    private let models: [WireModelDescription]
    private let engine: WireEngineSettings

    /// - Parameters:
    ///   - text: the job with all settings.
    ///   - file: what messages call it.
    /// - Throws: one line about what a coordinator would refuse.
    package init(_ text: String, file: String) throws {
        let prepared = try JobPreparation(
            submission: .with {
                $0.jobText = text
                $0.file = file
            }
        ).run(job: 0)
        kind = prepared.admitted.kind
        rowCount = prepared.rows.count
        warnings = prepared.warnings
        firstPrompt = prepared.admitted.firstPrompt
        models = [prepared.policy, prepared.scorer].compactMap { $0 } + prepared.furtherScorers
        engine = prepared.admitted.engine
        let needs = prepared.admitted.judging
        judgingNeeds =
            [
                needs.programs ? "a sandbox for programs of the model" : needs.parsers ? "a sandbox for rewards" : "",
                needs.judgeHost.isEmpty ? "" : "--judge-host \(needs.judgeHost)",
                needs.judgeVariable.isEmpty ? "" : "--judge-variable \(needs.judgeVariable)",
            ].filter { !$0.isEmpty }
    }

    /// What each of `workerCount` workers with `threadCount` compute threads needs.
    /// - Parameter memory: what each has: training computes as many cells at once as it has room for; nil: one per thread.
    package func memory(workerCount: Int, threadCount: Int, memory: UInt64? = nil) -> MemoryPlan {
        MemoryPlan(models, engine, workerCount: workerCount, threadCount: threadCount, memory: memory)
    }
}
