// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import ClusterProtocol
import Foundation
import Rewards
import WorkerRuntime

/// Judges responses in child processes with limits: a verifier that hangs, crashes or eats memory costs one response
/// its reward, never the worker.
struct VerifierJudge: ResponseJudge {
    private let pool: VerifierPool

    init(executable: String, childCount: Int, isSandboxed: Bool) {
        var configuration = VerifierConfiguration(executable: executable, arguments: ["verifier-child"])
        configuration.childCount = childCount
        // Sandboxed programs are processes of their own.
        configuration.isSandboxed = isSandboxed
        pool = VerifierPool(configuration)
    }

    func judge(_ rewards: [WireRewardSettings], _ response: JudgedResponse) -> Judgement {
        let fields = (try? JSONDecoder().decode([String: String].self, from: Data(response.row.utf8))) ?? [:]
        let terms = rewards.map { RewardTerm($0.name, weight: $0.weight, options: $0.options) }
        let sample = RewardSample(
            response: response.text, answer: fields["answer"],
            thinking: ThinkingExpectation(rawValue: response.thinking) ?? .unspecified,
            isTruncated: response.isTruncated, metadata: fields.filter { $0.key != "answer" && $0.key != "id" },
            trajectory: response.trajectory.map { RewardSample.Trajectory(text: $0.text, state: $0.state) },
            consulted: response.consulted)
        let report = pool.verify(VerifierRequest(id: fields["id"] ?? "", terms: terms, sample: sample))
        switch report.total {
        case .verifierTimeout: return Judgement(outcome: "verifier_timeout")
        case .infrastructureError(let reason): return Judgement(outcome: "infra_error", detail: reason)
        case .ok, .truncated:
            let values = report.outcomes.map { $0.value(keepingTruncated: true) ?? 0 }
            return Judgement(rewards: zip(terms, values).map { ($0.name, $1) })
        }
    }

    func act(_ request: EnvironmentRequest) -> EnvironmentReply { pool.act(request) }
}

/// `apus verifier-child`: what the pool starts; speaks over descriptors 0 and 1.
struct VerifierChildCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "verifier-child", shouldDisplay: false)

    func run() throws {
        let code = VerifierChild.run(input: 0, output: 1)
        if code != 0 { throw ExitCode(code) }
    }
}
