// SPDX-License-Identifier: Apache-2.0
package import Foundation
package import JobSpecification

/// A kind of host that a cluster is made of, one worker process on each.
package struct HostSpecification: Equatable, Sendable, Codable {
    /// Hosts of this kind.
    package var count: Int
    package var cores: Int
    /// Bytes that a worker may use.
    package var memoryByteCount: Int
    /// Bytes per second that all cores together read from memory.
    package var readBandwidth: Double
    /// Operations per second of all cores together; a multiply-add counts two.
    package var fp32Products: Double
    package var bf16Products: Double
    /// Bytes per second of the network interface, each way.
    package var networkBandwidth: Double
    /// Seconds from one host to another, one way, the processes' own part included.
    package var latency: Double
    /// Shares of the limits that the program reaches in large products and in training.
    package var generationEfficiency = 0.85
    package var trainingEfficiency = 0.5
    /// Seconds that a layer costs besides its products and reads: waking threads, small kernels.
    package var layerOverhead = 20e-6
    /// Seconds that a token costs besides the model: sampling and bookkeeping, on one core.
    package var tokenOverhead = 50e-6

    package init(
        count: Int, cores: Int, memoryByteCount: Int, readBandwidth: Double, fp32Products: Double, bf16Products: Double,
        networkBandwidth: Double, latency: Double
    ) {
        self.count = count
        self.cores = cores
        self.memoryByteCount = memoryByteCount
        self.readBandwidth = readBandwidth
        self.fp32Products = fp32Products
        self.bf16Products = bf16Products
        self.networkBandwidth = networkBandwidth
        self.latency = latency
    }

    package func products(_ compute: ComputeType) -> Double { compute == .fp32 ? fp32Products : bf16Products }

    // MARK: - The file

    private static let keys = [
        "count", "cores", "memory", "memory_bandwidth", "flops", "network", "latency", "generation_efficiency",
        "training_efficiency", "layer_overhead", "token_overhead",
    ]
    private static let hostKindsMax = 256
    /// Workers of a cluster at most.
    package static let workerCountMax = 65_536

    /// Reads a hosts file: `hosts:`, a list of kinds of hosts. Units: `memory_bandwidth` GB/s, `flops` GFLOP/s by compute
    /// type, `network` Gbit/s, `latency` and the overheads µs.
    /// - Throws: ``JobError`` with line and key path.
    package static func read(_ url: URL) throws(JobError) -> [HostSpecification] {
        do { return try parse(try Job.text(of: url)) } catch { throw error.inFile(url.path) }
    }

    /// Reads the text of a hosts file.
    package static func parse(_ text: String) throws(JobError) -> [HostSpecification] {
        let fields = try YAMLReader(try YAMLNode.parse(text)).fields(["hosts"])
        let list = try fields.required("hosts")
        var hosts: [HostSpecification] = []
        for reader in try list.items(hostKindsMax) { hosts.append(try HostSpecification(reader)) }
        let total = hosts.reduce(0) { $0 + $1.count }
        guard (1...workerCountMax).contains(total) else {
            throw list.error(.limitExceeded, "\(total) hosts; a plan takes 1 to \(workerCountMax)")
        }
        return hosts
    }

    private init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(Self.keys)
        func rate(_ reader: YAMLReader, scale: Double) throws(JobError) -> Double {
            try reader.number(.above(0, upTo: 1e9)) * scale
        }
        let flops = try fields.required("flops").fields(["bf16", "fp32"])
        self.init(
            count: try fields.integer("count", 1...Self.workerCountMax, default: 1),
            cores: try fields.required("cores").integer(1...4096),
            memoryByteCount: try fields.required("memory").byteCount((1 << 20)...(1 << 46)),
            readBandwidth: try rate(fields.required("memory_bandwidth"), scale: 1e9),
            fp32Products: try rate(flops.required("fp32"), scale: 1e9),
            bf16Products: try rate(flops.required("bf16"), scale: 1e9),
            networkBandwidth: try rate(fields.required("network"), scale: 1e9 / 8),
            latency: try fields.required("latency").number(.closed(0, 1e7)) / 1e6)
        generationEfficiency = try fields.number(
            "generation_efficiency", .above(0, upTo: 1), default: generationEfficiency)
        trainingEfficiency = try fields.number("training_efficiency", .above(0, upTo: 1), default: trainingEfficiency)
        layerOverhead = try fields.number("layer_overhead", .closed(0, 1e6), default: layerOverhead * 1e6) / 1e6
        tokenOverhead = try fields.number("token_overhead", .closed(0, 1e6), default: tokenOverhead * 1e6) / 1e6
    }

    /// The hosts file that reads back as `hosts`, to four digits.
    package static func yaml(_ hosts: [HostSpecification]) -> String {
        func number(_ value: Double) -> String { String(format: "%.4g", value) }
        return "hosts:\n"
            + hosts.map { host in
                """
                  - count: \(host.count)
                    cores: \(host.cores)
                    memory: \(host.memoryByteCount >> 20)MiB
                    memory_bandwidth: \(number(host.readBandwidth / 1e9))  # GB/s
                    flops: {bf16: \(number(host.bf16Products / 1e9)), fp32: \(number(host.fp32Products / 1e9))}  # GFLOP/s
                    network: \(number(host.networkBandwidth * 8 / 1e9))  # Gbit/s
                    latency: \(number(host.latency * 1e6))  # µs
                    generation_efficiency: \(number(host.generationEfficiency))
                    training_efficiency: \(number(host.trainingEfficiency))
                    layer_overhead: \(number(host.layerOverhead * 1e6))  # µs
                    token_overhead: \(number(host.tokenOverhead * 1e6))  # µs

                """
            }.joined()
    }
}
