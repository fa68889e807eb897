// SPDX-License-Identifier: Apache-2.0
import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite("safetensors files")
struct SafetensorsFileTests {
    /// One case of verdicts.json, of the safetensors library 0.8.0.
    struct Verdict: CustomTestStringConvertible, Sendable {
        let name: String
        let file: String
        /// Nil when the library refuses the file.
        let tensors: [String]?
        let metadata: [String: String]?
        var testDescription: String { name }
    }

    static let verdicts: [Verdict] = {
        let url = Fixtures.url("safetensors_files/verdicts.json")
        guard let data = try? Data(contentsOf: url),
            let json = try? JSONSerialization.jsonObject(with: data) as? [String: Any],
            let cases = json["cases"] as? [[String: Any]]
        else { return [] }
        return cases.compactMap { item in
            guard let name = item["name"] as? String, let file = item["file"] as? String,
                let deserialize = item["deserialize"] as? [String: Any],
                let isTaken = deserialize["ok"] as? Bool,
                let safeOpen = item["safe_open"] as? [String: Any], safeOpen["ok"] as? Bool == isTaken
            else { return nil }
            let tensors = (deserialize["tensors"] as? [[Any]])?.map { entry in
                "\(entry[0]) \(entry[1]) \((entry[2] as? [Int]) ?? [])"
            }
            return Verdict(
                name: name, file: file, tensors: isTaken ? tensors ?? [] : nil,
                metadata: safeOpen["metadata"] as? [String: String])
        }
    }()

    @Test("the verdicts are all read")
    func verdictsAreRead() throws {
        let files = try listing(Fixtures.url("safetensors_files")).filter { $0.hasSuffix(".safetensors") }
        #expect(Set(Self.verdicts.map(\.file)) == Set(files))
        #expect(Self.verdicts.contains { $0.tensors == nil } && Self.verdicts.contains { $0.tensors != nil })
    }

