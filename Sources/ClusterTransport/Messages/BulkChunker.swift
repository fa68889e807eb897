// SPDX-License-Identifier: Apache-2.0
//
// A transfer of any size travels as bulk messages of two parts: a header of 32 bytes, little endian (transfer
// u64, offset u64, total u64, chunk bytes u64), and at most 1 MiB of content. Chunks of one transfer come in
// order; transfers from one peer may interleave. Integrity beyond the wire's own (CURVE authenticates each
// frame) is the caller's: weights are compared by hash.

/// Cuts a payload into messages for the bulk channel.
package enum BulkChunker {
    /// Most content bytes per message.
    package static let chunkByteCountMax = 1 << 20
    static let headerByteCount = 32

    /// The messages of one transfer, sharing the memory of `content`.
    ///
    /// - Parameters:
    ///   - transfer: an id the sender does not use twice at a time towards this peer.
    ///   - content: the bytes; an empty content is one message.
    package static func messages(
        transfer: UInt64, content: Payload, to peer: PeerIdentity, chunkByteCount: Int = chunkByteCountMax
    ) -> some Sequence<Message> {
        precondition((1...chunkByteCountMax).contains(chunkByteCount), "chunk of \(chunkByteCount) bytes")
        let total = content.byteCount
        let chunkCount = max(1, (total + chunkByteCount - 1) / chunkByteCount)
        return (0..<chunkCount).lazy.map { index in
            let offset = index * chunkByteCount
            let part = content.slice(offset..<min(total, offset + chunkByteCount))
            let header = Payload(byteCount: headerByteCount) { buffer in
                let fields = [transfer, UInt64(offset), UInt64(total), UInt64(part.byteCount)]
                for (field, value) in fields.enumerated() {
                    buffer.storeBytes(of: value.littleEndian, toByteOffset: field * 8, as: UInt64.self)
                }
            }
            return Message(peer: peer, channel: .bulk, parts: [header, part])
        }
    }
}

/// Puts the chunks of transfers together again, within limits that hold before memory is taken.
///
/// Content is copied out of the messages, so their credit returns at once. Not thread-safe: one consumer owns
/// it.
package struct BulkReassembler: Sendable {
    /// A finished transfer.
    package struct Transfer: Sendable {
        package let peer: PeerIdentity
        package let transfer: UInt64
        package let content: [UInt8]
    }

    private struct Key: Hashable {
        let peer: PeerIdentity
        let transfer: UInt64
    }

    private let transferByteCountMax: Int
    private let totalByteCountMax: Int
    private let openCountMax: Int
    private var open: [Key: (total: Int, content: [UInt8])] = [:]
    private var promisedByteCount = 0

    /// - Parameters:
    ///   - transferByteCountMax: largest accepted transfer.
    ///   - totalByteCountMax: largest sum of all unfinished transfers, by their announced totals.
    ///   - openCountMax: most unfinished transfers.
    package init(transferByteCountMax: Int, totalByteCountMax: Int, openCountMax: Int = 64) {
        self.transferByteCountMax = transferByteCountMax
        self.totalByteCountMax = totalByteCountMax
        self.openCountMax = openCountMax
    }

    /// Unfinished transfers.
    package var openCount: Int { open.count }

    /// Takes one bulk message; returns the transfer that it completes.
    ///
    /// - throws: ``TransportError`` with code `malformed` or `overLimit`; the transfer it belonged to is
    ///   forgotten.
    package mutating func accept(_ message: Message) throws(TransportError) -> Transfer? {
        guard message.parts.count == 2, message.parts[0].byteCount == BulkChunker.headerByteCount else {
            throw TransportError(.malformed, "bulk message from \(message.peer) has no chunk header")
        }
        let fields = message.parts[0].withUnsafeBytes { bytes in
            (0..<4).map { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
        }
        let key = Key(peer: message.peer, transfer: fields[0])
        do throws(TransportError) {
            return try append(
                message.parts[1], key: key, offset: fields[1], total: fields[2], length: fields[3])
        } catch {
            forget(key)
            throw error
        }
    }

    /// Drops the unfinished transfers of a peer that went away.
    package mutating func forget(peer: PeerIdentity) {
        for key in open.keys.filter({ $0.peer == peer }) { forget(key) }
    }

    private mutating func append(
        _ chunk: Payload, key: Key, offset: UInt64, total: UInt64, length: UInt64
    ) throws(TransportError) -> Transfer? {
        let place = "transfer \(key.transfer) from \(key.peer)"
        guard total <= UInt64(transferByteCountMax) else {
            throw TransportError(
                .overLimit, "\(place) announces \(total) bytes; the limit is \(transferByteCountMax)")
        }
        if open[key] == nil {
            guard offset == 0 else {
                throw TransportError(.malformed, "\(place) starts at byte \(offset); expected 0")
            }
            guard open.count < openCountMax, promisedByteCount + Int(total) <= totalByteCountMax else {
                throw TransportError(
                    .overLimit,
                    "\(place): \(open.count) transfers with \(promisedByteCount) bytes are already open")
            }
            open[key] = (Int(total), [])
            promisedByteCount += Int(total)
        }
        guard var entry = open.removeValue(forKey: key) else { return nil }
        let isExpected =
            entry.total == Int(total) && UInt64(entry.content.count) == offset
            && UInt64(chunk.byteCount) == length && entry.content.count + chunk.byteCount <= entry.total
            && (chunk.byteCount > 0 || entry.total == 0)
        guard isExpected else {
            promisedByteCount -= entry.total
            throw TransportError(
                .malformed,
                "\(place): chunk of \(chunk.byteCount) bytes at \(offset); expected at \(entry.content.count)"
            )
        }
        chunk.withUnsafeBytes { entry.content.append(contentsOf: $0) }
        if entry.content.count < entry.total {
            open[key] = entry
            return nil
        }
        promisedByteCount -= entry.total
        return Transfer(peer: key.peer, transfer: key.transfer, content: entry.content)
    }

    private mutating func forget(_ key: Key) {
        if let entry = open.removeValue(forKey: key) { promisedByteCount -= entry.total }
    }
}
