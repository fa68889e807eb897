// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Rewards
import RuntimeSupport
import Testing

/// Tools as a trajectory meets them: in child processes, step by step.
@Suite(
    "Environments", .serialized,
    .enabled(if: SandboxAvailability.problem == nil, "\(SandboxAvailability.problem ?? "")"))
struct EnvironmentTests {
    private static func pool(_ change: (inout VerifierConfiguration) -> Void = { _ in }) -> VerifierPool {
        var configuration = VerifierConfiguration(
            executable: Bundle.main.bundleURL.appendingPathComponent("apus").path, arguments: ["verifier-child"])
        configuration.childCount = 1
        configuration.processCount = 0
        change(&configuration)
        return VerifierPool(configuration)
    }

    private static func request(
        _ calls: [String], tools: [String] = ["calculator", "key_value", "python"], corpus: String? = nil,
        state: EnvironmentState = EnvironmentState(), milliseconds: UInt64 = 5000, bytes: Int = 256
    ) -> EnvironmentRequest {
        EnvironmentRequest(
            id: "1/2/3",
            settings: EnvironmentSettings(
                tools: tools, corpus: corpus, callMilliseconds: milliseconds, observationByteCount: bytes),
            state: state, calls: calls)
    }

    private static func call(_ name: String, _ arguments: String) -> String {
        #"{"name": "\#(name)", "arguments": \#(arguments)}"#
    }

    @Test("observations, errors that the model can act on, and the state")
    func steps() throws {
        let pool = Self.pool()
        defer { pool.close() }
        let reply = pool.act(
            Self.request([
                Self.call("calculator", #"{"expression": "(3+4)*5/2"}"#),
                Self.call("calculator", #"{"expression": "47*83"}"#),
                Self.call("key_value", #"{"operation": "set", "key": "a", "value": "7"}"#),
                Self.call("key_value", #"{"operation": "get", "key": "a"}"#),
                Self.call("key_value", #"{"operation": "get", "key": "b"}"#),
                Self.call("weather", "{}"), "not JSON", #"{"name": "calculator"}"#,
                Self.call("calculator", #"{"expression": "import os"}"#),
                Self.call("calculator", #"{"expr": "1"}"#),
                Self.call("python", #"{"code": "print(sum(range(10)))"}"#),
            ]))
        try #require(reply.failure == nil)
        let seen = reply.observations
        #expect(Array(seen[..<4]) == ["35/2", "3901", "ok", "7"])
        for index in 4...9 { #expect(seen[index].hasPrefix("error: "), "\(seen[index])") }
        #expect(seen[5].contains("tools: calculator, key_value, python"))
        #expect(seen[10] == "45\n")
        #expect(reply.state.values == ["a": "7"] && reply.state.callCount == 11 && reply.state.invalidCallCount == 6)
        // The state comes from the request, not from the process.
        let again = pool.act(Self.request([Self.call("key_value", #"{"operation": "list"}"#)]))
        #expect(again.observations == [""])
    }

    @Test("ten megabytes of output, endless programs and hostile ones are bounded")
    func bounds() throws {
        let pool = Self.pool()
        defer { pool.close() }
        func run(_ code: String, milliseconds: UInt64 = 5000) throws -> String {
            let encoded = String(decoding: try JSONEncoder().encode(["code": code]), as: UTF8.self)
            let reply = pool.act(Self.request([Self.call("python", encoded)], milliseconds: milliseconds))
            try #require(reply.failure == nil, "\(reply.failure ?? "")")
            return try #require(reply.observations.first)
        }
        let long = try run("print('x' * 10_000_000)")
        #expect(long.utf8.count < 400 && long.hasPrefix("xxx") && long.contains("bytes in all]"))
        #expect(try run("while True: pass", milliseconds: 300).contains("did not end in 300 ms"))
        #expect(try run("while True: print('y' * 65536)", milliseconds: 300).contains("did not end"))
        #expect(try run("x = [0] * (1 << 33)").contains("MemoryError"))
        #expect(try run("open('/usr/x', 'w')").contains("ended with 1"))
        #expect(try run("open('/tmp/x', 'w').write('a' * (64 << 20))").contains("ended with"))
        #expect(try run("print(open('/tmp/x').read())").contains("No such file"), "nothing is left of another call")
    }

    @Test("search finds documents by their words, whatever the query")
    func search() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-corpus-\(UUID().uuidString).jsonl")
        defer { try? FileManager.default.removeItem(at: file) }
        try """
        {"id": "whale", "title": "Whales", "text": "The blue whale is the largest animal."}
        {"id": "ant", "text": "Ants carry fifty times their weight."}
        """.write(to: file, atomically: true, encoding: .utf8)
        let pool = Self.pool()
        defer { pool.close() }
        func search(_ query: String) -> EnvironmentReply {
            pool.act(
                Self.request(
                    [Self.call("search", #"{"query": "\#(query)", "limit": 1}"#)], tools: ["search"], corpus: file.path)
            )
        }
        #expect(search("largest animal").observations == ["[whale] Whales: The blue whale is the largest animal."])
        #expect(search("weight OR NEAR( * ").observations == ["[ant] Ants carry fifty times their weight."])
        #expect(search("zebra").observations == ["no document matches"])
        #expect(search("***").observations.first?.hasPrefix("error: ") == true)
        let broken = pool.act(
            Self.request([Self.call("search", #"{"query": "x"}"#)], tools: ["search"], corpus: file.path + "-missing"))
        #expect(broken.failure != nil, "a corpus that is gone is not the model's mistake")
    }

    @Test("a killed tool process costs the trajectory nothing")
    func killed() throws {
        let pool = Self.pool { $0.attemptCount = 3 }
        defer { pool.close() }
        var state = EnvironmentState()
        state.values = ["a": "7"]
        let slow = Self.request(
            [
                Self.call("python", #"{"code": "import time; time.sleep(1.5); print(1)"}"#),
                Self.call("key_value", #"{"operation": "get", "key": "a"}"#),
            ], state: state)
        let killer = Thread {
            usleep(700_000)
            for child in Self.children() { kill(child, SIGKILL) }
        }
        killer.start()
        let reply = pool.act(slow)
        #expect(reply.failure == nil && reply.observations == ["1\n", "7"])
        #expect(pool.counters.broken == 1 && pool.counters.started >= 2)
    }

    /// Verifier children of this process.
    private static func children() -> [Int32] {
        let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
        return tasks.flatMap { task -> [Int32] in
            let text = (try? String(contentsOfFile: "/proc/self/task/\(task)/children", encoding: .utf8)) ?? ""
            return text.split(separator: " ").compactMap { Int32($0) }.filter {
                ((try? String(contentsOfFile: "/proc/\($0)/cmdline", encoding: .utf8)) ?? "").contains("verifier-child")
            }
        }
    }
}
