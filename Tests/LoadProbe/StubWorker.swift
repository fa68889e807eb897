// SPDX-License-Identifier: Apache-2.0
import ClusterCore
import ClusterProtocol
import ClusterTransport
import Foundation
import RuntimeSupport
import SwiftProtobuf

/// SwiftProtobuf has a `Message` too.
typealias TransportMessage = ClusterTransport.Message

/// What reaches the stubs of a process, in one queue for its one thread.
enum StubInput: Sendable {
    case connected(stub: Int)
    case message(stub: Int, TransportMessage)
}

/// A worker without a model: the real session and the real transport around answers that cost nothing. It holds its
/// grants as long as the plan says, so that any number of rollouts is in flight.
struct StubWorker {
    private let transport: ZeroMQTransport
    private let coordinator: PeerIdentity
    private var session: WorkerSession
    /// Granted and not answered, oldest first; `next` is the first that is left.
    private var pending: [(grant: WireGrant, sibling: UInt32)] = []
    private var next = 0
    /// Siblings of a lease that are not answered.
    private var open: [UInt64: Int] = [:]
    private var sent: [UInt64: MonotonicInstant] = [:]
    private var answer: WireRolloutRecord
    private var transfers: UInt64 = 0
    private let slots: Int
    private var models: Set<UInt32> = []
    private(set) var acknowledgedCount = 0
    /// Milliseconds from a result's first send to its acknowledgement, since the last ``takeDelays()``.
    private var delays: [Double] = []
    private(set) var problem: String?

    /// - Parameters:
    ///   - slots: rollouts that it takes at once.
    ///   - tokenCount: of every answer.
    init(
        _ index: Int, keys: CurveKeyPair, coordinator: PeerAddress, slots: Int, tokenCount: Int,
        inputs: BoundedQueue<StubInput>
    ) throws {
        self.slots = slots
        self.coordinator = coordinator.identity
        transport = try ZeroMQTransport(
            ZeroMQConfiguration(
                security: .curve(keys: keys, allowList: AllowList([coordinator.identity: .coordinator])),
                deliveries: .direct { _ = inputs.tryPush(.message(stub: index, $0)) },
                onEvent: { event in
                    if case .connected(_, .control) = event { _ = inputs.tryPush(.connected(stub: index)) }
                }))
        session = WorkerSession(
            incarnation: UInt64.random(in: 1 ... .max),
            hello: .with {
                $0.numericsFingerprint = "stub"
                $0.host = "stub-\(index)"
                $0.processID = getpid()
                $0.threadCount = 1
                $0.memoryByteCount = 1 << 36
            }, now: .now)
        answer = .with {
            $0.tokens = Data(littleEndian: (0..<tokenCount).map { Int32($0 % 16) })
            $0.logProbs = Data(littleEndian: (0..<tokenCount).map { -Float($0 % 7) })
            $0.entropies = Data(littleEndian: [Float](repeating: 1, count: tokenCount))
            $0.forced = Data(repeating: 0, count: tokenCount)
            $0.finishReason = "stop"
            $0.outcome = "ok"
            $0.rewards = [
                .with {
                    $0.name = "total"; $0.value = 1
                }
            ]
        }
        try transport.connect(to: coordinator)
    }

    var inFlightCount: Int { pending.count - next + sent.count }

    func close() { transport.close() }

    mutating func takeDelays() -> [Double] {
        defer { delays = [] }
        return delays
    }

    mutating func take(_ input: StubInput) {
        switch input {
        case .connected: perform(session.apply(.connected, at: .now))
        case .message(_, let message):
            guard let envelope = try? WireEnvelope(encoded: message.parts.flatMap { $0.bytes }) else { return }
            if case .resultAcknowledgement(let done) = envelope.body,
                let since = sent.removeValue(forKey: Self.key(done.group, done.sibling))
            {
                acknowledgedCount += 1
                delays.append(Double(MonotonicInstant.now.nanoseconds - since.nanoseconds) / 1e6)
            }
            perform(session.apply(.message(envelope), at: .now))
        }
    }

    mutating func tick() {
        let beat = WireBeat.with {
            $0.activity = "pretending"
            $0.waitingFor = "the plan"  // a stub that holds its grants is not stuck
            for model in models.sorted() {
                let count = UInt32(max(0, slots - inFlightCount))
                $0.freeSlots.append(
                    .with {
                        $0.model = model
                        $0.count = count
                    })
            }
        }
        perform(session.apply(.tick(beat), at: .now))
    }

    /// Answers the oldest `count` grants.
    /// - Returns: how many there were.
    mutating func answer(_ count: Int) -> Int {
        let end = min(pending.count, next + count)
        for (grant, sibling) in pending[next..<end] {
            var result = WireUnitResult()
            result.lease = grant.lease
            result.job = grant.job
            result.attempt = grant.attempt
            result.incarnation = session.incarnation
            result.numericsFingerprint = "stub"
            answer.group = grant.rollout.group
            answer.sibling = sibling
            answer.policyVersion = grant.policyVersion
            result.rollout = answer
            sent[Self.key(answer.group, sibling)] = .now
            perform(session.apply(.finished(result), at: .now))
            open[grant.lease, default: 1] -= 1
            if open[grant.lease] == 0 {
                open[grant.lease] = nil
                perform(session.apply(.leaseEnded(grant.lease, failure: nil), at: .now))
            }
        }
        defer {
            next = end
            if next > 4096 {
                pending.removeFirst(next)
                next = 0
            }
        }
        return end - next
    }

    private static func key(_ group: UInt32, _ sibling: UInt32) -> UInt64 { UInt64(group) << 32 | UInt64(sibling) }

    private mutating func perform(_ effects: [WorkerSession.Effect]) {
        for effect in effects {
            switch effect {
            case .send(let envelope):
                try? transport.send(TransportMessage(peer: coordinator, channel: .control, parts: envelope.payloads))
            case .transfer(let result):
                transfers += 1
                let content = Payload(result.encoded())
                for message in BulkChunker.messages(transfer: transfers, content: content, to: coordinator) {
                    try? transport.send(message)  // the session sends again what is lost
                }
            case .work(let grant):
                open[grant.lease] = grant.rollout.siblings.count
                pending += grant.rollout.siblings.map { (grant, $0) }
            case .perform(let envelope):
                guard case .deploy(let deploy) = envelope.body else { continue }
                models.insert(deploy.model.id)
                let report = WireShardReport.with {
                    $0.model = deploy.model.id
                    $0.epoch = deploy.epoch
                    $0.isTrunkReady = true
                    $0.experts = deploy.experts
                }
                perform(session.apply(.shards(report), at: .now))
            case .abandon(let lease):
                pending = pending[next...].filter { $0.grant.lease != lease }
                next = 0
                open[lease] = nil
            case .exit(_, let reason): problem = reason
            case .log: break
            }
        }
    }
}
