// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Where a judge's endpoint is.
package struct JudgeAddress: Equatable, Sendable {
    package let isEncrypted: Bool
    /// A name or an address, in lower case.
    package let host: String
    package let port: Int

    /// nil for what is no address of http or https; one with a user's name or a password is none.
    package init?(_ text: String) {
        guard let parts = URLComponents(string: text), let scheme = parts.scheme?.lowercased(),
            ["http", "https"].contains(scheme), let host = parts.host, !host.isEmpty, parts.user == nil,
            parts.password == nil
        else { return nil }
        isEncrypted = scheme == "https"
        self.host = host.lowercased().trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
        port = parts.port ?? (isEncrypted ? 443 : 80)
    }

    package var isLoopback: Bool {
        let bytes = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        return host == "localhost" || host == "::1" || (bytes.count == 4 && !bytes.contains(nil) && bytes[0] == 127)
    }

    /// `HOST:PORT`, as workers allow it.
    package var hostAndPort: String { "\(host):\(port)" }
}
