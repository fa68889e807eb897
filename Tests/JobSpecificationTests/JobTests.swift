// SPDX-License-Identifier: Apache-2.0
import Foundation
import JobSpecification
import TestSupport
import Testing

/// The smallest rollout job, with room for more lines.
func rolloutText(_ more: String = "") -> String {
    """
    kind: rollout
    name: small
    model: {path: models/tiny}
    data: {path: prompts.jsonl}
    output: runs/small
    """ + "\n" + more
}

func message(_ text: String, overrides: [JobOverride] = [], rewardNames: [String]? = nil) -> String {
    do {
        _ = try Job.parse(text, overrides: overrides, rewardNames: rewardNames)
        return "accepted"
    } catch { return error.description }
}

@Suite struct JobTests {
    private let examples = Fixtures.root.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Cluster/jobs")

    @Test func exampleRolloutJob() throws {
        let read = try Job.read(
            examples.appendingPathComponent("rollout.yaml"), rewardNames: ["exact", "format", "math_answer"])
        guard case .rollout(let job) = read else { throw JobError(.wrongType, "not a rollout job") }
        #expect(job.teacher?.outputs == .topK(64))
        #expect(job.thinking.mode == .on)
        #expect(job.thinking.budget == 256)
        #expect(job.rewards.map(\.name) == ["math_answer", "format"])
        #expect(job.rewards.map(\.weight) == [1, 0.1])
        #expect(job.resources.kvCacheByteCount == 1 << 30)
        #expect(try Job.parse(read.resolvedYAML) == read)
    }

    @Test func exampleScoreJob() throws {
        let read = try Job.read(examples.appendingPathComponent("score.yaml"))
        guard case .score(let job) = read else { throw JobError(.wrongType, "not a score job") }
        #expect(job.outputs == .sampled)
        #expect(job.data.onBadRow == .skip)
        #expect(try Job.parse(read.resolvedYAML) == read)
    }

