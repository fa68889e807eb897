// SPDX-License-Identifier: Apache-2.0
import Foundation
import Tensors
import TestSupport
import Testing

import struct RuntimeSupport.SplitMix64

@testable import Checkpoints

@Suite("GGUF import")
struct GGUFImportTests {
    /// What make_fixtures.py wrote down of one of its files.
    struct Expected: Decodable {
        struct Encoding: Decodable {
            let text: String
            let ids: [Int]
        }
        let weights: [String: String]
        let encodings: [Encoding]
    }

    struct Block: Decodable {
        let code: UInt32
        let sha256: String
        let first: [Float]
    }

    static let models = ["llama", "llama-tied", "qwen2", "qwen3", "qwen3moe"]

    private static func url(_ model: String) -> URL {
        Fixtures.url("gguf/\(model)\(model == "qwen2" ? "-00001-of-00003" : "").gguf")
    }

    private func expected(_ model: String) throws -> Expected {
        try JSONDecoder().decode(Expected.self, from: Data(contentsOf: Fixtures.url("gguf/\(model).json")))
    }

    private func json(_ directory: URL, _ name: String) throws -> JSONValue {
        try JSONValue.read(directory.appendingPathComponent(name), limit: 1 << 24)
    }

    @Test("blocks of every type become the numbers of the gguf package, byte for byte")
    func blocks() throws {
        let table = try JSONDecoder().decode(
            [String: Block].self, from: Data(contentsOf: Fixtures.url("gguf/blocks.json")))
        #expect(Set(table.keys) == Set(GGUFTensorType.readable.map(\.name)))
        for type in GGUFTensorType.readable {
            let block = try #require(table[type.name])
            #expect(block.code == type.rawValue)
            let bytes = try Array(Data(contentsOf: Fixtures.url("gguf/\(type.name).blocks")))
            var values = [Float](repeating: 0, count: bytes.count / type.blockByteCount * type.blockElementCount)
            bytes.withUnsafeBytes { source in
                values.withUnsafeMutableBufferPointer { GGUFBlocks.decode(type, source, into: $0) }
            }
            #expect(Array(values.prefix(8)) == block.first, "\(type.name)")
            #expect(values.withUnsafeBytes { ContentHash(of: $0) }.hexadecimal == block.sha256, "\(type.name)")
        }
    }

    @Test(
        "weights in fp32 are those of the gguf package under the checkpoint's names, byte for byte", arguments: models)
    func weights(_ model: String) throws {
        try withTemporaryDirectory { directory in
            let target = directory.appendingPathComponent("m")
            var conversion = try GGUFImport(GGUFFile(Self.url(model)))
            conversion.elementType = .float32
            conversion.shardByteCountMax = 40_000
            try conversion.write(to: target)
            let index = try CheckpointIndex(directory: target)
            let expected = try expected(model).weights
            #expect(Set(index.tensorNames) == Set(expected.keys))
            #expect(index.shards.count > 1)
            for name in index.tensorNames {
                let (shard, entry) = try #require(index.locate(name))
                let file = try SafetensorsFile(target.appendingPathComponent(index.shards[shard].name))
                let hash = file.view(entry).withBytes { ContentHash(of: $0) }
                #expect(hash.hexadecimal == expected[name], "\(name)")
            }
        }
    }

    @Test("weights in bf16 are the fp32 ones rounded to nearest even", arguments: ["llama", "qwen3moe"])
    func rounding(_ model: String) throws {
        try withTemporaryDirectory { directory in
            var files: [SafetensorsFile] = []
            for type in [ElementType.float32, .bfloat16] {
                var conversion = try GGUFImport(GGUFFile(Self.url(model)))
                conversion.elementType = type
                try conversion.write(to: directory.appendingPathComponent(type.rawValue))
                files.append(
                    try SafetensorsFile(directory.appendingPathComponent("\(type.rawValue)/model.safetensors")))
            }
            #expect(files[0].tensorNames == files[1].tensorNames)
            for name in files[0].tensorNames {
                let exact = try files[0].tensor(name).withBytes { Array($0.bindMemory(to: Float.self)) }
                let rounded = try files[1].tensor(name).withBytes { Array($0.bindMemory(to: UInt16.self)) }
                #expect(exact.map(RandomWeights.bfloat16Bits) == rounded, "\(name)")
            }
        }
    }

