// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import Testing

/// A TCP line to a listener on which what comes back takes its time, and which can be cut.
final class SlowLine: Sendable {
    let endpoint: String
    private let listener: Int32
    private let port: UInt16
    private let delayMilliseconds: UInt64
    private let open = Locked<[Int32]>([])

    /// - Parameter target: `tcp://127.0.0.1:port`.
    init(to target: String, delayMilliseconds: UInt64) throws {
        port = try #require(target.split(separator: ":").last.flatMap { UInt16($0) })
        self.delayMilliseconds = delayMilliseconds
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = Self.address(0)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(listener, $0, size) == 0 && Glibc.listen(listener, 8) == 0
                    && getsockname(listener, $0, &size) == 0
            }
        }
        try #require(bound)
        endpoint = "tcp://127.0.0.1:\(UInt16(bigEndian: address.sin_port))"
        _ = DedicatedThread.start(name: "slow-line") { [self] in
            while true {
                let client = accept(listener, nil, nil)
                if client < 0 { return }
                carry(client)
            }
        }
    }

    /// Breaks the connections there are; new ones are taken.
    func cut() {
        for descriptor in open.withLock({ $0 }) { shutdown(descriptor, Int32(SHUT_RDWR)) }
        open.withLock { $0 = [] }
    }

    func close() {
        shutdown(listener, Int32(SHUT_RDWR))
        cut()
    }

    private static func address(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        return address
    }

    private func carry(_ client: Int32) {
        let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = Self.address(port)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(server, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            Glibc.close(client)
            Glibc.close(server)
            return
        }
        open.withLock { $0 += [client, server] }
        let queue = BoundedQueue<(due: MonotonicInstant, bytes: [UInt8])>(itemCountMax: 1 << 20, byteCountMax: 1 << 30)
        _ = DedicatedThread.start(name: "line-out") {
            while let bytes = Self.read(client), Self.write(bytes, server) {}
            shutdown(server, Int32(SHUT_RDWR))
        }
        _ = DedicatedThread.start(name: "line-in") { [delayMilliseconds] in
            while let bytes = Self.read(server) {
                _ = queue.tryPush((MonotonicInstant.now.advanced(byMilliseconds: delayMilliseconds), bytes))
            }
            queue.close()
        }
        _ = DedicatedThread.start(name: "line-late") {
            while let (due, bytes) = queue.pop() {
                while MonotonicInstant.now < due { usleep(1000) }
                if !Self.write(bytes, client) { break }
            }
            shutdown(client, Int32(SHUT_RDWR))
        }
    }

    private static func read(_ descriptor: Int32) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return count > 0 ? Array(buffer[..<count]) : nil
    }

    private static func write(_ bytes: [UInt8], _ descriptor: Int32) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}
