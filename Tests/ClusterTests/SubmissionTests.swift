// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Testing

/// What jobs of `submit` keys may read and write, and what workers let jobs do.
@Suite("Submission", .serialized)
struct SubmissionTests {
    /// A coordinator with an `admin` and a `submit` key; contexts `admin.json` and `submit.json`.
    private final class Cluster {
        let bench: Workbench
        private var coordinator: Process

        init(_ name: String, _ options: [String], environment: [String: String] = [:]) throws {
            let bench = try Workbench(name)
            self.bench = bench
            var allowed = ""
            for (key, role) in [("coordinator", ""), ("admin", "admin"), ("submit", "submit"), ("worker", "worker")] {
                let made = try bench.apus("keys", "generate", key)
                try #require(made.status == 0, "\(made.errors)")
                guard !role.isEmpty else { continue }
                let text = made.output.trimmingCharacters(in: .whitespacesAndNewlines)
                allowed += "\(text) \(role)\n"
            }
            try bench.write("allow", allowed)
            chmod(bench.url("allow").path, 0o600)
            coordinator = try bench.spawn(
                ["coordinator", "--state", "state", "--keys", "coordinator", "--allow", "allow"] + options,
                log: "coordinator.log", environment: environment)
            let address = bench.url("state/coordinator.json").path
            let deadline = Date().addingTimeInterval(60)
            while !FileManager.default.fileExists(atPath: address), Date() < deadline { usleep(20_000) }
            for role in ["admin", "submit"] {
                let context = ["address": address, "key": bench.url(role).path]
                try bench.write("\(role).json", String(decoding: try JSONEncoder().encode(context), as: UTF8.self))
            }
        }

        /// Once it has died by itself.
        func restart() throws {
            try #require(eventually(60) { !coordinator.isRunning }, "the coordinator was not killed")
            coordinator = try bench.spawn(
                ["coordinator", "--state", "state", "--keys", "coordinator", "--allow", "allow"], log: "coordinator.log"
            )
        }

        deinit { kill(coordinator.processIdentifier, SIGKILL) }

        func submit(_ role: String, _ changes: [String: String] = [:]) throws -> CommandResult {
            let changes = changes.sorted { $0.key < $1.key }.flatMap { ["--set", "\($0.key)=\($0.value)"] }
            return try bench.apus(["submit", "job.yaml", "--context", "\(role).json"] + changes)
        }
    }

    @Test("a submit key reads and writes below the roots that the operator names, links followed; admin everywhere")
    func roots() throws {
        let plain = try Workbench("roots-files")
        for folder in ["data", "results", "secret", "data-of-others"] {
            try FileManager.default.createDirectory(at: plain.url(folder), withIntermediateDirectories: true)
        }
        let cluster = try Cluster(
            "roots", ["--data-root", plain.url("data").path, "--output-root", plain.url("results").path])
        let bench = cluster.bench
        try bench.makeModel(plain.url("data/model").path)
        try bench.apus("data", "arithmetic", plain.url("data/prompts.jsonl").path, "-n", "2")
        for place in ["secret", "data-of-others"] {
            try FileManager.default.copyItem(
                at: plain.url("data/prompts.jsonl"), to: plain.url("\(place)/prompts.jsonl"))
        }
        try FileManager.default.createSymbolicLink(
            at: plain.url("data/link.jsonl"), withDestinationURL: plain.url("secret/prompts.jsonl"))
        try FileManager.default.createDirectory(at: plain.url("data/set"), withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            at: plain.url("data/set/train.jsonl"), withDestinationURL: plain.url("secret/prompts.jsonl"))
        try FileManager.default.createSymbolicLink(
            at: plain.url("results/link"), withDestinationURL: plain.url("secret"))
        try bench.write(
            "job.yaml",
            """
            kind: rollout
            name: test
            model: {path: \(plain.url("data/model").path), compute: bf16}
            data: {path: \(plain.url("data/prompts.jsonl").path)}
            group_size: 2
            sampling: {max_new_tokens: 8}
            resources: {kv_cache_bytes: 16MiB, page_size: 16, max_sequences: 6}
            output: \(plain.url("results/out").path)
            """)
        let fine = try cluster.submit("submit")
        #expect(fine.status == 0, "\(fine.errors)")
        for (key, path, words) in [
            ("data.path", "secret/prompts.jsonl", "may read only below"),
            ("data.path", "data/link.jsonl", "may read only below"),
            ("data.path", "data/../secret/prompts.jsonl", "may read only below"),
            ("data.path", "data/set", "may read only below"),
            ("data.path", "data-of-others/prompts.jsonl", "may read only below"),
            ("output", "secret/out", "may write only below"), ("output", "data/out", "may write only below"),
            ("output", "results/link/out", "may write only below"), ("output", "results-2/out", "may write only below"),
        ] {
            let whole = plain.url("").path + "/" + path
            let refused = try cluster.submit("submit", [key: whole])
            #expect(refused.status == 3 && refused.errors.contains(words), "\(path): \(refused.errors)")
        }
        let admin = try cluster.submit(
            "admin", ["data.path": plain.url("secret/prompts.jsonl").path, "output": plain.url("secret/out").path])
        #expect(admin.status == 0, "\(admin.errors)")
    }

