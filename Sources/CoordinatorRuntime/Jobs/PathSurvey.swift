// SPDX-License-Identifier: Apache-2.0
//
// Before a job is accepted the workers are asked whether they see its models and its output: a job that no worker can
// load would learn it only when its turn comes.
internal import ClusterProtocol
internal import ClusterTransport
internal import RuntimeSupport

/// Asks on the thread that prepares submitted jobs; the loop sends the question and hands in what is answered.
final class PathSurvey: Sendable {
    private struct Answer: Sendable {
        let job: UInt64
        let unseen: Set<String>
        let worker: PeerIdentity
    }

    private let answers = BoundedQueue<Answer>(itemCountMax: 4096, byteCountMax: 16 << 20)
    private let patience: UInt64

    /// - Parameter patience: milliseconds; workers that are silent longer are left out.
    init(patience: UInt64 = 2000) { self.patience = patience }

    func take(_ answer: WirePathAnswer, from worker: PeerIdentity) {
        _ = answers.tryPush(Answer(job: answer.job, unseen: Set(answer.unseen), worker: worker), byteCount: 256)
    }

    func close() { answers.close() }

    /// - Throws: ``SubmissionError`` when every worker that answered lacks the same path. Where nobody answered nothing is
    ///   known, and the job is accepted.
    func check(
        _ prepared: PreparedSubmission, job: UInt64, workers: [PeerIdentity], ask: (WirePathQuestion) -> Void
    ) throws(SubmissionError) {
        var question = WirePathQuestion()
        question.job = job
        for model in ([prepared.policy, prepared.scorer] + prepared.furtherScorers).compactMap(\.self) {
            if !question.models.contains(model.path) { question.models.append(model.path) }
            if !model.output.isEmpty { question.output = model.output }
        }
        guard !workers.isEmpty, !question.models.isEmpty else { return }
        ask(question)
        var silent = Set(workers)
        var lacking: [String: Int] = [:]
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: patience)
        while !silent.isEmpty, let answer = answers.pop(until: deadline) {
            guard answer.job == job, silent.remove(answer.worker) != nil else { continue }
            for path in answer.unseen { lacking[path, default: 0] += 1 }
        }
        let answered = workers.count - silent.count
        guard answered > 0 else { return }
        for path in question.models + [question.output] where lacking[path] == answered {
            let whose = path == question.output ? "the output" : "the model"
            throw SubmissionError(
                description:
                    "\(whose) \(path) is seen by no worker (\(answered) asked); it must be on a file system of all hosts, "
                    + "under the same path")
        }
    }
}
