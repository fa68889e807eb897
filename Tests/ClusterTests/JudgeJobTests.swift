// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import TestSupport
import Testing

/// Responses judged by another model: an endpoint, good and bad, and a model of the cluster.
@Suite("Judges on a local cluster", .serialized)
struct JudgeJobTests {
    /// An endpoint that answers what the first letter of its model's name says, and counts its questions.
    static let server = """
        import http.server, json, sys
        count = 0
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                global count
                count += 1
                open(sys.argv[1] + '.count', 'w').write(str(count))
                body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
                kind = body['model']
                if kind == 'broken' or (kind == 'moody' and count % 3 == 1):
                    self.send_error(500)
                    return
                if kind == 'locked' and self.headers.get('Authorization') != 'Bearer secret':
                    self.send_error(401)
                    return
                said = {'vague': 'It is rather good.', 'html': None}.get(kind, 'Close enough.\\nScore: 7')
                text = '<html>' if said is None else json.dumps({'choices': [{'message': {'content': said}}]})
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text.encode())
            def log_message(self, *arguments): pass
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        open(sys.argv[1], 'w').write(str(server.server_port))
        server.serve_forever()
        """

    private static func serve(_ bench: Workbench) throws -> (process: Process, port: String) {
        try bench.write("server.py", server)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        process.arguments = [bench.url("server.py").path, bench.url("port").path]
        // Nobody waits for the end of a pipe that it holds.
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        for _ in 0..<500 {
            if let port = try? String(contentsOf: bench.url("port"), encoding: .utf8), !port.isEmpty {
                return (process, port)
            }
            Thread.sleep(forTimeInterval: 0.02)
        }
        kill(process.processIdentifier, SIGKILL)
        throw CocoaError(.fileReadUnknown)
    }

    private static func run(
        _ bench: Workbench, _ output: String, judge: String, environment: [String: String] = [:]
    ) throws -> (status: Int32, rows: [[String: Any]], errors: String) {
        try bench.write(
            "job.yaml",
            """
            kind: rollout
            name: judged
            model: {path: model, compute: bf16}
            data: {path: prompts.jsonl}
            group_size: 2
            sampling: {temperature: 1.0, max_new_tokens: 12}
            reward: [judge]
            \(judge)
            resources: {kv_cache_bytes: 16MiB, page_size: 16, max_sequences: 6}
            output: \(output)
            """)
        let result = try bench.apus("run", "job.yaml", "--workers", "2", environment: environment)
        let file = bench.url(output).appendingPathComponent("rollouts/text.jsonl")
        let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
        let rows = text.split(separator: "\n").compactMap {
            try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        }
        return (result.status, rows, result.errors + result.output)
    }

    @Test("an endpoint's score is the reward; one that is down, vague or broken gives none, and never 0")
    func endpoints() throws {
        let bench = try Workbench("judge")
        try bench.makeModel()
        try bench.apus("data", "arithmetic", "prompts.jsonl", "-n", "3")
        let (server, port) = try Self.serve(bench)
        // A test's thread blocks signals, and its children inherit that: SIGTERM would not reach them.
        defer { kill(server.processIdentifier, SIGKILL) }
        func judge(_ model: String, port: String = port, extra: String = "") -> String {
            "judge: {endpoint: 'http://127.0.0.1:\(port)/v1', model: \(model), timeout_milliseconds: 2000\(extra)}"
        }
        for model in ["good", "moody"] {
            let result = try Self.run(bench, model, judge: judge(model))
            try #require(result.status == 0, "\(model): \(result.errors)")
            #expect(result.rows.count == 6)
            let answered = result.rows.filter { !((($0["completion"] as? String) ?? "").isEmpty) }
            #expect(
                answered.allSatisfy { ($0["reward"] as? Double).map { [0, 0.7].contains($0) } ?? false }, "\(model)")
            #expect(result.rows.contains { $0["reward"] as? Double == 0.7 }, "\(model)")
        }
        for (model, reason) in [
            ("vague", "gave no score"), ("broken", "status 500"), ("html", "no chat completion"),
            ("locked", "status 401"),
        ] {
            let result = try Self.run(bench, model, judge: judge(model))
            // The groups are reported failed, with the reason.
            #expect(result.status != 0 && result.errors.contains("every group failed"), "\(model): \(result.errors)")
            #expect(result.rows.allSatisfy { $0["reward"] == nil }, "\(model): \(result.rows)")
            #expect(
                result.rows.contains { ($0["failed"] as? String ?? "").contains(reason) }, "\(model): \(result.rows)")
        }
        let key = try Self.run(
            bench, "key", judge: judge("locked", extra: ", api_key_variable: JUDGE_KEY"),
            environment: ["JUDGE_KEY": "secret"])
        #expect(key.rows.contains { $0["reward"] as? Double == 0.7 }, "\(key.rows)")
        let down = try Self.run(bench, "down", judge: judge("good", port: "1"))
        #expect(
            !down.rows.contains { $0["reward"] != nil } && down.errors.contains("does not answer"), "\(down.errors)")
    }

    @Test("a model of the cluster judges; one that says nothing of use gives no reward")
    func clusterModel() throws {
        let bench = try Workbench("judge-model")
        try bench.makeModel()
        try bench.makeModel("judge", layers: 3, seed: 9)
        try bench.apus("data", "arithmetic", "prompts.jsonl", "-n", "3")
        let result = try Self.run(bench, "judged", judge: "judge: {path: judge, compute: bf16, max_new_tokens: 8}")
        // A model of random weights was asked and said no score.
        #expect(result.errors.contains("the judge gave no score"), "\(result.errors)")
        #expect(result.rows.allSatisfy { $0["reward"] == nil }, "\(result.rows)")
        for (text, complaint) in [
            ("", "needs one: path or endpoint"), ("judge: {endpoint: 'ftp://x', model: m}", "expected an address"),
            ("judge: {path: judge, prompt: hello}", "needs {response}"),
            ("judge: {path: judge, model: x}", "is for an endpoint"),
        ] {
            let bad = try Self.run(bench, "bad", judge: text)
            #expect(bad.status == 3 && bad.errors.contains(complaint), "\(text): \(bad.errors)")
        }
    }
}
