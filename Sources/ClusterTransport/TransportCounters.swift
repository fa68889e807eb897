// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// What a transport has done so far. All counts since its start.
package struct TransportStatistics: Sendable, Hashable {
    package var messagesSent = 0
    package var bytesSent = 0
    package var messagesReceived = 0
    package var bytesReceived = 0
    /// Messages dropped because they broke a limit or the format.
    package var messagesRejected = 0
    /// Messages of an earlier connection or of an unknown sender.
    package var messagesStale = 0
    /// Handshakes that failed here, by any cause.
    package var handshakesFailed = 0
    /// Connections that ended before their hello: garbage, refused keys, port scans.
    package var connectionsWithoutHello = 0
    /// Keys the ZAP handler let in and refused.
    package var keysAdmitted = 0
    package var keysRefused = 0
    /// Queued messages dropped with their connection.
    package var messagesDropped = 0
}

/// The live counters. Written by the socket thread, read by anyone.
final class TransportCounters: Sendable {
    private let values = Locked(TransportStatistics())

    func update(_ change: (inout TransportStatistics) -> Void) { values.withLock { change(&$0) } }

    var snapshot: TransportStatistics { values.withLock { $0 } }
}
