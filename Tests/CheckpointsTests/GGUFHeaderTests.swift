// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import Checkpoints

@Suite("GGUF headers")
struct GGUFHeaderTests {
    private func parse(_ bytes: [UInt8]) throws -> GGUFHeader {
        try bytes.withUnsafeBytes { try GGUFHeader($0, file: "f.gguf") }
    }

    private func file(_ change: (inout GGUFBytes) -> Void) -> [UInt8] {
        var file = GGUFBytes()
        file.key("general.architecture", "llama")
        file.tensor("a", [4], offset: 0)
        file.data = Array(repeating: 1, count: 64)
        change(&file)
        return file.bytes
    }

    @Test("a file is read as the gguf package wrote it")
    func readsAFile() throws {
        let header = try parse(Array(Data(contentsOf: Fixtures.url("gguf/llama.gguf"))))
        #expect(header.version == 3)
        let embedding = try #require(header.tensors.first { $0.name == "token_embd.weight" })
        #expect(embedding.type == .q80)
        #expect(embedding.shape == [280, 64])
        #expect(header["llama.attention.layer_norm_rms_epsilon"] == .real(1e-5))
    }

    /// A file that must be refused, and what must be said of it.
    struct Hostile: CustomTestStringConvertible, Sendable {
        let name: String
        let says: String
        let change: @Sendable (inout GGUFBytes) -> Void
        var testDescription: String { name }

        init(_ name: String, _ says: String, _ change: @escaping @Sendable (inout GGUFBytes) -> Void) {
            (self.name, self.says, self.change) = (name, says, change)
        }
    }

    static let hostile: [Hostile] = [
        Hostile("another format", "does not begin with \"GGUF\"") { $0.magic = "GGML" },
        Hostile("version 1", "version 1 of the format") { $0.version = 1 },
        Hostile("big-endian", "the file is big-endian") { $0.version = UInt32(3).byteSwapped },
        Hostile("version 99", "version 99 of the format") { $0.version = 99 },
        Hostile("2^60 tensors", "the number of tensors is 1152921504606846976") { $0.tensorCount = 1 << 60 },
        Hostile("2^64 - 1 keys", "the number of metadata is 18446744073709551615") { $0.keyCount = .max },
        Hostile("a key twice", "the key 'general.architecture' occurs twice") { $0.key("general.architecture", "x") },
        Hostile("a text of 2^62 bytes", "the length of 'k' is 4611686018427387904") {
            $0.key("k", kind: 8, GGUFBytes.little(UInt64(1) << 62))
        },
        Hostile("an array of 2^61 numbers", "the number of elements of 'k' is 2305843009213693952") {
            $0.key("k", kind: 9, GGUFBytes.little(UInt32(5)) + GGUFBytes.little(UInt64(1) << 61))
        },
        Hostile("an array of arrays", "'k' is an array of arrays") {
            $0.key("k", kind: 9, GGUFBytes.little(UInt32(9)) + GGUFBytes.little(UInt64(1)))
        },
        Hostile("an unknown type of value", "the type of 'k' is 13, known are 0 to 12") { $0.key("k", kind: 13, []) },
        Hostile("a bool of 2", "'k' should be 0 or 1, not 2") { $0.key("k", kind: 7, [2]) },
        Hostile("a key that is not UTF-8", "a key of the metadata is not UTF-8") { file in
            file.key("k", "v")
            file.replaceLastKey([1, 0, 0, 0, 0, 0, 0, 0, 0xFF, 7, 0, 0, 0, 1])
        },
        Hostile("a tensor twice", "tensor 'a': byte") { $0.tensor("a", [4], offset: 32) },
        Hostile("no extents", "has 0 extents, expected 1 to 4") { $0.tensor("b", [], offset: 32) },
        Hostile("five extents", "has 5 extents, expected 1 to 4") { $0.tensor("b", [1, 1, 1, 1, 1], offset: 32) },
        Hostile("an extent of zero", "has an extent of 0") { $0.tensor("b", [4, 0], offset: 32) },
        Hostile("a product that overflows", "or too large") { $0.tensor("b", [1 << 40, 1 << 40], offset: 32) },
        Hostile("an extent of 2^63", "has an extent of 9223372036854775808") { $0.tensor("b", [1 << 63], offset: 32) },
        Hostile("a row of half a block", "is no whole number of blocks of 32") {
            $0.tensor("b", [16], type: 2, offset: 32)
        },
        Hostile("an unknown type", "has the unknown type 77") { $0.tensor("b", [4], type: 77, offset: 32) },
        Hostile("a removed type", "newer versions of the format no longer have") {
            $0.tensor("b", [4], type: 31, offset: 32)
        },
        Hostile("an offset between", "no multiple of the alignment 32") { $0.tensor("b", [4], offset: 20) },
        Hostile("data past the end", "needs 16 bytes from 64 of the data, which has 64") {
            $0.tensor("b", [4], offset: 64)
        },
        Hostile("an offset of 2^64 - 32", "of the data, which has 64") { $0.tensor("b", [4], offset: .max - 31) },
        Hostile("an overlap", "its data overlap those of 'a'") { $0.tensor("b", [4], offset: 0) },
        Hostile("an alignment of 24", "'general.alignment' is the integer 24") {
            $0.key("general.alignment", UInt32(24))
        },
        Hostile("an alignment of 0", "'general.alignment' is the integer 0") { $0.key("general.alignment", UInt32(0)) },
        Hostile("an alignment of 2^31", "'general.alignment' is the integer 2147483648") {
            $0.key("general.alignment", UInt32(1) << 31)
        },
    ]

    @Test("hostile files are refused before memory is taken, with the reason", arguments: hostile)
    func refuses(_ hostile: Hostile) throws {
        let bytes = file(hostile.change)
        let error = try #require(checkpointError { _ = try parse(bytes) })
        #expect(error.description.contains(hostile.says), "\(error)")
        #expect(error.remedy != nil, "\(error)")
    }

    @Test("a pointer of Git LFS is told")
    func pointerFile() throws {
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
        let error = try #require(checkpointError { _ = try parse(Array(text.utf8)) })
        #expect(error.description.contains("pointer of Git LFS"))
    }

    @Test("a file that ends early is refused wherever it ends")
    func truncated() throws {
        let whole = try Array(Data(contentsOf: Fixtures.url("gguf/llama.gguf")))
        let headerEnd = try #require(parse(whole).tensors.map(\.dataRange.lowerBound).min())
        for count in Array(stride(from: 0, to: headerEnd, by: 37)) + [headerEnd, whole.count - 1] {
            let error = try #require(checkpointError { _ = try parse(Array(whole.prefix(count))) })
            #expect(error.code == .malformedFile, "\(count): \(error)")
        }
    }

    @Test("a damaged file is refused or read, and its tensors lie within it")
    func damaged() throws {
        let whole = try Array(Data(contentsOf: Fixtures.url("gguf/llama-tied.gguf")))
        let headerEnd = try #require(parse(whole).tensors.map(\.dataRange.lowerBound).min())
        var random = SplitMix64(seed: 3)
        for _ in 0..<2_000 {
            var bytes = whole
            for _ in 0..<random.pick(1...4) {
                bytes[random.pick(0...headerEnd - 1)] = UInt8(truncatingIfNeeded: random.next())
            }
            guard let header = try? parse(bytes) else { continue }
            for tensor in header.tensors { #expect(tensor.dataRange.upperBound <= bytes.count) }
        }
    }
}
