// SPDX-License-Identifier: Apache-2.0
//
// Puts the workers' records together, off the loop, within bounds: when the loop has too much to do, whole records wait for
// it, then chunks stay in their queue, and those who send them run out of credit. Nothing is dropped for want of room.
internal import ClusterProtocol
internal import ClusterTransport
internal import Foundation
internal import Logging
internal import RuntimeSupport

final class RecordIntake: Sendable {
    /// Chunks as the transport delivers them; what lies here holds its sender's credit.
    let chunks: BoundedQueue<Message>
    private let results: BoundedQueue<(WireUnitResult, PeerIdentity)>
    private let reassembler = Locked(
        BulkReassembler(transferByteCountMax: 1 << 30, totalByteCountMax: 4 << 30, openCountMax: 4096))

    init(chunkByteCount: Int = 64 << 20, resultByteCount: Int = 256 << 20) {
        chunks = BoundedQueue(itemCountMax: 65_536, byteCountMax: chunkByteCount)
        results = BoundedQueue(itemCountMax: 65_536, byteCountMax: resultByteCount)
    }

    /// - Parameters:
    ///   - isWorker: whether records of this peer are taken.
    ///   - onRecord: called for each record that lies here for ``take()``; may sleep.
    func start(
        isWorker: @escaping @Sendable (PeerIdentity) -> Bool, logger: Logger, onRecord: @escaping @Sendable () -> Void
    ) -> DedicatedThread {
        .start(name: "record-intake") { [self] in
            while let message = chunks.pop() {
                guard isWorker(message.peer) else { continue }
                do {
                    guard let transfer = try reassembler.withLock({ try $0.accept(message) }) else { continue }
                    let result = try WireUnitResult(encoded: transfer.content)
                    _ = results.push((result, message.peer), byteCount: transfer.content.count, until: .distantFuture)
                    onRecord()
                } catch {
                    logger.warning("a record of \(message.peer) was dropped: \(error)")
                }
            }
        }
    }

    /// A record that was announced.
    func take() -> (WireUnitResult, PeerIdentity)? { results.tryPop() }

    /// Bytes of whole records that wait.
    var waitingByteCount: Int { results.byteCount }

    /// The connection broke: the rest of its transfers will not come.
    func forget(_ peer: PeerIdentity) { reassembler.withLock { $0.forget(peer: peer) } }

    func close() {
        chunks.close()
        results.close()
    }
}
