// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
package import ClusterTransport
internal import Foundation
internal import RuntimeSupport

/// Why a request to the cluster failed, with the exit code that the command should end with.
package struct ClientError: Error, CustomStringConvertible {
    package let description: String
    /// 2 usage, 3 bad input, 4 cluster, 5 job failed.
    package let exitCode: Int32

    package init(_ description: String, exitCode: Int32 = 4) {
        self.description = description
        self.exitCode = exitCode
    }
}

/// A command line's connection to the coordinator. One request at a time.
package final class ClusterClient {
    private let transport: ZeroMQTransport
    private let replies: BoundedQueue<Message>
    private var coordinator: PeerAddress
    private let address: @Sendable () -> PeerAddress?
    private let incarnation = UInt64.random(in: 1 ... .max)
    /// Begins anywhere: the answer to another process with our key is not ours.
    private var lastRequest = UInt64.random(in: 0 ... .max >> 1)

    /// - Parameter address: where the coordinator is; asked again while it does not answer.
    /// - Throws: ``ClientError``.
    package init(keys: CurveKeyPair, address: @escaping @Sendable () -> PeerAddress?) throws {
        guard let coordinator = address() else {
            throw ClientError("no coordinator has published its address; is the cluster up? Start one with apus up")
        }
        if let problem = coordinator.reachProblem(from: nil) { throw ClientError(problem) }
        self.coordinator = coordinator
        self.address = address
        let replies = BoundedQueue<Message>(itemCountMax: 1024, byteCountMax: 64 << 20)
        self.replies = replies
        transport = try ZeroMQTransport(
            ZeroMQConfiguration(
                security: .curve(keys: keys, allowList: AllowList([coordinator.identity: .coordinator])),
                deliveries: .direct { _ = replies.tryPush($0, byteCount: $0.chargedByteCount) }))
        try transport.connect(to: coordinator)
    }

    package func close() { transport.close() }

    /// Sends a request and waits for its answer; sent again once a second, so a restart of the coordinator is
    /// bridged.
    /// - Throws: ``ClientError`` when the coordinator refuses, or does not answer in time.
    package func request(
        seconds: Double = 15, _ fill: (inout WireEnvelope) -> Void
    ) throws -> WireEnvelope {
        lastRequest += 1
        var envelope = WireEnvelope()
        envelope.protocolVersion = clusterProtocolVersion
        envelope.incarnation = incarnation
        envelope.request = lastRequest
        fill(&envelope)
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: UInt64(seconds * 1000))
        var sendAt = MonotonicInstant.now
        var wasSent = false
        while MonotonicInstant.now < deadline {
            if MonotonicInstant.now >= sendAt {
                // The newest connection with a key gets the answers: another process may have taken ours over.
                if wasSent { try transport.connect(to: coordinator) }
                try followCoordinator()
                try? transport.send(
                    Message(peer: coordinator.identity, channel: .control, parts: [Payload(envelope.encoded())]))
                wasSent = true
                sendAt = MonotonicInstant.now.advanced(byMilliseconds: 1000)
            }
            guard let message = replies.pop(until: min(sendAt, deadline)) else { continue }
            guard let reply = try? WireEnvelope(encoded: message.parts.flatMap(\.bytes)), reply.request == lastRequest
            else { continue }
            guard reply.protocolVersion == clusterProtocolVersion else {
                throw ClientError(
                    "the coordinator speaks protocol \(reply.protocolVersion), this apus "
                        + "\(clusterProtocolVersion): use the same version")
            }
            if case .requestFailed(let failure) = reply.body {
                throw ClientError(failure.text, exitCode: failure.exitCode)
            }
            return reply
        }
        throw ClientError(
            "no answer from the coordinator at \(coordinator.endpoints.control) for \(Int(seconds)) s: is it running, and "
                + "is this client's key on its allow-list?")
    }

    private func followCoordinator() throws {
        guard let now = address(), now != coordinator else { return }
        if now.identity == coordinator.identity { transport.disconnect(from: now.identity) }
        coordinator = now
        try transport.connect(to: now)
    }
}
