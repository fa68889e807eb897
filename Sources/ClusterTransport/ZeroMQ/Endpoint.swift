// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A checked `tcp://host:port`. Debian's libzmq also speaks ipc, pgm, norm and tipc; none of them is let
/// through.
struct Endpoint: Equatable {
    /// A name, an address (IPv6 without its brackets) or an interface.
    var host: String
    /// 1 to 65535, or nil for `*` (a port chosen by the system).
    let port: UInt16?
    /// Whether libzmq is to use IPv6: for such addresses, and for names that have no other.
    var usesIPv6: Bool

    /// - Parameter isForBinding: allows `*` as port and as host.
    init(_ text: String, isForBinding: Bool) throws(TransportError) {
        let scheme = "tcp://"
        let body = text.hasPrefix(scheme) ? text.dropFirst(scheme.count) : ""
        guard let colon = body.lastIndex(of: ":") else {
            throw TransportError(.badEndpoint, "endpoint '\(text)' is not tcp://HOST:PORT")
        }
        let written = body[..<colon]
        let portText = body[body.index(after: colon)...]
        usesIPv6 = written.hasPrefix("[") && written.hasSuffix("]")
        host = String(usesIPv6 ? written.dropFirst().dropLast() : written)
        let isUsable = usesIPv6 ? Self.isIPv6(host) : Self.isName(host) || (isForBinding && host == "*")
        guard isUsable else {
            throw TransportError(
                .badEndpoint,
                "endpoint '\(text)' has no usable host (a name, an IPv4 address, an IPv6 address in brackets)")
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
    var text: String { "tcp://\(Self.bracketed(host)):\(port.map(String.init) ?? "*")" }

    /// Whether no other host can be meant.
    var isLoopback: Bool { HostAddress.isLoopback(host) }

    /// For listening: libzmq takes addresses and interfaces there, but no names. May take seconds.
    func resolvedForBinding() throws(TransportError) -> Endpoint {
        if usesIPv6 || host == "*" || HostAddress.isInterface(host) { return self }
        guard let found = HostAddress.resolve(host) else {
            throw TransportError(
                .bindFailed,
                "cannot listen on \(host): this host has no such interface (see `ip addr`), and the name has no address"
            )
        }
        var copy = self
        (copy.host, copy.usesIPv6) = (found.address, found.isIPv6)
        return copy
    }

    /// For dialling: names stay, since libzmq resolves them anew at each attempt, but only to one kind of address; this
    /// says to which. May take seconds.
    func resolvedForDialling() -> Endpoint {
        var copy = self
        if !usesIPv6, let found = HostAddress.resolve(host) { copy.usesIPv6 = found.isIPv6 }
        return copy
    }

    /// An address or name as it is written before a port.
    static func bracketed(_ host: String) -> String {
        host.contains(":") && !host.hasPrefix("[") ? "[\(host)]" : host
    }

    private static func isName(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x61...0x7a).contains($0 | 0x20) || $0 == 0x2d || $0 == 0x2e
                    || $0 == 0x5f
            }
    }

    /// With a zone, as link-local addresses need it, or without.
    private static func isIPv6(_ text: String) -> Bool {
        let parts = text.split(separator: "%", omittingEmptySubsequences: false)
        var address = in6_addr()
        guard parts.count <= 2, parts.count == 1 || isName(String(parts[1])) else { return false }
        return inet_pton(AF_INET6, String(parts[0]), &address) == 1
    }
}
