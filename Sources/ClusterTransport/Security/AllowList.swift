// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// What a key may be used for.
package enum Role: String, CaseIterable, Sendable {
    /// Joins as a worker.
    case worker
    /// Submits and watches jobs.
    case submit
    /// Drains workers, scales and stops the cluster.
    case admin
    /// Is the coordinator, to workers.
    case coordinator
}

/// The public keys that may connect, with their roles. Shared and thread-safe; a key added while the cluster
/// runs is let in at its next handshake. Removing a key refuses its next handshake; the connections it has
/// are dropped by `disconnect(from:)`.
package final class AllowList: Sendable {
    /// Most keys held.
    package static let entryCountMax = 65_536

    private let roles: Locked<[PeerIdentity: Role]>

    /// Creates a list.
    package init(_ entries: [PeerIdentity: Role] = [:]) {
        precondition(
            entries.count <= Self.entryCountMax, "\(entries.count) keys exceed \(Self.entryCountMax)")
        roles = Locked(entries)
    }

    /// Reads a file of mode 0600 with one `KEY ROLE` per line; lines that start with `# ` are comments.
    ///
    /// - throws: ``TransportError``: `filePermissions`, `fileAccess`, `badKey` with the line number.
    package convenience init(file path: String) throws(TransportError) {
        try self.init(text: try PrivateFile.read(path, byteCountMax: 8 << 20), path)
    }

    /// Reads the content of a list; `path` names it in errors.
    convenience init(text: String, _ path: String) throws(TransportError) {
        var entries: [PeerIdentity: Role] = [:]
        for (number, fields) in KeyLines.parse(text) {
            guard fields.count == 2, CurveKeyPair.isKey(fields[0]), let role = Role(rawValue: fields[1])
            else {
                let names = Role.allCases.map(\.rawValue).joined(separator: "|")
                throw TransportError(
                    .badKey, "\(path):\(number): expected `KEY \(names)` with a key of 40 characters")
            }
            guard entries.updateValue(role, forKey: PeerIdentity(fields[0])) == nil else {
                throw TransportError(.badKey, "\(path):\(number): this key is listed twice")
            }
        }
        guard entries.count <= Self.entryCountMax else {
            throw TransportError(
                .overLimit, "\(path) has \(entries.count) keys; the limit is \(Self.entryCountMax)")
        }
        self.init(entries)
    }

    /// Writes the list, sorted by key, with mode 0600.
    package func write(to path: String) throws(TransportError) {
        let lines = roles.withLock { $0.sorted { $0.key < $1.key } }.map {
            "\($0.key.rawValue) \($0.value.rawValue)\n"
        }
        try PrivateFile.write(lines.joined(), to: path)
    }

    /// Lets `key` in from now on; false when the list is full.
    @discardableResult
    package func add(_ key: PeerIdentity, role: Role) -> Bool {
        roles.withLock {
            guard $0[key] != nil || $0.count < Self.entryCountMax else { return false }
            $0[key] = role
            return true
        }
    }

    /// Refuses `key` from its next handshake on.
    package func remove(_ key: PeerIdentity) { roles.withLock { $0[key] = nil } }

    /// The role of `key`, or nil when it may not connect.
    package func role(of key: PeerIdentity) -> Role? { roles.withLock { $0[key] } }
}
