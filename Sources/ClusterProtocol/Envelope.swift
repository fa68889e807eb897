// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import SwiftProtobuf

/// Version of cluster.proto. Peers that differ refuse each other when they meet.
package let clusterProtocolVersion: UInt32 = 1

/// Why bytes are no control message.
package struct WireError: Error, Hashable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

extension WireEnvelope {
    /// Bytes of the largest control message that a receiver parses.
    package static let byteCountMax = 4 << 20

    /// The message's bytes.
    package func encoded() -> [UInt8] {
        // Serialization of a message without required fields cannot fail.
        guard let data = try? serializedData() else { preconditionFailure("a control message does not serialize") }
        return [UInt8](data)
    }

    /// What it says, in one word: the field's name.
    package var kind: String { body.flatMap { Mirror(reflecting: $0).children.first?.label } ?? "nothing" }

    /// Parses a control message within the limits.
    /// - Throws: ``WireError``.
    package init(encoded bytes: [UInt8], byteCountMax: Int = Self.byteCountMax) throws(WireError) {
        guard bytes.count <= byteCountMax else {
            throw WireError("a control message of \(bytes.count) bytes; the limit is \(byteCountMax)")
        }
        var options = BinaryDecodingOptions()
        options.messageDepthLimit = 16
        do { self = try WireEnvelope(serializedBytes: bytes, options: options) } catch {
            throw WireError("not a control message")
        }
        guard body != nil else { throw WireError("a control message of an unknown kind; is a peer newer?") }
    }
}

extension WireUnitResult {
    /// The record's bytes, as they travel and as they are stored.
    package func encoded() -> [UInt8] {
        guard let data = try? serializedData() else { preconditionFailure("a record does not serialize") }
        return [UInt8](data)
    }

    /// - Throws: ``WireError``.
    package init(encoded bytes: [UInt8]) throws(WireError) {
        do { self = try WireUnitResult(serializedBytes: bytes) } catch { throw WireError("not a record") }
        guard record != nil else { throw WireError("a record of an unknown kind") }
    }
}

extension WireJournalEntry {
    package func encoded() -> [UInt8] {
        guard let data = try? serializedData() else { preconditionFailure("a journal entry does not serialize") }
        return [UInt8](data)
    }

    /// - Throws: ``WireError``.
    package init(encoded bytes: [UInt8]) throws(WireError) {
        do { self = try WireJournalEntry(serializedBytes: bytes) } catch { throw WireError("not a journal entry") }
        guard change != nil else {
            throw WireError("a journal entry of an unknown kind; was it written by a newer version?")
        }
    }
}
