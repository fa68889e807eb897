// SPDX-License-Identifier: Apache-2.0
//
// The thread that generates and scores: one engine per model, stepped in turn while they have sequences.
internal import ClusterCore
internal import ClusterProtocol
internal import ExpertParallel
internal import Foundation
internal import Qwen3
internal import Rewards
internal import RuntimeSupport
internal import SwiftProtobuf
internal import Tokenization

/// Runs the engines of this worker.
final class EngineLoop: Sendable {
    /// What the rest of the worker hears, on the engine's thread.
    struct Handlers: Sendable {
        /// A sequence ended; rewards are still to be computed.
        var onFinished: @Sendable (FinishedSequence) -> Void
        /// A turn with calls ended; the outcome comes back by ``EngineLoop/observe(_:)``.
        var onTurn: @Sendable (TurnTask) -> Void
        var onLeaseEnded: @Sendable (_ lease: UInt64, WireUnitFailed?) -> Void
    }

    /// A sequence with the grant it belongs to.
    struct FinishedSequence: Sendable {
        let grant: WireGrant
        let sibling: UInt32
        let result: GenerationResult
        let host: ModelHost
        let trajectory: Trajectory?
    }

    /// For the beat.
    struct Status: Sendable {
        var progress: UInt64 = 0
        var activity = "idle"
        var runningCount = 0
        var generatedTokenCount: UInt64 = 0
        var scoredTokenCount: UInt64 = 0
        var processedTokenCount: UInt64 = 0
        var freeSlots: [UInt32: Int] = [:]
    }

    private enum Command: Sendable {
        case host(ModelHost)
        case drop(UInt32)
        case work(WireGrant)
        case abandon(UInt64)
        /// An order of a training epoch.
        case train(WireEnvelope)
        case step(StepDelivery.Whole)
        case observe(TurnOutcome)
        case consult(Consultation)
    }

    private struct Job {
        let grant: WireGrant
        let sibling: UInt32
        var trajectory: Trajectory?
    }

    /// Bounded by the free places that were spoken of and by one step at a time; the limits are a second fence.
    private let commands = BoundedQueue<Command>(itemCountMax: 1 << 16, byteCountMax: 16 << 30)
    private let handlers: Handlers
    private let training: TrainingHost
    let status = Locked(Status())

    init(_ handlers: Handlers, training: TrainingHost) {
        self.handlers = handlers
        self.training = training
        _ = DedicatedThread.start(name: "engine") { [self] in run() }
    }

    func host(_ host: ModelHost) { _ = commands.tryPush(.host(host)) }
    func drop(_ model: UInt32) { _ = commands.tryPush(.drop(model)) }
    func work(_ grant: WireGrant) {
        guard commands.tryPush(.work(grant), byteCount: grant.byteCount) != .accepted else { return }
        fail(grant, "this worker has too many commands waiting", isWorkerAtFault: true)
    }
    /// An order of a training epoch; false when too much waits already.
    func train(_ order: WireEnvelope) -> Bool { commands.tryPush(.train(order)) == .accepted }
    func train(_ step: StepDelivery.Whole) -> Bool {
        commands.tryPush(.step(step), byteCount: step.byteCount) == .accepted
    }
    func observe(_ outcome: TurnOutcome) { _ = commands.tryPush(.observe(outcome)) }
    func consult(_ consultation: Consultation) { _ = commands.tryPush(.consult(consultation)) }
    func abandon(_ lease: UInt64) { _ = commands.tryPush(.abandon(lease)) }

    // MARK: - The thread

    private final class State {
        var hosts: [UInt32: ModelHost] = [:]
        /// Sequences under way, by engine request id.
        var jobs: [UInt64: Job] = [:]
        var lastRequest: UInt64 = 0
        /// Questions to judges and reward models under way, by engine request id, with the model asked.
        var consultations: [UInt64: (model: UInt32, question: Consultation)] = [:]

        func drop(consultationsOf model: UInt32, _ reason: String? = nil) {
            for (id, consultation) in consultations where consultation.model == model {
                let asked = consultation.question.asked
                consultation.question.finish(
                    .failure(
                        JudgeFailure(description: reason.map { "the \(asked): \($0)" } ?? "the \(asked) was withdrawn"))
                )
                consultations[id] = nil
            }
        }
        /// Counts of engines that are gone.
        var dropped: (processed: UInt64, sampled: UInt64) = (0, 0)

