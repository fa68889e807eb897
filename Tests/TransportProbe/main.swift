// SPDX-License-Identifier: Apache-2.0
//
// A second process for the transport's tests, and a round-trip measurement.
//   transport-probe echo [spin microseconds]
//       Reads one line from stdin, `curve SECRET CLIENT_KEY` or `plain NAME`; prints
//       `listening CONTROL EXCHANGE BULK`, then echoes every message until stdin ends.
//   transport-probe round-trip [spin microseconds] [rounds]
import ClusterTransport
import Foundation
import RuntimeSupport
import Synchronization

final class TransportBox: Sendable {
    let transport = Mutex<ZeroMQTransport?>(nil)
    func echo(_ message: Message) { transport.withLock { try? $0?.send(message) } }
}

func security(_ words: [Substring]) throws -> ZeroMQConfiguration.Security {
    if words.count == 3, words[0] == "curve" {
        let keys = try CurveKeyPair(secretKey: String(words[1]))
        return .curve(keys: keys, allowList: AllowList([PeerIdentity(String(words[2])): .worker]))
    }
    return .insecureLoopback(name: words.count > 1 ? String(words[1]) : "echo")
}

func echo(spin: Int) throws {
    let words = (readLine() ?? "").split(separator: " ")
    let box = TransportBox()
    var configuration = ZeroMQConfiguration(
        security: try security(words), listen: .anyPort(on: "127.0.0.1"), deliveries: .direct { box.echo($0) }
    )
    configuration.spinMicroseconds = spin
    let transport = try ZeroMQTransport(configuration)
    box.transport.withLock { $0 = transport }
    if let at = transport.endpoints {
        FileHandle.standardOutput.write(Data("listening \(at.control) \(at.exchange) \(at.bulk)\n".utf8))
    }
    while readLine() != nil {}
    transport.close()
}

func roundTrip(curve: Bool, byteCount: Int, rounds: Int, spin: Int, hop: String) throws -> String {
    let child = Process()
    child.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    child.arguments = ["echo", "\(spin)"]
    let (input, output) = (Pipe(), Pipe())
    child.standardInput = input
    child.standardOutput = output
    try child.run()
    let (serverKeys, clientKeys) = (try CurveKeyPair.generate(), try CurveKeyPair.generate())
    let line = curve ? "curve \(serverKeys.secretKey) \(clientKeys.publicKey.rawValue)\n" : "plain echo\n"
    input.fileHandleForWriting.write(Data(line.utf8))
    let answer = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    let words = answer.split(whereSeparator: \.isWhitespace).map(String.init)
    let queue = BoundedQueue<Message>(itemCountMax: 64, byteCountMax: 64 << 20)
    var configuration = ZeroMQConfiguration(
        security: curve
            ? .curve(keys: clientKeys, allowList: AllowList()) : .insecureLoopback(name: "client"),
        deliveries: ChannelDeliveries(control: .queue(queue), exchange: .queue(queue), bulk: .queue(queue)))
    configuration.spinMicroseconds = spin
    let transport = try ZeroMQTransport(configuration)
    let peer = curve ? serverKeys.publicKey : PeerIdentity("echo")
    try transport.connect(
        to: PeerAddress(
            identity: peer, endpoints: ChannelEndpoints(control: words[1], exchange: words[2], bulk: words[3])
        ))
    let payload = Payload(byteCount: byteCount) { $0.initializeMemory(as: UInt8.self, repeating: 7) }
    var times: [Double] = []
    for round in 0..<rounds + 50 {
        let start = MonotonicInstant.now.nanoseconds
        try transport.send(Message(peer: peer, channel: .exchange, parts: [payload]))
        if hop == "spin" {
            while queue.tryPop() == nil {}
        } else if queue.pop() == nil {
            break
        }
        if round >= 50 { times.append(Double(MonotonicInstant.now.nanoseconds - start) / 1000) }
    }
    transport.close()
    try input.fileHandleForWriting.close()
    child.waitUntilExit()
    times.sort()
    let p50 = Int(times[times.count / 2])
    let p99 = Int(times[times.count * 99 / 100])
    return "\(curve ? "CURVE" : "NULL ") \(byteCount >> 10) KiB waiter=\(hop) spin=\(spin) us: "
        + "median \(p50) us, p99 \(p99) us, min \(Int(times[0])) us"
}

let arguments = CommandLine.arguments
let number = arguments.count > 2 ? Int(arguments[2]) ?? 0 : 0
if arguments.count > 1, arguments[1] == "echo" {
    try echo(spin: number)
} else {
    let rounds = arguments.count > 3 ? Int(arguments[3]) ?? 1000 : 1000
    for curve in [false, true] {
        for byteCount in [64, 4 << 10, 256 << 10] {
            for hop in ["sleep", "spin"] {
                print(
                    try roundTrip(curve: curve, byteCount: byteCount, rounds: rounds, spin: number, hop: hop))
            }
        }
    }
}
