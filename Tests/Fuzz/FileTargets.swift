// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport

@testable import Checkpoints
@testable import ClusterTransport
@testable import JobSpecification

extension FuzzTarget {
    static let files: [FuzzTarget] = [
        FuzzTarget(name: "safetensors", seeds: safetensorsSeeds, run: readSafetensors),
        FuzzTarget(
            name: "config-json", seeds: { try contents("models", ending: "/config.json") }, run: readConfiguration),
        FuzzTarget(name: "job-yaml", seeds: jobSeeds, run: readJob),
        FuzzTarget(name: "data-rows", seeds: { [rows.bytes] }, run: readRows),
        FuzzTarget(name: "key-files", seeds: keySeeds, run: readKeys),
    ]

    private static func contents(_ directory: String, ending: String) throws -> [[UInt8]] {
        let root = Fixtures.url(directory)
        let names = try FileManager.default.subpathsOfDirectory(atPath: root.path).sorted()
        return try names.filter { "/\($0)".hasSuffix(ending) }.map {
            Array(try Data(contentsOf: root.appendingPathComponent($0)))
        }
    }

    // MARK: Checkpoints

    private static func safetensorsSeeds() throws -> [[UInt8]] {
        try contents("safetensors_files", ending: ".safetensors").filter { $0.count < 4096 }
    }

    private static func readSafetensors(_ input: [UInt8]) {
        input.withUnsafeBytes { bytes in
            guard
                let count = try? SafetensorsHeader.headerByteCount(
                    UnsafeRawBufferPointer(rebasing: bytes.prefix(8)), fileByteCount: bytes.count, file: "x"),
                let header = try? SafetensorsHeader(
                    UnsafeRawBufferPointer(rebasing: bytes[8..<8 + count]), fileByteCount: bytes.count, file: "x")
            else { return }
            var covered = header.dataOffset
            for entry in header.entries {
                promise(header[entry.name] == entry, "an entry is not found by its name")
                promise(entry.dataRange.upperBound <= bytes.count - header.dataOffset, "a tensor outlies its file")
                covered += entry.dataRange.count
            }
            promise(covered == bytes.count, "tensors overlap or leave a hole")
        }
    }

    private static func readConfiguration(_ input: [UInt8]) {
        guard let json = try? input.withUnsafeBytes({ try JSONValue.parse($0, file: "x") }) else { return }
        if let again = try? json.prettyPrinted().bytes.withUnsafeBytes({ try JSONValue.parse($0, file: "x") }) {
            promise(again.prettyPrinted() == json.prettyPrinted(), "JSON reads back as another")
        } else {
            promise(false, "JSON that was read is written as something else")
        }
        guard let configuration = try? Qwen3Configuration(json, file: "x") else { return }
        _ = configuration.parameterCounts
    }

    // MARK: Jobs and data

    private static func jobSeeds() throws -> [[UInt8]] {
        let jobs = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent(
            "Cluster/jobs")
        let names = try FileManager.default.subpathsOfDirectory(atPath: jobs.path).sorted()
        return try names.filter { $0.hasSuffix(".yaml") }.map {
            Array(try Data(contentsOf: jobs.appendingPathComponent($0)))
        }.filter { $0.count < 16_384 }
    }

    private static func readJob(_ input: [UInt8]) {
        guard let text = String(validating: input, as: UTF8.self), let job = try? Job.parse(text) else { return }
        for resolved in [job.resolvedJSON, job.resolvedYAML] {
            promise((try? Job(resolved: resolved)) == job, "a job reads back as another:\n\(resolved)")
        }
    }

    private static let rows = """
        {"id": "a", "prompt": "2+2=", "answer": "4", "tests": ["x"], "level": 3}
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q /no_think"}], "solution": 5}
        {"text": "t", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}

        """

    private static func readRows(_ input: [UInt8]) {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-fuzz-\(getpid()).jsonl")
        let job = "kind: rollout\nname: n\nmodel: {path: m}\noutput: o\nreward: [exact]\n"
        let data = "data: {path: d, on_bad_row: skip, max_row_bytes: 4096}\n"
        guard (try? Data(input).write(to: url)) != nil, case .rollout(let rollout) = try? Job.parse(job + data) else {
            return promise(false, "the target's own job is refused")
        }
        if var reader = try? DataReader<PromptRecord>(prompts: url, rollout.data) {
            for record in (try? reader.readAll()) ?? [] {
                promise(!record.id.isEmpty, "a row without an id")
                _ = record.lastFlag
            }
        }
        if var reader = try? DataReader<ScoreRecord>(scores: url, rollout.data) { _ = try? reader.readAll() }
    }

    // MARK: Keys

    private static func keySeeds() throws -> [[UInt8]] {
        let keys = try CurveKeyPair(secretKey: "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6")
        let list = "# people\n\(keys.publicKey.rawValue) worker\n\nJTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6 admin\n"
        return [
            "# CURVE key pair.\npublic \(keys.publicKey.rawValue)\nsecret \(keys.secretKey)\n".bytes, list.bytes,
        ]
    }

    private static func readKeys(_ input: [UInt8]) {
        let text = String(decoding: input, as: UTF8.self)
        if let keys = try? KeyFile.parse(text, "x") {
            promise((try? CurveKeyPair(secretKey: keys.secretKey)) == keys, "halves that do not belong together")
            promise(!"\(keys)".contains(keys.secretKey), "a description shows the secret")
        }
        if let list = try? AllowList(text: text, "x") {
            promise(list.role(of: PeerIdentity("x")) == nil, "a role for x")
        }
    }
}
