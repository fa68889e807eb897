// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import Testing

@testable import ClusterTransport

/// Peers in another process (`transport-probe echo`).
@Suite("Transport between processes")
struct ProcessTests {
    private final class EchoProcess {
        let process = Process()
        let input = Pipe()
        let keys: CurveKeyPair
        let address: PeerAddress

        init(client: PeerIdentity) throws {
            keys = try CurveKeyPair.generate()
            let output = Pipe()
            process.executableURL = Bundle.main.bundleURL.appendingPathComponent("transport-probe")
            process.arguments = ["echo"]
            process.standardInput = input
            process.standardOutput = output
            try process.run()
            input.fileHandleForWriting.write(Data("curve \(keys.secretKey) \(client.rawValue)\n".utf8))
            let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            try #require(words.count == 4 && words[0] == "listening", "\(line)")
            address = PeerAddress(
                identity: keys.publicKey,
                endpoints: ChannelEndpoints(control: words[1], exchange: words[2], bulk: words[3]))
        }

        deinit {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
    }

    @Test("a stopped or killed process is reported within three seconds", arguments: [SIGSTOP, SIGKILL])
    func silentPeer(signal: Int32) throws {
        let client = try TestNode(listens: false)
        defer { client.transport.close() }
        let echo = try EchoProcess(client: client.identity)
        try client.transport.connect(to: echo.address)
        #expect(client.events.waitConnected(echo.address.identity))
        try client.transport.send(
            Message(
                peer: echo.address.identity, channel: .exchange, parts: [Payload(pattern(300_000, seed: 1))]))
        #expect(client.receive(.exchange)?.parts.map(\.bytes) == [pattern(300_000, seed: 1)])
        let start = MonotonicInstant.now
        kill(echo.process.processIdentifier, signal)
        var missing = Set(Channel.allCases)
        _ = client.events.wait { event in
            if case .disconnected(echo.address.identity, let channel, _) = event { missing.remove(channel) }
            return missing.isEmpty
        }
        #expect(missing.isEmpty)
        // The promise of the failure detector, not a speed: heartbeats time out after 2 s.
        #expect(MonotonicInstant.now.milliseconds(since: start) <= 3000)
    }
}
