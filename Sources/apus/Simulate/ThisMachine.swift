// SPDX-License-Identifier: Apache-2.0
import Benchmarks
import Checkpoints
import ClusterPlanning
import ClusterTransport
import Foundation
import RuntimeSupport
import Tensors

/// This machine as a host of a plan, measured.
enum ThisMachine {
    /// Limits alone; network and latency of an ordinary 10 Gbit/s Ethernet. Takes seconds and 1 GiB.
    static func host() throws -> HostSpecification {
        let cores = ProcessInfo.processInfo.activeProcessorCount
        let limits = try LimitMeter(pool: ComputePool(threadCount: cores)).limits()
        return HostSpecification(
            count: 1, cores: cores, memoryByteCount: Int(AvailableMemory.byteCount / 10 * 8),
            readBandwidth: limits.readBandwidth, fp32Products: limits.fp32Products, bf16Products: limits.bf16Products,
            networkBandwidth: 10e9 / 8, latency: 50e-6)
    }

    /// The same with what the program itself costs here, from parts of it that run alone: decoding passes of a tiny model,
    /// training of one that fits the caches, and messages on loopback. None of them is a run that calibration compares.
    static func calibrated(tokenizer: URL, progress: (String) -> Void) throws -> HostSpecification {
        progress("measuring limits")
        var host = try host()
        let pool = ComputePool(threadCount: host.cores)
        try measureOverheads(&host, pool, tokenizer)
        progress("measuring a training pass")
        var parts: [String: Double] = [:]
        try TrainSuite(.moe, compute: .bf16, pool: pool).run { line in
            for name in ["forward", "backward"] where line.name.hasSuffix(name) { parts[name] = line.share }
        }
        if let forward = parts["forward"], let backward = parts["backward"] {
            host.trainingEfficiency = min(1, 3 / (1 / forward + 2 / backward))
        }
        progress("measuring messages on loopback")
        (host.latency, host.networkBandwidth) = try LoopbackMessages.measure()
        return host
    }

    /// A pass of B sequences takes longer than its roofline by layers × layerOverhead + B × tokenOverhead / cores.
    private static func measureOverheads(_ host: inout HostSpecification, _ pool: ComputePool, _ tokenizer: URL) throws
    {
        let layers = 4
        let suite = try ModelSuite(
            preset: .tinyMoE, layerCount: layers, compute: .bf16, pool: pool, tokenizer: tokenizer)
        var extra: [Double] = []
        let batches = [1, 32]
        try suite.decode(batches: batches, steps: 64) { line in
            let batch = Double(batches[extra.count])
            extra.append(max(0, batch / line.value - batch / line.limit / host.generationEfficiency))
        }
        let perToken = max(0, (extra[1] - extra[0]) / Double(batches[1] - batches[0]))
        host.tokenOverhead = perToken * Double(host.cores)
        host.layerOverhead = max(0, extra[0] - perToken) / Double(layers)
    }
}

/// The transport's own cost on loopback, CURVE included: what two workers on this machine see.
enum LoopbackMessages {
    private static let rounds = 400

    /// Seconds of a small message one way, and bytes per second of large ones.
    static func measure() throws -> (latency: Double, bandwidth: Double) {
        let (serverKeys, clientKeys) = (try CurveKeyPair.generate(), try CurveKeyPair.generate())
        let echo = Locked<ZeroMQTransport?>(nil)
        let server = try ZeroMQTransport(
            ZeroMQConfiguration(
                security: .curve(keys: serverKeys, allowList: AllowList([clientKeys.publicKey: .worker])),
                listen: .anyPort(on: "127.0.0.1"),
                deliveries: .direct { message in _ = echo.withLock { try? $0?.send(message) } }))
        echo.withLock { $0 = server }
        let queue = BoundedQueue<Message>(itemCountMax: 64, byteCountMax: 64 << 20)
        let client = try ZeroMQTransport(
            ZeroMQConfiguration(
                security: .curve(keys: clientKeys, allowList: AllowList()),
                deliveries: ChannelDeliveries(control: .queue(queue), exchange: .queue(queue), bulk: .queue(queue))))
        defer {
            client.close()
            server.close()
            echo.withLock { $0 = nil }
        }
        guard let endpoints = server.endpoints else { throw PlanningError("no loopback address to listen on") }
        try client.connect(to: PeerAddress(identity: serverKeys.publicKey, endpoints: endpoints))
        let small = try roundTrip(64, client, serverKeys.publicKey, queue)
        let large = try roundTrip(256 << 10, client, serverKeys.publicKey, queue)
        return (small / 2, 2 * Double(256 << 10) / max(large - small, 1e-6))
    }

    private static func roundTrip(
        _ byteCount: Int, _ client: ZeroMQTransport, _ peer: PeerIdentity, _ queue: BoundedQueue<Message>
    ) throws -> Double {
        let payload = Payload(byteCount: byteCount) { $0.initializeMemory(as: UInt8.self, repeating: 7) }
        var times: [Double] = []
        for _ in 0..<rounds {
            let start = MonotonicInstant.now
            try client.send(Message(peer: peer, channel: .exchange, parts: [payload]))
            guard queue.pop(until: start.advanced(byMilliseconds: 5000)) != nil else {
                throw PlanningError("a message on loopback got no answer within 5 s")
            }
            times.append(Double(MonotonicInstant.now.nanoseconds - start.nanoseconds) / 1e9)
        }
        return times.sorted()[times.count / 2]
    }
}