    @Test("tokenizer.json is what the tokenizers library writes for the same vocabulary", arguments: models)
    func tokenizer(_ model: String) throws {
        try withTemporaryDirectory { directory in
            let target = directory.appendingPathComponent("m")
            try GGUFImport(GGUFFile(Self.url(model))).write(to: target)
            func sorted(_ value: JSONValue) -> String {
                var value = value
                // The library writes merges as pairs now; both forms are read everywhere.
                if case .object(var members) = value {
                    members = members.map { member in
                        guard member.key == "model", case .object(let parts) = member.value else { return member }
                        return .init(
                            "model",
                            .object(
                                parts.map { part in
                                    guard part.key == "merges", case .array(let merges) = part.value else {
                                        return part
                                    }
                                    return .init(
                                        "merges",
                                        .array(
                                            merges.map { merge in
                                                guard case .array(let pair) = merge, case .string(let a) = pair[0],
                                                    case .string(let b) = pair[1]
                                                else { return merge }
                                                return .string("\(a) \(b)")
                                            }))
                                }))
                    }
                    value = .object(members)
                }
                return value.prettyPrinted()
            }
            let made = try json(target, "tokenizer.json")
            let theirs = try JSONValue.read(Fixtures.url("gguf/\(model).tokenizer.json"), limit: 1 << 24)
            #expect(sorted(made) == sorted(theirs))
        }
    }

    @Test("config.json and its neighbours say what the metadata say")
    func configurations() throws {
        try withTemporaryDirectory { directory in
            var files: [String: JSONValue] = [:]
            for model in Self.models {
                let target = directory.appendingPathComponent(model)
                try GGUFImport(GGUFFile(Self.url(model))).write(to: target)
                for name in ["config.json", "generation_config.json", "tokenizer_config.json"] {
                    files["\(model)/\(name)"] = try json(target, name)
                }
            }
            func check(_ file: String, _ key: String, _ value: JSONValue?) {
                #expect(files[file]?[key] == value, "\(file) \(key)")
            }
            check("llama/config.json", "model_type", .string("llama"))
            check("llama/config.json", "architectures", .array([.string("LlamaForCausalLM")]))
            check("llama/config.json", "rms_norm_eps", .real(1e-5))
            check("llama/config.json", "eos_token_id", .array([.integer(274), .integer(275)]))
            check("llama/config.json", "bos_token_id", .integer(273))
            check("llama/config.json", "tie_word_embeddings", .bool(false))
            check("llama/config.json", "torch_dtype", .string("bfloat16"))
            check("llama/config.json", "vocab_size", .integer(280))
            let scaling = files["llama/config.json"]?["rope_scaling"]
            #expect(scaling?["rope_type"] == .string("llama3"))
            #expect(scaling?["factor"] == .real(32))
            #expect(scaling?["high_freq_factor"] == .real(4))
            #expect(scaling?["original_max_position_embeddings"] == .integer(8_192))
            check("llama-tied/config.json", "tie_word_embeddings", .bool(true))
            check("llama-tied/config.json", "rope_scaling", .null)
            check("llama-tied/config.json", "pad_token_id", .integer(2))
            check("llama-tied/tokenizer_config.json", "add_bos_token", .bool(true))
            check("llama-tied/tokenizer_config.json", "unk_token", .string("<|endoftext|>"))
            check("qwen2/config.json", "head_dim", nil)
            check("qwen2/config.json", "vocab_size", .integer(283))
            check("qwen2/tokenizer_config.json", "add_bos_token", .bool(false))
            check("qwen3/config.json", "head_dim", .integer(32))
            check("qwen3/generation_config.json", "temperature", .real(0.6))
            check("qwen3/generation_config.json", "top_k", .integer(20))
            check("qwen3moe/config.json", "model_type", .string("qwen3_moe"))
            check("qwen3moe/config.json", "num_experts", .integer(4))
            check("qwen3moe/config.json", "moe_intermediate_size", .integer(64))
            for model in Self.models {
                guard case .string(let template)? = files["\(model)/tokenizer_config.json"]?["chat_template"] else {
                    Issue.record("\(model) has no template")
                    continue
                }
                #expect(template.hasPrefix("{% for message in messages %}"))
            }
            // The families that are read as they are: a checkpoint of ours.
            for model in ["qwen3", "qwen3moe"] {
                _ = try Checkpoint(directory: directory.appendingPathComponent(model))
            }
        }
    }

