// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// Mistakes of the person at the terminal: one clear line, the documented exit code, nothing lost.
@Suite("Bad input", .serialized)
struct BadInputTests {
    private let bench: Workbench

    init() throws {
        bench = try Workbench("bad")
        try bench.makeModel(layers: 2)
        try bench.makeJob(groups: 2, groupSize: 2, tokens: 8)
    }

    /// Runs the job and returns the one line of complaint.
    private func complaint(_ status: Int32, _ arguments: [String] = []) throws -> String {
        let result = try bench.apus(["run", "job.yaml", "--workers", "1"] + arguments, seconds: 60)
        #expect(result.status == status, "\(result.errors)")
        #expect(!FileManager.default.fileExists(atPath: bench.url("out").path), "a failed job left an output")
        return result.errors
    }

    private func edit(_ file: String, _ from: String, _ to: String) throws {
        let text = try String(contentsOf: bench.url(file), encoding: .utf8)
        try #require(text.contains(from))
        try bench.write(file, text.replacingOccurrences(of: from, with: to))
    }

    @Test func anUnknownKeyNamesTheNearestOne() throws {
        try edit("job.yaml", "group_size", "group_siez")
        let line = try complaint(3)
        #expect(line.contains("group_siez") && line.contains("group_size") && line.contains("job.yaml:"))
    }

    @Test func anUnknownRewardNamesTheNearestOne() throws {
        try edit("job.yaml", "math_answer", "math_anser")
        #expect(try complaint(3).contains("math_answer"))
    }

    @Test func aBrokenRowIsNamedByItsLine() throws {
        let good = try String(contentsOf: bench.url("prompts.jsonl"), encoding: .utf8)
        try bench.write("prompts.jsonl", good + "{\"prompt\": 12\n")
        let line = try complaint(3)
        #expect(line.contains("prompts.jsonl:3"), "\(line)")
        let skipping = try bench.apus(
            "run", "job.yaml", "--workers", "1", "--set", "data.on_bad_row=skip")
        #expect(skipping.status == 0, "\(skipping.errors)")
    }

    @Test func aMissingModelIsNamed() throws {
        try edit("job.yaml", "path: model", "path: nowhere")
        #expect(try complaint(3).contains("nowhere"))
    }

    @Test func aTruncatedShardIsNamed() throws {
        let shard = bench.url("model/model.safetensors")
        let handle = try FileHandle(forWritingTo: shard)
        try handle.truncate(atOffset: try handle.seekToEnd() - 100)
        #expect(try complaint(3).contains("model.safetensors"))
    }

    @Test func aConfigurationWithoutANeededFieldNamesIt() throws {
        try edit("model/config.json", "\"hidden_size\"", "\"hidden_sise\"")
        #expect(try complaint(3).contains("hidden_size"))
    }

    @Test func aTokenizerWithMoreIDsThanTheModelHasRowsIsRefused() throws {
        // Another model's tokenizer: more ids than this model has rows.
        let url = bench.url("model/tokenizer.json")
        var text = try String(contentsOf: url, encoding: .utf8)
        let list = try #require(text.range(of: "\"added_tokens\": ?\\[", options: .regularExpression))
        text.replaceSubrange(
            list,
            with:
                "\"added_tokens\": [{\"id\": 900000, \"content\": \"<|far|>\", \"single_word\": false, \"lstrip\": false, "
                + "\"rstrip\": false, \"normalized\": false, \"special\": true},")
        try text.write(to: url, atomically: true, encoding: .utf8)
        let line = try complaint(3)
        #expect(line.contains("tokenizer"), "\(line)")
    }

    @Test func aTeacherWithAnotherTokenizerIsRefused() throws {
        let other = Fixtures.url("tokenizer/small").path
        try #require(
            try bench.apus("model", "init", "teacher", "--preset", "tiny-moe", "--tokenizer", other).status == 0)
        try bench.makeJob(groups: 2, groupSize: 2, tokens: 8, teacher: "teacher")
        let line = try complaint(3)
        #expect(line.contains("different tokenizers"), "\(line)")
    }

    @Test func aPromptBeyondTheContextIsNamed() throws {
        try bench.write(
            "prompts.jsonl", "{\"prompt\": \"\(String(repeating: "word ", count: 40_000))\", \"answer\": \"1\"}\n")
        let line = try complaint(3)
        #expect(line.contains("line 1") && line.contains("context"), "\(line)")
    }

    @Test func impossibleMemoryIsToldInNumbers() throws {
        let result = try bench.apus("run", "job.yaml", "--workers", "1", "--memory", "4MiB", seconds: 60)
        #expect(result.status == 3)
        #expect(result.errors.contains("has 4.0 MiB") && result.errors.contains("several hosts"), "\(result.errors)")
    }

    @Test func anExistingOutputIsNotTouched() throws {
        try FileManager.default.createDirectory(at: bench.url("out"), withIntermediateDirectories: false)
        try bench.write("out/mine", "precious")
        let result = try bench.apus("run", "job.yaml", "--workers", "1")
        #expect(result.status == 3)
        #expect(result.errors.contains("exists already"))
        #expect(try String(contentsOf: bench.url("out/mine"), encoding: .utf8) == "precious")
    }

    @Test func noClusterIsToldWithTheRemedy() throws {
        let result = try bench.apus("jobs")
        #expect(result.status == 4)
        #expect(result.errors.contains("apus up"))
    }

    @Test func usageErrorsExitWithTwo() throws {
        #expect(try bench.apus("run").status == 2)
        #expect(try bench.apus("worker", "--join", "x", "--keys", "y", "--ports", "1,2").status == 2)
    }

    @Test func aPortInUseIsNamed() throws {
        try bench.apus("keys", "generate", "c.key")
        let key = try bench.apus("keys", "generate", "w.key").output.trimmingCharacters(in: .whitespacesAndNewlines)
        try bench.write("allow", "\(key) worker\n")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: bench.url("allow").path)
        let socket = try BoundSocket()
        let result = try bench.apus(
            "coordinator", "--state", "state", "--keys", "c.key", "--allow", "allow", "--ports", "\(socket.port),0,0",
            seconds: 20)
        #expect(result.status == 4)
        #expect(result.errors.contains("\(socket.port)"), "\(result.errors)")
    }

    @Test func anOpenKeyFileIsRefused() throws {
        try bench.apus("keys", "generate", "c.key")
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: bench.url("c.key").path)
        let result = try bench.apus("keys", "show", "c.key")
        #expect(result.status == 3)
        #expect(result.errors.contains("c.key"))
    }
}

/// A TCP port that somebody else has.
private final class BoundSocket {
    private let descriptor: Int32
    let port: UInt16

    init() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.descriptor = descriptor
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 && listen(descriptor, 1) == 0
                    && getsockname(descriptor, pointer, &length) == 0
            }
        }
        try #require(bound)
        port = UInt16(bigEndian: address.sin_port)
    }

    deinit { close(descriptor) }
}
