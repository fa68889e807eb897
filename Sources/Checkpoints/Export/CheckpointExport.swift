// SPDX-License-Identifier: Apache-2.0
package import Foundation
package import Tensors

/// Writes a checkpoint again in the released form: per-expert names, shards of one size, another element type if wanted;
/// without optimizer state. What training leaves has a file per expert, since each owner writes its own.
package struct CheckpointExport {
    package let source: Checkpoint
    /// Of the weights in the copy; nil: as they are.
    package var elementType: ElementType?
    package var shardByteCountMax = ShardPlan.standardByteCountMax
    /// What a training run wrote down of a checkpoint's origin, and what its copy carries.
    package static let manifestFileName = "manifest.json"
    package static let lineageFileName = "lineage.json"

    package init(_ source: Checkpoint) { self.source = source }

    /// Elements that are converted at a time.
    private static let chunkElementCount = 1 << 20

    /// - Throws: ``CheckpointError``; nothing remains then.
    package func write(to target: URL) throws {
        var configuration = source.configuration
        configuration.storageType = elementType ?? source.elementType
        let writer = try CheckpointWriter(
            target, configuration: configuration, storesRedundantHead: source.storesRedundantHead,
            shardByteCountMax: shardByteCountMax)
        do {
            let files = TokenizerFacts.files(in: source.directory)
            if files.contains(TokenizerFacts.mainFileName) || files.contains("vocab.json") {
                try writer.copyTokenizer(from: source.directory)
            }
            try writer.add(Self.lineageFileName, try lineage() + "\n")
            let storesHead = source.storesRedundantHead || !configuration.tieWordEmbeddings
            for tensor in configuration.parameterTensors(includesHead: storesHead) { try copy(tensor, to: writer) }
            try writer.finish()
        } catch {
            writer.abandon()
            throw error
        }
    }

    /// Where the weights come from: the source's hash, and the job, parent and step that a training run noted.
    private func lineage() throws -> String {
        var members: [JSONValue.Member] = [.init("source", .string(try source.identity().hexadecimal))]
        for name in [Self.manifestFileName, Self.lineageFileName] {
            let file = source.directory.appendingPathComponent(name)
            guard SystemCall.exists(file.path) else { continue }
            let value = try JSONValue.read(file, limit: 64 << 20)
            for key in ["job", "parent", "step"] {
                if let found = value[key], !members.contains(where: { $0.key == key }) {
                    members.append(.init(key, found))
                }
            }
        }
        return JSONValue.object(members).prettyPrinted()
    }

    private func copy(_ tensor: ParameterTensor, to writer: CheckpointWriter) throws {
        let view = try self.view(tensor)
        let to = writer.configuration.storageType ?? .bfloat16
        try view.withValues { bytes, from in
            guard from != to else { return try writer.append(tensor.name.rawValue, bytes) }
            let count = bytes.count / from.byteCount
            for first in stride(from: 0, to: count, by: Self.chunkElementCount) {
                let end = min(first + Self.chunkElementCount, count)
                var converted: [UInt8] = []
                converted.reserveCapacity((end - first) * to.byteCount)
                for index in first..<end {
                    Self.append(Self.value(bytes, index, from), to, &converted)
                }
                try converted.withUnsafeBytes { try writer.append(tensor.name.rawValue, $0) }
            }
        }
        view.dropPages()
    }

    private func view(_ tensor: ParameterTensor) throws -> TensorView {
        guard let layer = tensor.layer, let expert = tensor.expert,
            let projection = TensorName.Projection.allCases.first(where: {
                TensorName.layer(layer).expert(expert, $0) == tensor.name
            })
        else { return try source.tensor(tensor.name) }
        return try source.expert(layer: layer, expert: expert, projection)
    }

    private static func value(_ bytes: UnsafeRawBufferPointer, _ index: Int, _ type: ElementType) -> Float {
        switch type {
        case .float32: bytes.loadUnaligned(fromByteOffset: index * 4, as: Float.self)
        case .bfloat16:
            Float(bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)) << 16)
        case .float16:
            Float(Float16(bitPattern: bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)))
        }
    }

    private static func append(_ value: Float, _ type: ElementType, _ bytes: inout [UInt8]) {
        switch type {
        case .float32: withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
        case .bfloat16:
            let bits = RandomWeights.bfloat16Bits(value)
            withUnsafeBytes(of: bits.littleEndian) { bytes.append(contentsOf: $0) }
        case .float16: withUnsafeBytes(of: Float16(value).bitPattern) { bytes.append(contentsOf: $0) }
        }
    }
}