    @Test("a split model wants its first part, and all of them")
    func splitModels() throws {
        try withTemporaryDirectory { directory in
            func part(_ number: Int) -> String { "qwen2-0000\(number)-of-00003.gguf" }
            for number in 1...3 {
                try FileManager.default.copyItem(
                    at: Fixtures.url("gguf/\(part(number))"), to: directory.appendingPathComponent(part(number)))
            }
            func error(_ name: String) throws -> String {
                try #require(checkpointError { _ = try GGUFFile(directory.appendingPathComponent(name)) }).description
            }
            #expect(try GGUFFile(directory.appendingPathComponent(part(1))).partCount == 3)
            #expect(try error(part(2)).contains("is one of the 3 parts of a split model"))
            let other = directory.appendingPathComponent("model.gguf")
            try FileManager.default.copyItem(at: directory.appendingPathComponent(part(1)), to: other)
            #expect(try error("model.gguf").contains("give the first one, whose name ends in -00001-of-00003.gguf"))
            try FileManager.default.removeItem(at: directory.appendingPathComponent(part(3)))
            #expect(try error(part(1)).contains("no such file"))
            try FileManager.default.copyItem(
                at: directory.appendingPathComponent(part(2)), to: directory.appendingPathComponent(part(3)))
            #expect(try error(part(1)).contains("is not part 3 of 3"))
        }
    }

    /// What is not read, and what must be said of it.
    struct Foreign: CustomTestStringConvertible, Sendable {
        let name: String
        let says: String
        let model: String
        /// Text of the model's file and as many bytes of another in its place.
        let change: (String, String)
        var testDescription: String { name }

        init(_ name: String, _ says: String, _ old: String, _ new: String, in model: String = "llama-tied") {
            (self.name, self.says, self.model, change) = (name, says, model, (old, new))
        }
    }

    static let foreign = [
        Foreign("another architecture", "the architecture \"gemma\" is not read", "llama", "gemma"),
        Foreign("another tokenizer", "a tokenizer of the kind \"bert\" is not read", "gpt2", "bert"),
        Foreign("another pre-tokenizer", "the pre-tokenizer \"falcon\" is not read", "smollm", "falcon"),
        Foreign(
            "no pre-tokenizer", "the metadata lack 'tokenizer.ggml.pre'", "tokenizer.ggml.pre", "tokenizer.ggml.prx"),
        Foreign(
            "a further tensor", "is no weight of this architecture", "rope_freqs.weight", "rope_frogs.weight",
            in: "llama"),
        Foreign("no embedding", "has no matrix 'token_embd.weight'", "token_embd.weight", "token_embx.weight"),
        Foreign("a merge of no token", "which is no token", "Ġt h", "Ġt \u{17}h"),
    ]

