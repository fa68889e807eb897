// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing

/// Checkpoints as people have them: caches, other element types, wrappers' names.
@Suite("Checkpoints as hubs and tools leave them")
struct HubFilesTests {
    struct Stored {
        var name: String
        var type: SafetensorsDataType
        var shape: [Int]
        var bytes: [UInt8]

        var floats: [Float] {
            (0..<shape.reduce(1, *)).map { index in
                bytes.withUnsafeBytes { bytes in
                    func short() -> UInt16 { bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self) }
                    switch type {
                    case .float32: return bytes.loadUnaligned(fromByteOffset: 4 * index, as: Float.self)
                    case .bfloat16: return Float(bitPattern: UInt32(short()) << 16)
                    default: return Float(Float16(bitPattern: short()))
                    }
                }
            }
        }

        mutating func store(_ values: [Float], as type: SafetensorsDataType) {
            self.type = type
            bytes = values.flatMap { value -> [UInt8] in
                switch type {
                case .float32: return withUnsafeBytes(of: value) { Array($0) }
                case .bfloat16:
                    let bits = value.bitPattern
                    let rounded = UInt16((bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
                    return withUnsafeBytes(of: rounded) { Array($0) }
                default: return withUnsafeBytes(of: Float16(value)) { Array($0) }
                }
            }
        }
    }

    /// Writes a fixture's checkpoint again as one file, with its tensors and its config.json changed.
    private func rewrite(
        _ model: String, to directory: URL, config: [(String, String)] = [], _ change: (inout [Stored]) throws -> Void
    ) throws {
        let source = Fixtures.url("models/\(model)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let target = directory.appendingPathComponent("config.json")
        try FileManager.default.copyItem(at: source.appendingPathComponent("config.json"), to: target)
        for (old, new) in config { try edit(target, old, new) }
        var tensors: [Stored] = []
        for shard in try CheckpointIndex(directory: source).shards {
            let file = try SafetensorsFile(source.appendingPathComponent(shard.name))
            for entry in file.header.entries {
                tensors.append(
                    Stored(
                        name: entry.name, type: entry.dataType, shape: entry.shape,
                        bytes: file.view(entry).withBytes { Array($0) }))
            }
        }
        try change(&tensors)
        let writer = try SafetensorsWriter(
            directory.appendingPathComponent("model.safetensors"),
            tensors: tensors.map { TensorDescription(name: $0.name, dataType: $0.type, shape: $0.shape) })
        for tensor in tensors { try tensor.bytes.withUnsafeBytes { try writer.append(tensor.name, $0) } }
        try writer.finish()
    }

    private func values(_ view: TensorView) throws -> [Float] {
        try view.withValues { bytes, type in
            Stored(name: "", type: SafetensorsDataType(type), shape: view.shape, bytes: Array(bytes)).floats
        }
    }

    private func all(_ checkpoint: Checkpoint) throws -> [[Float]] {
        try checkpoint.configuration.parameterTensors.map { tensor in
            guard let layer = tensor.layer, let expert = tensor.expert else {
                return try values(checkpoint.tensor(tensor.name))
            }
            let projection = TensorName.Projection.allCases.first {
                TensorName.layer(layer).expert(expert, $0) == tensor.name
            }!
            return try values(checkpoint.expert(layer: layer, expert: expert, projection))
        }
    }

    // MARK: - Where it is

    /// As huggingface_hub makes it: files are links into blobs.
    private func makeCache(in directory: URL) throws -> URL {
        let root = directory.appendingPathComponent("models--org--tiny")
        let snapshot = root.appendingPathComponent("snapshots/0123abcd")
        for path in [root.appendingPathComponent("blobs"), root.appendingPathComponent("refs"), snapshot] {
            try FileManager.default.createDirectory(at: path, withIntermediateDirectories: true)
        }
        let source = Fixtures.url("models/dense_tied_bf16")
        for name in try listing(source) where name != "ref" {
            try FileManager.default.copyItem(
                at: source.appendingPathComponent(name), to: root.appendingPathComponent("blobs/\(name)-blob"))
            try FileManager.default.createSymbolicLink(
                atPath: snapshot.appendingPathComponent(name).path, withDestinationPath: "../../blobs/\(name)-blob")
        }
        try "0123abcd".write(to: root.appendingPathComponent("refs/main"), atomically: true, encoding: .utf8)
        return root
    }

    @Test("a snapshot of the hub's cache is read through its links, and the model's directory leads to it")
    func cache() throws {
        try withTemporaryDirectory { directory in
            let root = try makeCache(in: directory)
            let snapshot = try Checkpoint(directory: root.appendingPathComponent("snapshots/0123abcd"))
            let found = try Checkpoint(directory: root)
            #expect(found.directory.path.hasSuffix("snapshots/0123abcd"))
            #expect(try found.identity() == snapshot.identity())
            #expect(try all(found) == all(Checkpoint(directory: Fixtures.url("models/dense_tied_bf16"))))
            let cache = try #require(checkpointError { _ = try Checkpoint(directory: directory) })
            #expect(cache.description.contains("cache") && cache.description.contains("models--org--tiny"))
            // A second revision, and a main that is not there.
            try "ffff".write(to: root.appendingPathComponent("refs/main"), atomically: true, encoding: .utf8)
            let lost = try #require(checkpointError { _ = try Checkpoint(directory: root) })
            #expect(lost.remedy?.contains("snapshots/0123abcd") == true)
            // A cleaned cache.
            try FileManager.default.removeItem(at: root.appendingPathComponent("blobs/config.json-blob"))
            let link = try #require(
                checkpointError { _ = try Checkpoint(directory: root.appendingPathComponent("snapshots/0123abcd")) })
            #expect(link.message.contains("link") && link.remedy?.contains("fetch") == true)
        }
    }

    @Test("what is no checkpoint directory is named, with what to give instead")
    func otherThings() throws {
        try withTemporaryDirectory { directory in
            func check(_ path: String, _ says: [String], _ location: SourceLocation = #_sourceLocation) throws {
                let url = directory.appendingPathComponent(path)
                let error = try #require(checkpointError(location) { _ = try Checkpoint(directory: url) })
                for text in says {
                    #expect(error.description.contains(text), "\(error)", sourceLocation: location)
                }
            }
            func make(_ path: String, _ text: String = "{}") throws {
                let url = directory.appendingPathComponent(path)
                try FileManager.default.createDirectory(
                    at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
                try text.write(to: url, atomically: true, encoding: .utf8)
            }
            try make("adapter/adapter_config.json", "{\"base_model_name_or_path\": \"Qwen/Qwen3-8B\"}")
            try make("adapter/adapter_model.safetensors")
            try check("adapter", ["adapter", "Qwen/Qwen3-8B", "merge_and_unload"])
            try make("gguf/model-Q4_K_M.gguf")
            try check("gguf", ["GGUF", "apus model import", "model-Q4_K_M.gguf"])
            try check("gguf/model-Q4_K_M.gguf", ["GGUF", "apus model import"])
            try make("whole/config.json")
            try make("whole/model.safetensors")
            try check("whole/model.safetensors", ["is a file", "whole"])
            try check("Qwen/Qwen3-0.6B", ["no such", "hf download Qwen/Qwen3-0.6B"])
            try check("nothing", ["no such", "check the path"])
            try make("parent/final/config.json")
            try make("parent/readme", "")
            try check("parent", ["parent/final"])
            try make("pickled/pytorch_model.bin")
            try FileManager.default.copyItem(
                at: Fixtures.url("models/dense_tied_bf16/config.json"),
                to: directory.appendingPathComponent("pickled/config.json"))
            try check("pickled", ["pytorch_model.bin", "save_pretrained"])
            try FileManager.default.createDirectory(
                at: directory.appendingPathComponent("empty"), withIntermediateDirectories: true)
            try check("empty", ["empty directory"])
        }
    }

    @Test("a Git LFS pointer in place of a file is named", arguments: ["model.safetensors", "config.json"])
    func pointer(_ name: String) throws {
        try withTemporaryDirectory { directory in
            try rewrite("dense_tied_bf16", to: directory) { _ in }
            let text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1503300328\n"
            try text.write(to: directory.appendingPathComponent(name), atomically: true, encoding: .utf8)
            let error = try #require(checkpointError { _ = try Checkpoint(directory: directory) })
            #expect(error.message.contains("Git LFS pointer") && error.message.contains("1503300328"))
            #expect(error.remedy?.contains("git lfs pull") == true && error.file?.hasSuffix(name) == true)
        }
    }

    // MARK: - Element types

    @Test(
        "weights of any float type are read as the type that config.json names",
        arguments: [
            (SafetensorsDataType.float32, "bfloat16"), (.float16, "bfloat16"), (.bfloat16, "float32"),
            (.float32, "float16"), (.bfloat16, "float16"),
        ])
    func otherType(_ stored: SafetensorsDataType, _ configured: String) throws {
        try withTemporaryDirectory { directory in
            var expected: [String: [Float]] = [:]
            try rewrite("dense_untied_fp32", to: directory, config: [("\"float32\"", "\"\(configured)\"")]) { tensors in
                for index in tensors.indices {
                    tensors[index].store(tensors[index].floats, as: stored)
                    var rounded = tensors[index]
                    let type: SafetensorsDataType =
                        ["bfloat16": .bfloat16, "float16": .float16][configured] ?? .float32
                    rounded.store(rounded.floats, as: type)
                    expected[rounded.name] = rounded.floats
                }
            }
            let checkpoint = try Checkpoint(directory: directory)
            #expect(SafetensorsDataType(checkpoint.elementType).rawValue != stored.rawValue)
            #expect(checkpoint.configuration.storageType == checkpoint.elementType)
            #expect(checkpoint.notes.count == 1 && checkpoint.notes[0].contains(stored.rawValue))
            for tensor in checkpoint.configuration.parameterTensors {
                #expect(try values(checkpoint.tensor(tensor.name)) == expected[tensor.name.rawValue], "\(tensor.name)")
            }
            // A copy has them in the type of the model, or the one that is asked for.
            for type in [nil, ElementType.float32] {
                var export = CheckpointExport(checkpoint)
                export.elementType = type
                let copy = directory.appendingPathComponent("copy-\(type == nil)")
                try export.write(to: copy)
                let again = try Checkpoint(directory: copy)
                #expect(again.elementType == type ?? checkpoint.elementType && again.notes.isEmpty)
                #expect(try all(again) == all(checkpoint))
            }
        }
    }

    @Test("single tensors may have a type of their own", arguments: ["norm", "mlp.gate.", "lm_head"])
    func mixed(_ part: String) throws {
        try withTemporaryDirectory { directory in
            var count = 0
            try rewrite("moe_norm_bf16", to: directory) { tensors in
                for index in tensors.indices where tensors[index].name.contains(part) {
                    tensors[index].store(tensors[index].floats, as: .float32)
                    count += 1
                }
            }
            #expect(count > 0)
            let checkpoint = try Checkpoint(directory: directory)
            #expect(checkpoint.elementType == .bfloat16 && checkpoint.notes.count == 1)
            #expect(try all(checkpoint) == all(Checkpoint(directory: Fixtures.url("models/moe_norm_bf16"))))
        }
    }

    @Test("without a type in config.json the first weight by name decides, as in transformers")
    func noType() throws {
        try withTemporaryDirectory { directory in
            try rewrite("moe_norm_bf16", to: directory, config: [("\"torch_dtype\"", "\"x_dtype\"")]) { tensors in
                for index in tensors.indices where tensors[index].name == "lm_head.weight" {
                    tensors[index].store(tensors[index].floats, as: .float32)
                }
            }
            #expect(try Checkpoint(directory: directory).elementType == .float32)
        }
    }

    @Test("FP8 with block scales is dequantised: value times the factor of its block, then rounded")
    func float8() throws {
        // Blocks of 16 x 32 over matrices whose last blocks are cut off.
        let quantization =
            "\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"activation_scheme\": \"dynamic\", "
            + "\"weight_block_size\": [16, 32], \"modules_to_not_convert\": [\"lm_head\"]}, \"use_cache\""
        try withTemporaryDirectory { directory in
            var expected: [String: [Float]] = [:]
            try rewrite("dense_tied_bf16", to: directory, config: [("\"use_cache\"", quantization)]) { tensors in
                var scales: [Stored] = []
                for index in tensors.indices where tensors[index].name.contains("proj.weight") {
                    var tensor = tensors[index]
                    let (rows, columns) = (tensor.shape[0], tensor.shape[1])
                    let grid = [(rows + 15) / 16, (columns + 31) / 32]
                    let factors = (0..<grid[0] * grid[1]).map { Float($0 % 7 + 1) * 0.013 }
                    tensor.type = .float8E4M3
                    tensor.bytes = (0..<rows * columns).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 11) }
                        .map { $0 & 127 == 127 ? 0 : $0 }
                    var result = tensor
                    result.store(
                        tensor.bytes.enumerated().map { place, bits in
                            let block = place / columns / 16 * grid[1] + place % columns / 32
                            return Self.e4m3(bits) * factors[block]
                        }, as: .bfloat16)
                    expected[tensor.name] = result.floats
                    tensors[index] = tensor
                    var scale = Stored(name: tensor.name + "_scale_inv", type: .float32, shape: grid, bytes: [])
                    scale.store(factors, as: .float32)
                    scales.append(scale)
                }
                tensors += scales
            }
            let checkpoint = try Checkpoint(directory: directory)
            #expect(checkpoint.elementType == .bfloat16)
            #expect(checkpoint.notes.contains { $0.contains("FP8") && $0.contains("dequantised") })
            #expect(!expected.isEmpty)
            for (name, wanted) in expected {
                let view = try checkpoint.tensor(TensorName(name))
                #expect(try values(view) == wanted, "\(name)")
                // Rows of a matrix have the factors of their own blocks.
                let part = view.rows(17..<20)
                #expect(try values(part) == Array(wanted[17 * view.shape[1]..<20 * view.shape[1]]))
            }
            let copy = directory.appendingPathComponent("copy")
            try CheckpointExport(checkpoint).write(to: copy)
            #expect(try all(Checkpoint(directory: copy)) == all(checkpoint))
            let config = directory.appendingPathComponent("config.json")
            try edit(config, "\"fp8\"", "\"gptq\"")
            let other = try #require(checkpointError { _ = try Checkpoint(directory: directory) })
            #expect(other.message.contains("quantization_config") && other.code == .unsupportedConfiguration)
        }
    }

