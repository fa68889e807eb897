// SPDX-License-Identifier: Apache-2.0

/// A checked `tcp://host:port`. Debian's libzmq also speaks ipc, pgm, norm and tipc; none of them is let
/// through.
struct Endpoint: Equatable {
    let host: String
    /// 1 to 65535, or nil for `*` (a port chosen by the system).
    let port: UInt16?

    /// - Parameter isForBinding: allows `*` as port and as host.
    init(_ text: String, isForBinding: Bool) throws(TransportError) {
        let scheme = "tcp://"
        let body = text.hasPrefix(scheme) ? text.dropFirst(scheme.count) : ""
        guard let colon = body.lastIndex(of: ":") else {
            throw TransportError(.badEndpoint, "endpoint '\(text)' is not tcp://HOST:PORT")
        }
        host = String(body[..<colon])
        let portText = body[body.index(after: colon)...]
        let allowed = host.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20) || $0 == 0x2d || $0 == 0x2e
                || $0 == 0x5f
        }
        guard !host.isEmpty, host.utf8.count <= 255, allowed || (isForBinding && host == "*") else {
            throw TransportError(
                .badEndpoint, "endpoint '\(text)' has no usable host (a name, an IPv4 address)")
        }
        if isForBinding && portText == "*" {
            port = nil
        } else if let number = UInt16(portText), number > 0 {
            port = number
        } else {
            throw TransportError(.badEndpoint, "endpoint '\(text)' has no port from 1 to 65535")
        }
    }

    /// The form libzmq takes.
    var text: String { "tcp://\(host):\(port.map(String.init) ?? "*")" }

    /// Whether the host is a literal of 127/8. Names are not trusted: they resolve to what a file or server
    /// says.
    var isLoopback: Bool {
        let fields = host.split(separator: ".", omittingEmptySubsequences: false)
        return fields.count == 4 && fields[0] == "127" && fields.allSatisfy { UInt8($0) != nil }
    }
}