        func requests(of lease: UInt64) -> Set<UInt64> { Set(jobs.filter { $0.value.grant.lease == lease }.keys) }
        func remaining(_ lease: UInt64) -> Bool { jobs.values.contains { $0.grant.lease == lease } }
    }

    private func run() {
        let state = State()
        while true {
            // Trajectories that wait for their tools leave the engines idle.
            if state.hosts.values.allSatisfy(\.engine.isIdle) {
                guard let command = commands.pop() else { return }
                take(command, state)
            }
            while let command = commands.tryPop() { take(command, state) }
            for id in state.hosts.keys.sorted() {
                if let host = state.hosts[id], !host.engine.isIdle { step(host, state) }
            }
            publish(state)
        }
    }

    private func take(_ command: Command, _ state: State) {
        switch command {
        case .host(let host): state.hosts[host.description.id] = host
        case .train(let order): train(order, state)
        case .step(let whole):
            training.step(whole.step, whole.cells) { state.hosts[$0] }
            status.withLock { $0.progress += 1 }
        case .drop(let id):
            training.drop(id)
            if let engine = state.hosts.removeValue(forKey: id)?.engine {
                state.dropped.processed += UInt64(engine.processedTokenCount)
                state.dropped.sampled += UInt64(engine.sampledTokenCount)
            }
            for (request, job) in state.jobs where job.grant.model == id { state.jobs[request] = nil }
            state.drop(consultationsOf: id)
        case .abandon(let lease):
            let requests = state.requests(of: lease)
            for host in state.hosts.values { host.engine.cancel(requests) }
            for request in requests { state.jobs[request] = nil }
        case .work(let grant): submit(grant, state)
        case .observe(let outcome): observe(outcome, state)
        case .consult(let question): consult(question, state)
        }
        publish(state)
    }

    private func train(_ order: WireEnvelope, _ state: State) {
        switch order.body {
        case .trainBegin(let begin):
            let host = state.hosts[begin.model]
            // What still runs was withdrawn: its weights go back.
            host?.engine.cancelAll()
            for (request, job) in state.jobs where job.grant.model == begin.model { state.jobs[request] = nil }
            training.begin(begin, host)
        case .trainAbort(let abort): training.end(epoch: abort.epoch)
        case .stepApply(let apply): training.apply(apply)
        case .takeSnapshot(let snapshot): training.snapshot(snapshot)
        default: break
        }
        status.withLock { $0.progress += 1 }
    }

    private func submit(_ grant: WireGrant, _ state: State) {
        guard let host = state.hosts[grant.model] else {
            return fail(grant, "model \(grant.model) is not loaded here", isWorkerAtFault: true)
        }
        var submitted: Set<UInt64> = []
        do {
            for (sibling, tokens, task) in grant.sequences(host) {
                state.lastRequest += 1
                try host.engine.submit(GenerationRequest(id: state.lastRequest, tokens: tokens, task: task))
                submitted.insert(state.lastRequest)
                state.jobs[state.lastRequest] = Job(grant: grant, sibling: sibling, trajectory: grant.trajectory(host))
            }
        } catch {
            host.engine.cancel(submitted)
            for request in submitted { state.jobs[request] = nil }
            fail(grant, String(describing: error), isWorkerAtFault: false)
        }
    }

    private func fail(
        _ grant: WireGrant, _ reason: String, isWorkerAtFault: Bool, isModelAtFault: Bool = false
    ) {
        handlers.onLeaseEnded(
            grant.lease,
            .with {
                $0.lease = grant.lease
                $0.reason = reason
                $0.isWorkerAtFault = isWorkerAtFault
                $0.isModelAtFault = isModelAtFault
            })
    }

    private func step(_ host: ModelHost, _ state: State) {
        do {
            for result in try host.engine.step() {
                if let (_, question) = state.consultations.removeValue(forKey: result.id) {
                    question.finish(.success(question.answer(result, host)))
                } else if let task = turnTask(result, host, state) {
                    handlers.onTurn(task)
                } else {
                    finish(result, host, state)
                }
            }
        } catch {
            // A cancelled exchange: the model is being dropped, its sequences go with it. Or the model is at fault.
            host.engine.cancelAll()
            let id = host.description.id
            let isModelAtFault = error is NotFiniteError
            state.drop(consultationsOf: id, isModelAtFault ? String(describing: error) : nil)
            let grants = Dictionary(
                state.jobs.values.filter { $0.grant.model == id }.map { ($0.grant.lease, $0.grant) }
            ) { first, _ in first }
            for (request, job) in state.jobs where job.grant.model == id { state.jobs[request] = nil }
            for grant in grants.values.sorted(by: { $0.lease < $1.lease }) {
                fail(
                    grant, String(describing: error), isWorkerAtFault: !isModelAtFault, isModelAtFault: isModelAtFault)
            }
        }
        status.withLock { $0.progress += 1 }
        publish(state)
    }