    @Test("takes and refuses what the library takes and refuses", arguments: verdicts)
    func verdict(_ verdict: Verdict) throws {
        let url = Fixtures.url("safetensors_files/\(verdict.file)")
        guard let tensors = verdict.tensors else {
            for attempt in 0..<2 {
                let error = checkpointError {
                    if attempt == 0 {
                        _ = try SafetensorsFile(url)
                    } else {
                        _ = try SafetensorsFile.readHeader(url)
                    }
                }
                #expect(error?.code == .malformedFile)
                #expect(error?.description.hasPrefix(url.path) == true && error?.remedy != nil)
            }
            return
        }
        let file = try SafetensorsFile(url)
        let found = file.header.entries.map { "\($0.name) \($0.dataType.rawValue) \($0.shape)" }
        #expect(found == tensors.sorted())
        let metadata = Dictionary(uniqueKeysWithValues: file.header.metadata.map { ($0.key, $0.value) })
        #expect(metadata == verdict.metadata ?? [:])
        for name in file.tensorNames {
            let view = try file.tensor(name)
            view.withBytes { #expect($0.count == view.byteCount) }
            view.dropPages()
        }
    }

    @Test("lends the bytes of each tensor, whatever their order in the file")
    func bytes() throws {
        let file = try SafetensorsFile(
            Fixtures.url("safetensors_files/ok_offsets_not_in_key_order.safetensors"))
        #expect(try file.tensor("b").withBytes { Array($0) } == [0x01, 0x26])
        #expect(try file.tensor("a").withBytes { Array($0) } == [0x4B, 0x70])
        #expect(checkpointError { _ = try file.tensor("c") }?.code == .notFound)
    }

    // Verdicts beside the fixtures: FINDINGS.md item 27 and the source of the library.
    @Test(
        "finer points of the library's reader",
        arguments: [
            (#"{"a":["U8",[2],[0,2]]}"#, true),
            (#"{"a":["U8",[2],[0,2],1]}"#, false),
            (
                #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
                true
            ),
            (#"{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#, false),
            (#"{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}"#, true),
            (#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, false),
            (#"{"a":{"dtype":"U8","shape":[02],"data_offsets":[0,2]}}"#, false),
            (#"{"a":{"dtype":"U8","shape":[2e0],"data_offsets":[0,2]}}"#, false),
            (#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[-0,2]}}"#, false),
            (#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2,2]}}"#, false),
            (#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0]}}"#, false),
            (#"{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,2]}}"#, false),
            (#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":[[{"y":null}],true,1e3]}}"#, true),
            (#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],}}"#, false),
            (#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}} x"#, false),
            (#"{"\u0061\ud83d\ude00":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#, true),
            (#"{"\ud83d":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#, false),
            (
                "{\"é\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"e\u{301}\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                true
            ),
            ("{\"a\nb\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", false),
        ])
    func finerPoints(_ header: String, _ isTaken: Bool) throws {
        try withTemporaryDirectory { directory in
            let url = directory.appendingPathComponent("x.safetensors")
            try Data(safetensorsBytes(header, dataByteCount: 2)).write(to: url)
            if isTaken {
                let file = try SafetensorsFile(url)
                #expect(!file.tensorNames.isEmpty)
                for name in file.tensorNames { #expect(try file.tensor(name).name == name) }
            } else {
                #expect(checkpointError { _ = try SafetensorsFile(url) }?.code == .malformedFile)
            }
        }
    }

    @Test("errors name file, tensor, byte and remedy")
    func errors() throws {
        let hole = Fixtures.url("safetensors_files/offsets_hole.safetensors")
        let error = try #require(checkpointError { _ = try SafetensorsFile(hole) })
        #expect(error.tensor == "b")
        #expect(error.byteOffset == 8 + 0x6C + 4)
        #expect(error.message.contains("8") && error.message.contains("expected 4"))
        let short = Fixtures.url("safetensors_files/offsets_past_data.safetensors")
        let truncation = try #require(checkpointError { _ = try SafetensorsFile(short) })
        #expect(truncation.description.contains("truncated"))
        let absent = try #require(
            checkpointError { _ = try SafetensorsFile(URL(fileURLWithPath: "/nowhere/x")) })
        #expect(absent.code == .fileSystem && absent.description.contains("/nowhere/x"))
        #expect(
            checkpointError { _ = try SafetensorsFile(URL(fileURLWithPath: "/tmp")) }?.code == .fileSystem)
    }

    @Test("a file cut at any byte is refused")
    func truncation() throws {
        let whole = Array(try Data(contentsOf: Fixtures.url("safetensors_files/ok_metadata.safetensors")))
        try withTemporaryDirectory { directory in
            let url = directory.appendingPathComponent("x.safetensors")
            for count in 0..<whole.count {
                try Data(whole[..<count]).write(to: url)
                #expect(
                    checkpointError { _ = try SafetensorsFile(url) }?.code == .malformedFile, "\(count) bytes"
                )
            }
        }
    }

    @Test("no flipped bit or byte of a header crashes the reader or makes it take much memory")
    func flips() async {
        // In a process of its own: what other suites take meanwhile is not the reader's.
        await #expect(processExitsWith: .success) { try Self.readFlipped() }
    }

    private static func readFlipped() throws {
        let whole = Array(try Data(contentsOf: Fixtures.url("safetensors_files/offsets_hole.safetensors")))
        var sound = whole
        // Closes the hole, so that many of the variants are taken.
        let position = try #require(
            sound.indices.first { sound[$0...].starts(with: Array("[8,12]".utf8)) })
        sound.replaceSubrange(position..<position + 6, with: Array("[4,12]".utf8))
        let shape = try #require(
            sound.indices.last { $0 < position && sound[$0...].starts(with: Array("[1]".utf8)) })
        sound.replaceSubrange(shape..<shape + 3, with: Array("[2]".utf8))
        let headerEnd = 8 + 0x6C
        let before = try peakResidentByteCount()
        var (taken, refused) = (0, 0)
        try withTemporaryDirectory { directory in
            let url = directory.appendingPathComponent("x.safetensors")
            for index in 0..<headerEnd {
                for mask in [0xFF, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80] as [UInt8] {
                    var bytes = sound
                    bytes[index] ^= mask
                    try Data(bytes).write(to: url)
                    do {
                        let file = try SafetensorsFile(url)
                        for name in file.tensorNames {
                            _ = try file.tensor(name).withBytes { $0.reduce(0) { $0 &+ Int($1) } }
                        }
                        taken += 1
                    } catch let error as CheckpointError {
                        #expect(error.code == .malformedFile)
                        refused += 1
                    }
                }
            }
        }
        #expect(taken > 0 && refused > 0, "\(taken) taken, \(refused) refused")
        #expect(try peakResidentByteCount() - before < 64 << 20)
    }

    @Test("deep nesting is refused, not followed")
    func nesting() throws {
        try withTemporaryDirectory { directory in
            let url = directory.appendingPathComponent("x.safetensors")
            let deep = String(repeating: "[", count: 1_000_000)
            try Data(safetensorsBytes("{\"a\":{\"x\":" + deep, dataByteCount: 0)).write(to: url)
            let error = try #require(checkpointError { _ = try SafetensorsFile(url) })
            #expect(error.message.contains("deep"))
        }
    }
}
