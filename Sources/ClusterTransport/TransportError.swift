// SPDX-License-Identifier: Apache-2.0

/// An error of the transport: what, where and the remedy.
package struct TransportError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kind of failure; more may be added.
    package struct Code: Hashable, Sendable {
        private enum Kind: Hashable, Sendable {
            case unknownPeer, overLimit, backpressure, closed, malformed, badEndpoint, bindFailed,
                refusedInsecure
            case badKey, filePermissions, fileAccess, selfTestFailed, system
        }

        private let kind: Kind
        private init(_ kind: Kind) { self.kind = kind }

        /// Neither connected nor being connected to.
        package static let unknownPeer = Code(.unknownPeer)
        /// Too many parts or bytes.
        package static let overLimit = Code(.overLimit)
        /// The queue towards the peer is full; try again after `writable`.
        package static let backpressure = Code(.backpressure)
        /// The transport was closed.
        package static let closed = Code(.closed)
        /// Bytes that break the format.
        package static let malformed = Code(.malformed)
        /// Not a usable `tcp://host:port`.
        package static let badEndpoint = Code(.badEndpoint)
        /// The address or port cannot be listened on.
        package static let bindFailed = Code(.bindFailed)
        /// Plain text was asked for outside 127/8.
        package static let refusedInsecure = Code(.refusedInsecure)
        /// Not a CURVE key or key pair.
        package static let badKey = Code(.badKey)
        /// A key or allow-list file is readable by others or owned by someone else.
        package static let filePermissions = Code(.filePermissions)
        /// A file cannot be read or written.
        package static let fileAccess = Code(.fileAccess)
        /// The start-up test of the access control failed.
        package static let selfTestFailed = Code(.selfTestFailed)
        /// libzmq or the system refused something unexpectedly.
        package static let system = Code(.system)

        /// The code's name, usable as a metric label.
        package var name: String { "\(kind)" }
    }

    /// The kind of failure.
    package let code: Code
    /// One line for a person.
    package let message: String

    /// Creates an error.
    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { message }
}
