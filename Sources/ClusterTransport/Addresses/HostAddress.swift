// SPDX-License-Identifier: Apache-2.0
internal import CPlatform
internal import Glibc

/// Addresses of hosts as text: what they mean, and which of its own this host is reached by.
package enum HostAddress {
    /// Whether an address is a literal of 127/8 or ::1. Names are not trusted: they resolve to what a file or server says.
    package static func isLoopback(_ host: String) -> Bool {
        let fields = host.split(separator: ".", omittingEmptySubsequences: false)
        if fields.count == 4, fields[0] == "127", fields.allSatisfy({ UInt8($0) != nil }) { return true }
        var address = in6_addr()
        guard inet_pton(AF_INET6, host, &address) == 1 else { return false }
        return withUnsafeBytes(of: address) { $0.elementsEqual([UInt8](repeating: 0, count: 15) + [1]) }
    }

    /// Whether an address stands for all of a host's, and so is none that others could dial.
    package static func isWildcard(_ host: String) -> Bool {
        if host == "*" || host == "0.0.0.0" { return true }
        var address = in6_addr()
        guard inet_pton(AF_INET6, host, &address) == 1 else { return false }
        return withUnsafeBytes(of: address) { $0.allSatisfy { $0 == 0 } }
    }

    static func isInterface(_ name: String) -> Bool { cp_is_interface(name) != 0 }

    /// A literal address of a name, IPv4 where there is one; nil when it has none. May take seconds.
    static func resolve(_ name: String) -> (address: String, isIPv6: Bool)? {
        var buffer = [CChar](repeating: 0, count: Int(CP_ADDRESS_SIZE))
        let family = cp_resolve(name, &buffer)
        return family < 0 ? nil : (text(buffer), family == 6)
    }

    /// The address of this host by which a host at `destination` (a name or an address) reaches it; nil without a route.
    static func towards(_ destination: String) -> String? {
        guard let address = resolve(destination)?.address else { return nil }
        var buffer = [CChar](repeating: 0, count: Int(CP_ADDRESS_SIZE))
        return cp_address_towards(address, &buffer) == 0 ? text(buffer) : nil
    }

    /// Addresses of the interfaces that are up, but loopback ones, each with its interface's name.
    static func own(isIPv6: Bool) -> [(address: String, interface: String)] {
        var buffer = [CChar](repeating: 0, count: 1 << 14)
        guard cp_interface_addresses(isIPv6 ? 1 : 0, &buffer, buffer.count) > 0 else { return [] }
        return text(buffer).split(separator: "\n").map { line in
            let words = line.split(separator: " ").map(String.init)
            return (words[0], words.count > 1 ? words[1] : "")
        }
    }

    private static func text(_ buffer: [CChar]) -> String {
        String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// Where a process runs: two that are at the same place reach each other by loopback.
package struct HostPlace: Hashable, Sendable {
    /// The host's name, for messages.
    package let host: String
    /// The kernel's boot and the network namespace.
    package let network: String

    package init(host: String, network: String) {
        self.host = host
        self.network = network
    }

    /// The place of this process; nil where the kernel does not say.
    package static let current: HostPlace? = {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0, let boot = read("/proc/sys/kernel/random/boot_id") else {
            return nil
        }
        var status = stat()
        guard stat("/proc/self/ns/net", &status) == 0 else { return nil }
        let host = String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        return HostPlace(host: host, network: "\(boot)/\(status.st_ino)")
    }()

    private static func read(_ path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = Glibc.read(file, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes.prefix(count).filter { $0 > 0x20 }, as: UTF8.self) : nil
    }
}