    private func finish(_ result: GenerationResult, _ host: ModelHost, _ state: State) {
        guard let job = state.jobs.removeValue(forKey: result.id) else { return }
        host.engine.release(result.id)
        if case .score = job.grant.work {
            status.withLock { $0.scoredTokenCount += UInt64(result.logProbs.count) }
        }
        handlers.onFinished(
            FinishedSequence(
                grant: job.grant, sibling: job.sibling, result: result, host: host, trajectory: job.trajectory))
        if !state.remaining(job.grant.lease) { handlers.onLeaseEnded(job.grant.lease, nil) }
    }

    private func consult(_ question: Consultation, _ state: State) {
        let host = state.hosts.values.first {
            $0.description.contentHash == question.model.contentHash
                && $0.description.compute == question.model.compute && !$0.description.isTrained
        }
        guard let host else {
            return question.finish(.failure(JudgeFailure(description: "the \(question.asked) is not loaded here")))
        }
        state.lastRequest += 1
        do {
            let (tokens, task) = try question.request(host)
            try host.engine.submit(GenerationRequest(id: state.lastRequest, tokens: tokens, task: task))
            state.consultations[state.lastRequest] = (host.description.id, question)
        } catch { question.finish(.failure(JudgeFailure(description: "the \(question.asked): \(error)"))) }
    }

    // MARK: - Trajectories

    /// The calls of a turn that ended; nil when the sequence is complete.
    private func turnTask(_ result: GenerationResult, _ host: ModelHost, _ state: State) -> TurnTask? {
        guard let tokenizer = host.tokenizer, case .rollout(let group)? = state.jobs[result.id]?.grant.work,
            let calls = state.jobs[result.id]?.trajectory?.take(
                result, tokenizer, stopIDs: group.settings.stopIds), !calls.isEmpty,
            let job = state.jobs[result.id], let trajectory = job.trajectory
        else { return nil }
        return TurnTask(
            request: result.id, model: host.description.id,
            environment: EnvironmentRequest(
                id: "\(job.grant.job)/\(group.group)/\(job.sibling)", settings: trajectory.settings,
                state: trajectory.state, calls: calls),
            tokenizer: tokenizer, template: TurnTemplate(group.settings.environment, row: group.row),
            lastToken: result.tokens.last)
    }

    private func observe(_ outcome: TurnOutcome, _ state: State) {
        guard let host = state.hosts[outcome.model], var result = state.jobs[outcome.request]?.trajectory?.last else {
            return  // withdrawn in the meantime
        }
        state.jobs[outcome.request]?.trajectory?.state = outcome.reply.state
        state.jobs[outcome.request]?.trajectory?.failure = outcome.reply.failure
        if outcome.reply.failure == nil {
            if host.engine.resume(outcome.request, with: outcome.tokens) { return }
            result.finishReason = .length
        }
        finish(result, host, state)
    }

    private func publish(_ state: State) {
        status.withLock { status in
            status.runningCount = state.jobs.count
            status.processedTokenCount =
                state.dropped.processed + state.hosts.values.reduce(0) { $0 + UInt64($1.engine.processedTokenCount) }
            status.generatedTokenCount =
                state.dropped.sampled + state.hosts.values.reduce(0) { $0 + UInt64($1.engine.sampledTokenCount) }
            status.freeSlots = state.hosts.mapValues { host in
                Int(host.settings.sequencesMax) - state.jobs.values.count { $0.grant.model == host.description.id }
            }
            let scores = state.jobs.values.contains { if case .score = $0.grant.work { true } else { false } }
            let rollouts = state.jobs.values.contains { if case .rollout = $0.grant.work { true } else { false } }
            status.activity =
                switch (rollouts, scores) {
                case (true, true): "generating and scoring"
                case (true, false): "generating"
                case (false, true): "scoring"
                case (false, false): "idle"
                }
        }
    }
}