    private static func e4m3(_ bits: UInt8) -> Float {
        let (exponent, fraction) = (Int(bits >> 3 & 15), Float(bits & 7) / 8)
        let magnitude =
            exponent == 0
            ? fraction * 0x1p-6 : (1 + fraction) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
        return bits & 128 == 0 ? magnitude : -magnitude
    }

    // MARK: - Heads, names and index

    @Test(
        "a stored head that differs is used although config.json ties it; an equal one, or one alone, is the embedding")
    func tiedHeads() throws {
        try withTemporaryDirectory { directory in
            let differing = directory.appendingPathComponent("differing")
            try rewrite("dense_tied_bf16", to: differing) { tensors in
                let head = tensors.firstIndex { $0.name == "lm_head.weight" }!
                // The last element alone.
                tensors[head].bytes[tensors[head].bytes.count - 2] ^= 1
            }
            let checkpoint = try Checkpoint(directory: differing)
            #expect(!checkpoint.configuration.tieWordEmbeddings && !checkpoint.storesRedundantHead)
            #expect(checkpoint.configuration.headName == .head)
            #expect(try values(checkpoint.tensor(.head)) != values(checkpoint.tensor(.embedding)))
            #expect(checkpoint.notes.count == 1 && checkpoint.notes[0].contains("lm_head.weight"))
            let copy = directory.appendingPathComponent("copy")
            try CheckpointExport(checkpoint).write(to: copy)
            let again = try Checkpoint(directory: copy)
            #expect(!again.configuration.tieWordEmbeddings && again.notes.isEmpty)
            #expect(try all(again) == all(checkpoint))

            let original = try Checkpoint(directory: Fixtures.url("models/dense_tied_bf16"))
            #expect(original.configuration.tieWordEmbeddings && original.notes.isEmpty)
            let alone = directory.appendingPathComponent("alone")
            try rewrite("dense_tied_bf16", to: alone) { $0.removeAll { $0.name == "model.embed_tokens.weight" } }
            let head = try Checkpoint(directory: alone)
            #expect(head.configuration.tieWordEmbeddings && head.notes.isEmpty)
            #expect(try all(head) == all(original))
            #expect(try values(head.tensor(.head)) == values(original.tensor(.head)))
        }
    }