    @Test func defaultsAreResolved() throws {
        let yaml = try Job.parse(rolloutText()).resolvedYAML
        #expect(
            yaml == """
                advantage:
                  epsilon: 0.0001
                  multi_objective_aggregation: sum_then_normalize
                  preset: trl
                  scale_rewards: group
                  unbiased: true
                data:
                  max_row_bytes: 1048576
                  on_bad_row: fail
                  path: prompts.jsonl
                dropped_groups:
                  failed: drop_member
                  policy: keep
                  truncated: keep
                group_size: 8
                kind: rollout
                max_failed_groups: 0.1
                model:
                  compute: bf16
                  path: models/tiny
                  replicas: 1
                name: small
                output: runs/small
                policy_version: 0
                resources:
                  kv_cache_bytes: 1073741824
                  max_batch_tokens: 2048
                  max_sequences: 64
                  page_size: 64
                  workers_min: 1
                sampling:
                  max_new_tokens: 256
                  min_p: 0.0
                  presence_penalty: 0.0
                  repetition_penalty: 1.0
                  stop: []
                  temperature: 1.0
                  top_k: 0
                  top_p: 1.0
                seed: 0
                thinking:
                  mode: default

                """)
    }

    @Test func hashDependsOnSettingsAlone() throws {
        let a = try Job.parse(rolloutText("seed: 5\nsampling: {top_p: 0.90, temperature: 1}"))
        let b = try Job.parse(
            "# other order\n" + rolloutText("sampling:\n  temperature: 1.0\n  top_p: 9e-1\nseed: 5"))
        #expect(a.contentHash == b.contentHash)
        #expect(a.contentHash.count == 64)
        #expect(try Job.parse(rolloutText("seed: 6")).contentHash != a.contentHash)
    }

    @Test func resolvedJobReadsBackWithAwkwardStrings() throws {
        let text = rolloutText(
            #"""
            sampling: {stop: ["\n\n", "# no", "yes", "é: {x}", "\u2028", "it's", "- a", "1e3"]}
            reward: [{name: exact, weight: 0.1, options: {ignore_case: on, prefix: "a: b"}}]
            """#)
        let job = try Job.parse(text)
        #expect(try Job.parse(job.resolvedYAML) == job)
        #expect(try Job.parse(job.resolvedYAML).resolvedYAML == job.resolvedYAML)
        guard case .rollout(let rollout) = job else { return }
        #expect(rollout.sampling.stop.first == "\n\n")
        #expect(rollout.rewards[0].options == ["ignore_case": "on", "prefix": "a: b"])
    }

    @Test func presets() throws {
        guard
            case .rollout(let job) = try Job.parse(
                rolloutText("sampling: {preset: thinking, top_k: 5}\nadvantage: dr_grpo"))
        else { return }
        #expect(job.sampling.temperature == 0.6)
        #expect(job.sampling.topP == 0.95)
        #expect(job.sampling.topK == 5)
        #expect(job.advantage.scale == .none)
        guard case .rollout(let verl) = try Job.parse(rolloutText("advantage: {preset: verl}")) else {
            return
        }
        #expect(verl.advantage.epsilon == 1e-6)
        #expect(verl.advantage.scale == .group)
    }

    @Test(arguments: [
        ("sampling:\n  top_p: 1.5", "sampling.top_p: 1.5 is not in (0, 1] (line 7)"),
        ("sampling: {top_p: 0}", "sampling.top_p: 0 is not in (0, 1] (line 6)"),
        ("sampling: {temperature: nan}", "sampling.temperature: 'nan' is not a number (line 6)"),
        ("sampling: {temperature: 0x10}", "sampling.temperature: '0x10' is not a number (line 6)"),
        ("smapling: {}", "unknown key 'smapling'; did you mean 'sampling'? (line 6)"),
        ("sampling: {topp: 1}", "sampling: unknown key 'topp'; did you mean 'top_p'? (line 6)"),
        ("thinking: {mode: maybe}", "thinking.mode: 'maybe' is not one of on, off, default (line 6)"),
        (
            "thinking: {mode: off, budget: 9}",
            "thinking.budget: a budget without thinking: remove it or set thinking.mode (line 6)"
        ),
        ("group_size: 2.5", "group_size: '2.5' is not an integer (line 6)"),
        ("group_size: 0", "group_size: 0 is not in 1...4096 (line 6)"),
        ("reward: []", "reward: is an empty list (line 6)"),
        (
            "reward:\n  - format\n  - {nam: exact}",
            "reward[1]: unknown key 'nam'; did you mean 'name'? (line 8)"
        ),
        (
            "reward: {name: exact, ignore_case: on}",
            "reward: unknown key 'ignore_case'; options of the function stand below options: {ignore_case: …} (line 6)"
        ),
        ("reward: [exact, exact]", "reward[1]: 'exact' occurs twice; use its weight (line 6)"),
        ("teacher: {path: t, outputs: {top_k: 0}}", "teacher.outputs.top_k: 0 is not in 1...4096 (line 6)"),
        ("teacher: {}", "teacher.path: is required (line 6)"),
        ("resources: {page_size: 48}", "resources.page_size: 48 is not a power of two (line 6)"),
        (
            "resources: {kv_cache_bytes: 4GB}",
            "resources.kv_cache_bytes: '4GB' is not a number of bytes; write 4294967296 or 4GiB (line 6)"
        ),
        (
            "resources: [1]",
            "resources: expected a mapping with the keys workers_min, memory_per_worker, threads_per_worker, "
                + "kv_cache_bytes, page_size, max_batch_tokens, max_sequences, got a list (line 6)"
        ),
        (
            "sampling: {temperature: 0}",
            "group_size: the 8 responses of a group are equal at sampling.temperature 0: set group_size: 1 or a "
                + "higher temperature (a default)"
        ),
        (
            "reward: [exact, {name: exact, options: {ignore_case: on}}]",
            "reward[1]: 'exact' occurs twice; use its weight (line 6)"
        ),
        (
            "resources: {threads_per_worker: 8}",
            "resources.threads_per_worker: a worker's threads are its own: start it with --threads (apus run, up and worker "
                + "have it) and remove the key (line 6)"
        ),
        (
            "resources: {memory_per_worker: 1GiB, kv_cache_bytes: 2GiB}",
            "resources.kv_cache_bytes: 2147483648 is more than memory_per_worker, 1073741824 (line 6)"
        ),
        (
            "dropped_groups: {failed: ignore}",
            "dropped_groups.failed: 'ignore' is not one of drop_member, drop_group (line 6)"
        ),
        ("seed: 1\nseed: 2", "the key 'seed' occurs twice in one mapping (line 6)"),
    ])
    func badValues(_ more: String, _ expected: String) {
        #expect(message(rolloutText(more)) == expected)
    }

    @Test func badDocuments() {
        #expect(message("") == "is empty; a job file starts with 'kind:'")
        #expect(message("name: x").hasPrefix("kind: is required"))
        #expect(message("knd: rollout") == "unknown key 'knd'; did you mean 'kind'? (line 1)")
        #expect(message("kind: rolout") == "kind: 'rolout' is not one of rollout, score, train (line 1)")
        #expect(message("kind: grpo") == "kind: grpo is a method: write kind: train, method: grpo (line 1)")
        #expect(message("kind: score\ngroup_size: 2").hasPrefix("unknown key 'group_size'; "))
        #expect(message("kind: rollout") == "name: is required (line 1)")
        #expect(message("a: [").contains("line"))
        #expect(message("- 1").contains("a job file is a mapping"))
        #expect(message(String(repeating: "[", count: 100_000)) == "nested too deeply (line 1)")
        #expect(message(String(repeating: "- ", count: 100_000)) == "nested too deeply (line 1)")
        #expect(message(String(repeating: "a", count: 300_000)).contains("the limit of a job file"))
        #expect(
            message(rolloutText().replacingOccurrences(of: "small\n", with: "a/b\n")).contains(
                "is not a name"))
    }

    @Test func aliasesCannotExpandWithoutBound() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1..<12 {
            let alias = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(alias)]\n"
        }
        #expect(message(text).contains("more than 20000 values"))
    }

    @Test func unknownRewardIsNamed() {
        #expect(
            message(rolloutText("reward: math_anser"), rewardNames: ["exact", "format", "math_answer"])
                == "reward: unknown reward 'math_anser'; did you mean 'math_answer'? (line 6)")
    }

    @Test func badRewardOptionsAreNamed() {
        #expect(throws: JobError(.invalidValue, "reward: exact takes no 'x'", line: 6)) {
            try Job.parse(rolloutText("reward: {name: exact, options: {x: 1}}"), rewardNames: ["exact"]) {
                "\($0) takes no '\($1.keys.sorted().joined())'"
            }
        }
    }

    @Test func fileErrorsNameTheFile() throws {
        #expect(throws: JobError.self) { try Job.read(URL(fileURLWithPath: "/nonexistent/job.yaml")) }
        try withJobFile(rolloutText("smapling: {}")) { url in
            do {
                _ = try Job.read(url)
                Issue.record("accepted")
            } catch let error as JobError {
                #expect(
                    error.description == "\(url.path):6: unknown key 'smapling'; did you mean 'sampling'?")
            }
        }
    }

    /// Runs `body` with a job file in a directory of its own.
    private func withJobFile(_ text: String, _ body: (URL) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-job-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let url = directory.appendingPathComponent("job.yaml")
        try Data(text.utf8).write(to: url)
        try body(url)
    }

    @Test func pathsCountFromTheJobFileAndOverridesFromTheCommand() throws {
        let overrides = [
            try JobOverride(argument: "teacher.path=t"), try JobOverride(argument: "output=/var/run/x"),
        ]
        let text = rolloutText().replacingOccurrences(of: "models/tiny", with: "../models/./tiny")
        let bases = BaseDirectories(jobFile: "/home/a/jobs", overrides: "/elsewhere")
        guard case .rollout(let job) = try Job.parse(text, overrides: overrides, bases: bases) else { return }
        #expect(job.model.path == "/home/a/models/tiny")
        #expect(job.data.path == "/home/a/jobs/prompts.jsonl")
        #expect(job.teacher?.path == "/elsewhere/t")
        #expect(job.output == "/var/run/x")
        #expect(message("kind: rollout\nname: x\nmodel: {path: }\n").contains("model.path: is required"))
        try withJobFile(rolloutText()) { url in
            guard case .rollout(let job) = try Job.read(url) else { return }
            #expect(
                job.data.path == url.deletingLastPathComponent().appendingPathComponent("prompts.jsonl").path)
        }
    }

    @Test func jsonFormReadsBackAsTheSameJob() throws {
        let text = rolloutText(
            #"""
            sampling: {stop: ["\n\n", "\"q\" \\ \t", "é", "\u2028\u0085\ufeff", "\U0001F600", "null", "1e3"], top_p: 0.9}
            reward: [{name: exact, weight: 0.1, options: {ignore_case: on, "a: b": "#"}}]
            teacher: {path: t, outputs: {top_k: 5}}
            resources: {workers_min: 3, memory_per_worker: 8GiB}
            """#)
        let score = "kind: score\nname: s\nmodel: {path: m}\ndata: {path: d}\noutput: o\noutputs: full"
        for text in [text, rolloutText(), score] {
            let job = try Job.parse(text)
            #expect(try Job(resolved: job.resolvedJSON) == job)
            #expect(try Job(resolved: job.resolvedYAML) == job)
            #expect(!job.resolvedJSON.contains("\n"))
            // And it is JSON for everyone else.
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(job.resolvedJSON.utf8)) as? [String: Any])
            #expect(object["name"] as? String == job.name)
            if let stop = (object["sampling"] as? [String: Any])?["stop"] as? [String], !stop.isEmpty {
                guard case .rollout(let rollout) = job else { return }
                #expect(stop == rollout.sampling.stop)
            }
        }
    }
}