    @Test("without roots a submit key can submit nothing")
    func noRoots() throws {
        let cluster = try Cluster("no-roots", [])
        try cluster.bench.makeModel()
        try cluster.bench.makeJob(groups: 2)
        let refused = try cluster.submit("submit")
        #expect(refused.status == 3 && refused.errors.contains("was given no --output-root"), "\(refused.errors)")
    }

    @Test("a judge that no worker allows is refused with the job")
    func judges() throws {
        let cluster = try Cluster("judges", [])
        let bench = cluster.bench
        try bench.makeModel()
        try bench.makeJob(
            groups: 2,
            extra: "judge: {endpoint: 'https://judge.example/v1', model: m, api_key_variable: JUDGE_KEY}")
        let text = bench.text("job.yaml").replacing("[math_answer, format]", with: "[judge]")
        try bench.write("job.yaml", text)
        let worker = try bench.spawn(
            [
                "worker", "--join", "state/coordinator.json", "--keys", "worker", "--threads", "1", "--memory", "1GiB",
                "--judge-host", "other.example",
            ], log: "worker.log")
        defer { kill(worker.processIdentifier, SIGKILL) }
        let deadline = Date().addingTimeInterval(60)
        while Date() < deadline, !bench.text("coordinator.log").contains("joined") { usleep(50_000) }
        let refused = try cluster.submit("admin")
        #expect(
            refused.status == 3
                && refused.errors.contains("--judge-host does not allow the judge's host judge.example:443"),
            "\(refused.errors)")
        let open = try cluster.submit("admin", ["judge.endpoint": "http://judge.example/v1"])
        #expect(open.status == 3 && open.errors.contains("use https"), "\(open.errors)")
    }

    // Commits: the epoch, then the job.
    @Test(
        "a coordinator that dies with a submission in hand takes it once, when it is back",
        arguments: ["before", "after"])
    func killed(when: String) throws {
        let mark = FileManager.default.temporaryDirectory
            .appendingPathComponent("apus-struck-\(UInt32.random(in: 0 ... .max))").path
        defer { try? FileManager.default.removeItem(atPath: mark) }
        let cluster = try Cluster(
            "killed-\(when)", [], environment: ["APUS_FAIL_POINT": "journal.\(when)-sync:2:\(mark)"])
        let bench = cluster.bench
        try bench.makeModel()
        try bench.makeJob(groups: 2)
        let client = try bench.spawn(["submit", "job.yaml", "--context", "admin.json"], log: "submit.log")
        try cluster.restart()
        client.waitUntilExit()
        #expect(FileManager.default.fileExists(atPath: mark), "nothing was killed")
        #expect(client.terminationStatus == 0, "\(bench.text("submit.log"))")
        let jobs = try bench.apus("jobs", "--json", "--context", "admin.json")
        let list = try #require(try JSONSerialization.jsonObject(with: Data(jobs.output.utf8)) as? [Any])
        #expect(list.count == 1, "\(jobs.output)\(jobs.errors)")
    }
}