    @Test("a body alone is a tied model, or says that it lacks a head and what it is good for")
    func bodies() throws {
        try withTemporaryDirectory { directory in
            func body(_ model: String, _ name: String) throws -> URL {
                let target = directory.appendingPathComponent(name)
                try rewrite(model, to: target, config: [("ForCausalLM", "Model")]) { tensors in
                    tensors.removeAll { $0.name == "lm_head.weight" }
                    for index in tensors.indices {
                        tensors[index].name = String(tensors[index].name.dropFirst("model.".count))
                    }
                }
                return target
            }
            let tied = try Checkpoint(directory: body("dense_tied_bf16", "tied"))
            #expect(try all(tied) == all(Checkpoint(directory: Fixtures.url("models/dense_tied_bf16"))))
            let untied = try body("dense_untied_fp32", "untied")
            let error = try #require(checkpointError { _ = try Checkpoint(directory: untied) })
            #expect(error.tensor == "lm_head.weight" && error.message.contains("embedding models"))
            #expect(error.remedy?.contains("reward model") == true)
            #expect(try Checkpoint(directory: untied, freshHeadSeed: 1).configuration.isRewardModel)
        }
    }

    @Test(
        "a wrapper's prefix is named with what to do",
        arguments: [
            ("base_model.model.", "merge_and_unload"), ("_orig_mod.", "torch.compile"), ("module.", "parallel"),
            ("language_model.", "larger model"), ("model.language_model.", "larger model"), ("student.", "wraps"),
        ])
    func prefixes(_ prefix: String, _ remedy: String) throws {
        try withTemporaryDirectory { directory in
            try rewrite("dense_untied_fp32", to: directory) { tensors in
                for index in tensors.indices { tensors[index].name = prefix + tensors[index].name }
            }
            let error = try #require(checkpointError { _ = try Checkpoint(directory: directory) })
            #expect(error.message.contains("prefix '\(prefix)'"), "\(error)")
            #expect(error.remedy?.contains(remedy) == true, "\(error)")
        }
    }