    @Test("what is not read is refused by name, and nothing is left", arguments: foreign)
    func refusals(_ foreign: Foreign) throws {
        try withTemporaryDirectory { directory in
            var bytes = try Array(Data(contentsOf: Self.url(foreign.model)))
            let (old, new) = (Array(foreign.change.0.utf8), Array(foreign.change.1.utf8))
            var position = 0
            while position + old.count <= bytes.count {
                if bytes[position..<position + old.count].elementsEqual(old) {
                    bytes.replaceSubrange(position..<position + old.count, with: new.prefix(old.count))
                }
                position += 1
            }
            let url = directory.appendingPathComponent("x.gguf")
            try Data(bytes).write(to: url)
            let target = directory.appendingPathComponent("m")
            let error = try #require(
                checkpointError { try GGUFImport(GGUFFile(url)).write(to: target) }
            ).description
            #expect(error.contains(foreign.says), "\(error)")
            #expect(error.contains("; "), "says what to do: \(error)")
            #expect(try listing(directory) == ["x.gguf"])
        }
    }

    @Test("types that are not decoded are named, and the file can still be looked at")
    func unreadableTypes() throws {
        try withTemporaryDirectory { directory in
            for type in GGUFTensorType.allCases where !type.isReadable {
                var bytes = try Array(Data(contentsOf: Self.url("llama-tied")))
                // The type of the first tensor stands after its name, the number of its extents and the extents.
                let name = Array("token_embd.weight".utf8)
                let start = try #require(
                    (0..<bytes.count - name.count).first { bytes[$0..<$0 + name.count].elementsEqual(name) })
                let place = start + name.count + 4 + 16
                bytes.replaceSubrange(place..<place + 4, with: GGUFBytes.little(type.rawValue))
                let url = directory.appendingPathComponent("\(type.name).gguf")
                try Data(bytes).write(to: url)
                // Rows of 64 are no whole blocks of the larger types: those are refused already as damaged.
                let error = try #require(checkpointError { _ = try GGUFImport(GGUFFile(url)) }).description
                #expect(error.contains(type.name), "\(error)")
            }
        }
    }

    @Test("a damaged file becomes a checkpoint or an error, and no error leaves anything")
    func damaged() throws {
        try withTemporaryDirectory { directory in
            var random = SplitMix64(seed: 7)
            var refused = 0
            for round in 0..<400 {
                let model = ["llama", "llama-tied", "qwen3"][round % 3]
                var bytes = try Array(Data(contentsOf: Self.url(model)))
                let end = try bytes.withUnsafeBytes { try GGUFHeader($0, file: "f") }.tensors
                    .map(\.dataRange.lowerBound).min()!
                for _ in 0..<random.pick(1...3) {
                    let place = random.pick(0...end - 1)
                    // Near values find the edges of counts, types and kinds; far ones everything else.
                    bytes[place] =
                        random.happens(oneIn: 2)
                        ? bytes[place] &+ UInt8(random.pick(1...4)) &- 2 : UInt8(truncatingIfNeeded: random.next())
                }
                let url = directory.appendingPathComponent("x.gguf")
                try Data(bytes).write(to: url)
                let target = directory.appendingPathComponent("m")
                do {
                    let source = try GGUFFile(url)
                    _ = try GGUFSummary(source)
                    try GGUFImport(source).write(to: target)
                    try FileManager.default.removeItem(at: target)
                } catch let error as CheckpointError {
                    refused += 1
                    #expect(!error.description.isEmpty)
                    #expect(try listing(directory) == ["x.gguf"], "\(error)")
                }
            }
            #expect(refused > 40 && refused < 400)
        }
    }

    @Test("the tokenizer of a directory takes the place of the file's own")
    func givenTokenizer() throws {
        try withTemporaryDirectory { directory in
            var conversion = try GGUFImport(GGUFFile(Self.url("llama-tied")))
            conversion.tokenizerDirectory = Fixtures.url("tokenizer/small")
            let target = directory.appendingPathComponent("m")
            try conversion.write(to: target)
            #expect(
                try Data(contentsOf: target.appendingPathComponent("tokenizer.json"))
                    == Data(contentsOf: Fixtures.url("tokenizer/small/tokenizer.json")))
            let again = try #require(checkpointError { try conversion.write(to: target) })
            #expect(again.code == .targetExists)
        }
    }

    @Test("the four numbers of Llama 3's scaling come back from the factors", arguments: [64, 128])
    func llama3Factors(_ headSize: Int) throws {
        try withTemporaryDirectory { directory in
            for (factor, high, original) in [(8.0, 4.0, 8_192), (32, 4, 8_192), (4, 8, 4_096), (2, 3, 1_000)] {
                var file = GGUFBytes()
                file.key("general.architecture", "llama")
                for (name, value) in [
                    ("block_count", 1), ("embedding_length", headSize), ("attention.head_count", 1),
                    ("context_length", 100), ("feed_forward_length", 4),
                ] { file.key("llama.\(name)", UInt32(value)) }
                file.key("llama.attention.layer_norm_rms_epsilon", Float(1e-5))
                file.key("llama.rope.freq_base", Float(500_000))
                let factors = (0..<headSize / 2).map { index -> Float in
                    let wavelength = 2 * Double.pi * pow(500_000, Double(2 * index) / Double(headSize))
                    let turns = Double(original) / wavelength
                    if turns > high { return 1 }
                    if turns < 1 { return Float(factor) }
                    let smooth = (turns - 1) / (high - 1)
                    return Float(1 / ((1 - smooth) / factor + smooth))
                }
                file.tensor("rope_freqs.weight", [UInt64(headSize / 2)], offset: 0)
                file.tensor("token_embd.weight", [UInt64(headSize), 1], offset: 512)
                file.data = factors.flatMap { GGUFBytes.little($0.bitPattern) }
                file.data += Array(repeating: 0, count: 512 - file.data.count + headSize * 4)
                let url = directory.appendingPathComponent("\(factor)-\(original).gguf")
                try Data(file.bytes).write(to: url)
                let source = try GGUFFile(url)
                let scaling = try GGUFRotary.scaling(source, .llama, GGUFShape(source, .llama))
                #expect(scaling["factor"] == .real(factor))
                #expect(scaling["high_freq_factor"] == .real(high))
                #expect(scaling["original_max_position_embeddings"] == .integer(original))
            }
        }
    }
}