    @Test("an index that is behind its files does no harm; a path that leads elsewhere is refused")
    func staleIndex() throws {
        let name = "model.safetensors.index.json"
        let source = Fixtures.url("models/moe_norm_bf16")
        try withTemporaryDirectory { directory in
            func open(_ old: String, _ new: String) throws -> Checkpoint {
                let copy = directory.appendingPathComponent(UUID().uuidString)
                try copyFiles(of: source, to: copy)
                try edit(
                    copy.appendingPathComponent(name), old, new.replacingOccurrences(of: "HERE", with: copy.path))
                return try Checkpoint(directory: copy)
            }
            let expected = try all(Checkpoint(directory: source))
            for (old, new) in [
                ("\"total_size\": 540928", "\"total_size\": 540926"),
                ("\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"./model-00003"),
                ("\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"HERE/model-00003"),
                ("\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"model-00001"),
                ("\"weight_map\": {", "\"weight_map\": {\"x\": \"model-00001-of-00003.safetensors\","),
            ] {
                #expect(try all(open(old, new)) == expected, "\(new)")
            }
            for path in ["/elsewhere/model-00003", "../model-00003", "sub/model-00003"] {
                let error = try #require(
                    checkpointError {
                        _ = try open(
                            "\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"\(path)")
                    })
                #expect(error.code == .malformedJSON && error.message.contains(path))
            }
        }
    }

    @Test("some layers' experts fused and others' not give the same bytes")
    func partlyFused() throws {
        try withTemporaryDirectory { directory in
            try rewrite("moe_norm_bf16", to: directory) { tensors in
                let prefix = "model.layers.1.mlp.experts."
                func part(_ expert: Int, _ projection: String) -> Stored {
                    tensors.first { $0.name == "\(prefix)\(expert).\(projection)_proj.weight" }!
                }
                let (gate, down) = (part(0, "gate").shape, part(0, "down").shape)
                let gateUp = (0..<8).flatMap { part($0, "gate").bytes + part($0, "up").bytes }
                let downs = (0..<8).flatMap { part($0, "down").bytes }
                tensors.removeAll { $0.name.hasPrefix(prefix) }
                tensors.append(
                    Stored(
                        name: prefix + "gate_up_proj", type: .bfloat16, shape: [8, 2 * gate[0], gate[1]], bytes: gateUp)
                )
                tensors.append(Stored(name: prefix + "down_proj", type: .bfloat16, shape: [8] + down, bytes: downs))
            }
            let checkpoint = try Checkpoint(directory: directory)
            #expect(checkpoint.expertLayout == .mixed)
            #expect(try all(checkpoint) == all(Checkpoint(directory: Fixtures.url("models/moe_norm_bf16"))))
        }
    }
}
