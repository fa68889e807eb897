// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

@testable import JobSpecification

/// The smallest training jobs, with room for more lines.
private func trainText(_ method: String, _ more: String = "") -> String {
    let needed = ["grpo": "reward: exact", "distill": "teacher: {path: t}"][method] ?? ""
    return """
        kind: train
        name: small
        method: \(method)
        model: {path: m}
        data: {path: d.jsonl}
        steps: 4
        output: o
        \(needed)
        """ + "\n" + more
}

@Suite("The table of keys")
struct JobSchemaTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    private static let score = "kind: score\nname: s\nmodel: {path: m}\ndata: {path: d}\noutput: o\n"

    // MARK: - The table and what is read are one

    /// Jobs that between them write every section.
    private static let jobs = [
        rolloutText(
            """
            teacher: {path: t}
            environment: {tools: [search], corpus: c.jsonl, turn_tokens: 9}
            reward: [{name: judge, options: {a: b}}, reward_model]
            judge: {endpoint: "https://h/v1", model: m, api_key_variable: K}
            reward_model: {path: r}
            sampling: {preset: thinking}
            thinking: {budget: 9, stop_text: "</think>"}
            resources: {memory_per_worker: 8GiB}
            """),
        rolloutText("reward: judge\njudge: {path: j}\nteacher: {path: t, outputs: {top_k: 2}}").replacingOccurrences(
            of: "{path: models/tiny}", with: "{path: m, yarn_factor: 2, original_context: 64}"), score,
        score + "outputs: {top_k: 3}\n",
        score.replacingOccurrences(
            of: "{path: d}",
            with: "{path: d, split: test, name: main, columns: {prompt: q}, system_prompt: s, prompt_template: '{q}', "
                + "apply_chat_template: true}"),
        score + "chat_template: t.jinja\nchat_template_kwargs: {x: 1}\nchat_template_date: 2026-11-28\n",
        trainText(
            "grpo",
            """
            reference: {path: r, yarn_factor: 2, original_context: 64}
            loss: {kl_coef: 0.1, dual_clip: 3, constant_length: 5, target_entropy: 1, off_policy_threshold: 1}
            overlong: {buffer: 5}
            dynamic_sampling: {}
            """),
        trainText("distill").replacingOccurrences(of: "teacher: {path: t}", with: "teacher: {path: t, top_k: 4}"),
        trainText("distill", "").replacingOccurrences(of: "{path: t}", with: "{path: t, on_policy: false}"),
        trainText("distill").replacingOccurrences(
            of: "{path: d.jsonl}",
            with: "[{path: d, prompt_column: a, answer_column: b, limit: 4, teacher: u}, {path: e}]"),
        trainText("sft"), trainText("reward"),
    ]

    private static func leaves(_ value: ResolvedValue, _ path: String = "") -> [(path: String, value: ResolvedValue)] {
        switch value {
        case .mapping(let members):
            members.flatMap { leaves($1, path.isEmpty ? $0 : "\(path).\($0)") }
        case .list(let items) where !items.isEmpty:
            items.flatMap { leaves($0, path) }
        default: [(path, value)]
        }
    }

    @Test("every setting of a resolved job is in the table, and every key of the table in a resolved job")
    func resolvedKeys() throws {
        var seen: Set<String> = []
        for text in Self.jobs {
            let job = try Job.parse(text)
            let kind = try #require(JobFileKind(rawValue: String(text.split(separator: "\n")[0].dropFirst(6))))
            for (path, _) in Self.leaves(job.resolved) {
                // Options of rewards and columns of data are the user's own names.
                let path = ["reward.options", "data.columns"].first { path.hasPrefix($0) } ?? path
                #expect(
                    JobSchema.all.contains { $0.bare == path && $0.kinds.contains(kind) },
                    "\(path) of kind \(kind) is not in the table")
                seen.insert(path)
            }
        }
        let jobs: Set<JobFileKind> = [.rollout, .score, .train]
        for place in JobSchema.all where place.key.type.keys.isEmpty && !jobs.isDisjoint(with: place.kinds) {
            // Of suites and pipelines, or of a version whose jobs are read but not written so.
            if place.bare.hasPrefix("rows.") || place.bare == "resources.threads_per_worker" { continue }
            if place.kinds.allSatisfy({ !jobs.contains($0) }) { continue }
            #expect(seen.contains(place.bare), "\(place.path) is in the table and in no resolved job")
        }
    }

    @Test("defaults of the table are those of jobs")
    func defaults() throws {
        for text in Self.jobs {
            let reading = try JobReading.parse(text)
            for setting in reading.settings where setting.origin == .standard || setting.origin == .open {
                guard let place = JobSchema.all.first(where: { $0.bare == setting.path }) else { continue }
                switch place.key.standard {
                case .value(let value), .checkpoint(_, otherwise: let value):
                    // Presets set some of them.
                    if text.contains("preset: thinking"), setting.path.hasPrefix("sampling.") { continue }
                    #expect(setting.value == value, "\(setting.path)")
                case .depends: break
                case .none: #expect(setting.path == "judge.prompt", "\(setting.path) has a value without a default")
                case .required: Issue.record("\(setting.path) is required and has a default")
                }
            }
        }
    }

    @Test(
        "the table's own words: sentences end, names are said once in a place, values are explained whole or not at all"
    )
    func words() {
        var places: Set<String> = []
        for place in JobSchema.all {
            #expect(place.key.sentence.hasSuffix(".") || place.key.sentence.hasSuffix("\"."), "\(place.path)")
            for kind in place.kinds { #expect(places.insert("\(kind) \(place.path)").inserted, "\(place.path)") }
            if case .choice(let values) = place.key.type {
                let explained = values.count { !$0.sentence.isEmpty }
                #expect(explained == 0 || explained == values.count, "\(place.path)")
            }
        }
    }

    // MARK: - Names of others

    @Test(
        arguments: [
            ("num_generations: 8", "unknown key 'num_generations'; num_generations is group_size here (line 9)"),
            ("learning_rate: 1e-5", "unknown key 'learning_rate'; it is optimizer.learning_rate here (line 9)"),
            (
                "max_completion_length: 9",
                "unknown key 'max_completion_length'; max_completion_length is sampling.max_new_tokens here (line 9)"
            ),
            (
                "actor_rollout_ref: {rollout: {n: 5, temperature: 1}}",
                "unknown key 'actor_rollout_ref'; actor_rollout_ref.rollout.n is group_size here (line 9)"
            ),
            (
                "num_iterations: 2",
                "unknown key 'num_iterations'; num_iterations is updates_per_batch here (which repeats the whole batch) (line 9)"
            ),
            ("beta: 0.1", "unknown key 'beta'; beta is loss.kl_coef here (line 9)"),
            (
                "sampling: {num_generations: 2}",
                "sampling: unknown key 'num_generations'; num_generations is group_size here (line 9)"
            ),
            (
                "loss: {epsilon: 0.1}",
                "loss: unknown key 'epsilon'; epsilon is clip_ratio_low here (which sets both clips) (line 9)"
            ),
            ("use_vllm: true", "unknown key 'use_vllm'; use_vllm: the cluster generates by itself; remove it (line 9)"),
            ("grop_size: 2", "unknown key 'grop_size'; did you mean 'group_size'? (line 9)"),
            (
                "ppo_mini_batch_size: 2",
                "unknown key 'ppo_mini_batch_size'; ppo_mini_batch_size is rows_per_step here (divided by updates_per_batch) (line 9)"
            ),
        ])
    func hints(_ line: String, _ expected: String) { #expect(message(trainText("grpo", line)) == expected) }

    @Test("names that mean the same are accepted in the key's place, also in overrides, and never twice")
    func aliases() throws {
        let plain = try Job.parse(
            trainText("grpo", "sampling: {max_new_tokens: 40}\noptimizer: {learning_rate: 1e-5, beta1: 0.8}"))
        let foreign = trainText("grpo", "sampling: {max_completion_length: 40}\noptimizer: {lr: 1e-5, adam_beta1: 0.8}")
            .replacingOccurrences(of: "steps:", with: "max_steps:").replacingOccurrences(
                of: "output:", with: "output_dir:")
        #expect(try Job.parse(foreign) == plain)
        let override = try JobOverride(argument: "optimizer.lr=2e-5")
        guard case .train(let job) = try Job.parse(foreign, overrides: [override]) else { return }
        #expect(job.optimizer.learningRate == 2e-5)
        #expect(
            message(trainText("grpo", "optimizer: {lr: 1e-5, learning_rate: 1e-5}"))
                == "optimizer: 'lr' and 'learning_rate' are one key; keep one (line 9)")
    }

    // MARK: - Short forms

    @Test("a directory stands for a model and a file for data, in the file and in overrides")
    func shortForms() throws {
        let long = try Job.parse(trainText("grpo"))
        let short = trainText("grpo").replacingOccurrences(of: "{path: m}", with: "m")
            .replacingOccurrences(of: "{path: d.jsonl}", with: "d.jsonl")
        #expect(try Job.parse(short) == long)
        let bases = BaseDirectories(jobFile: "/jobs", overrides: "/here")
        let overrides = try ["model=models/x", "data=rows.jsonl"].map { try JobOverride(argument: $0) }
        // The sections keep their other keys.
        let text = trainText("grpo").replacingOccurrences(of: "{path: m}", with: "{path: m, compute: fp32}")
            .replacingOccurrences(of: "{path: d.jsonl}", with: "{path: d, limit: 3}")
        guard case .train(let job) = try Job.parse(text, overrides: overrides, bases: bases) else { return }
        #expect(job.model.path == "/here/models/x")
        #expect(job.model.compute == .fp32)
        #expect(job.data[0].path == "/here/rows.jsonl")
        #expect(job.data[0].limit == 3)
        // A key below a short form.
        let below = try JobOverride(argument: "model.compute=fp32")
        guard case .train(let other) = try Job.parse(short, overrides: [below], bases: bases) else { return }
        #expect(other.model.path == "/jobs/m")
        #expect(other.model.compute == .fp32)
        // Another reward or preset does not take over what was said of the one before.
        let reward = trainText("grpo", "advantage: {preset: trl, epsilon: 0.5}").replacingOccurrences(
            of: "reward: exact", with: "reward: {name: exact, weight: 2}")
        let others = try ["reward=format", "advantage=verl"].map { try JobOverride(argument: $0) }
        guard case .train(let changed) = try Job.parse(reward, overrides: others) else { return }
        #expect(changed.rewards.map(\.name) == ["format"] && changed.rewards[0].weight == 1)
        #expect(changed.advantage.epsilon == 1e-6)
        // A mixture is replaced as a whole.
        let mixture = trainText("grpo").replacingOccurrences(of: "{path: d.jsonl}", with: "[{path: a}, {path: b}]")
        guard case .train(let replaced) = try Job.parse(mixture, overrides: overrides, bases: bases) else { return }
        #expect(replaced.data.map(\.path) == ["/here/rows.jsonl"])
    }

    // MARK: - Words that are explained

    @Test(arguments: [
        ("group_size", ["group_size   (kind: rollout, train)", "  TRL       num_generations", "integer, 1 to 4096"]),
        ("num_generations", ["num_generations of TRL is group_size here"]),
        ("beta", ["teacher.beta   (kind: train)", "beta of TRL is loss.kl_coef here"]),
        ("rollout.n", ["actor_rollout_ref.rollout.n of verl is group_size here"]),
        ("grpo", ["  method: grpo   group-relative", "method: grpo needs reward", "  loss.preset: grpo   mean over"]),
        ("optimizer", ["optimizer.learning_rate", "default from the checkpoint"]),
        ("top_", ["sampling.top_p", "sampling.top_k", "teacher.top_k"]),
        ("sampling.top_p", ["number in (0, 1]"]),
        ("stages.run", ["stages[].run   (kind: pipeline)"]),
    ])
    func explanations(_ word: String, _ parts: [String]) throws {
        let text = try #require(KeyExplanation(word)).lines.joined(separator: "\n")
        for part in parts { #expect(text.contains(part), "\(part) is not in:\n\(text)") }
    }

    @Test func unknownWordsAreNotExplained() {
        #expect(KeyExplanation("xyzzy") == nil)
        #expect(KeyExplanation("") == nil)
        #expect(KeyExplanation.near("grop_size") == "group_size")
        let all = KeyExplanation().lines
        for place in JobSchema.all {
            #expect(all.contains { $0.hasPrefix("  \(place.path) ") }, "\(place.path) is not listed")
        }
    }

    // MARK: - What is written from it

    @Test("the reference page and the editors' schema are current", arguments: ["job.md", "job.schema.json"])
    func reference(_ name: String) throws {
        let url = Self.root.appendingPathComponent("Documentation/Reference/\(name)")
        let written = try String(contentsOf: url, encoding: .utf8)
        let current = name == "job.md" ? ReferencePage.text : EditorSchema.text
        #expect(written == current, "Documentation/Reference/\(name) is stale: run Scripts/generate-reference")
    }

    @Test("the editors' schema is JSON and says what the examples hold")
    func editorSchema() throws {
        let object = try JSONSerialization.jsonObject(with: Data(EditorSchema.text.utf8))
        let schema = try #require(object as? [String: Any])
        let folder = Self.root.appendingPathComponent("Cluster")
        let names = try #require(FileManager.default.enumerator(atPath: folder.path)).compactMap { $0 as? String }
        var count = 0
        for name in names.sorted() where name.hasSuffix(".yaml") && !name.hasPrefix("kubernetes") {
            count += 1
            let node = try YAMLNode.parse(String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8))
            #expect(SchemaCheck.problem(node, schema, name) == nil)
        }
        #expect(count > 15)
        let wrong = [
            "kind: rollout", trainText("grpo", "grop_size: 2"), trainText("grpo", "sampling: {top_p: 1.5}"),
            trainText("rl"), trainText("grpo", "seed: [1]"),
        ]
        for text in wrong { #expect(SchemaCheck.problem(try YAMLNode.parse(text), schema, "") != nil, "\(text)") }
    }
}

/// As much of JSON Schema as ours has.
private enum SchemaCheck {
    /// What is wrong with a tree; nil when it fits.
    static func problem(_ node: YAMLNode, _ schema: [String: Any], _ path: String) -> String? {
        if let parts = schema["anyOf"] as? [[String: Any]] {
            let problems = parts.map { problem(node, $0, path) }
            if !problems.contains(nil) { return problems.compactMap { $0 }.joined(separator: "; or ") }
        }
        for part in schema["allOf"] as? [[String: Any]] ?? [] {
            if let condition = part["if"] as? [String: Any], let then = part["then"] as? [String: Any],
                problem(node, condition, path) == nil, let found = problem(node, then, path)
            {
                return found
            }
        }
        switch node.content {
        case .scalar(let text, let isPlain): return scalar(text, isPlain, schema, path)
        case .sequence(let items):
            guard allows("array", schema) else { return "\(path): no list" }
            let item = schema["items"] as? [String: Any] ?? [:]
            return items.lazy.compactMap { problem($0, item, path + "[]") }.first
        case .mapping(let entries):
            guard allows("object", schema) else { return "\(path): no mapping" }
            let properties = schema["properties"] as? [String: [String: Any]] ?? [:]
            for name in schema["required"] as? [String] ?? [] where !entries.contains(where: { $0.key == name }) {
                return "\(path): \(name) is missing"
            }
            for entry in entries {
                if let own = properties[entry.key] {
                    if let found = problem(entry.value, own, "\(path).\(entry.key)") { return found }
                } else if schema["additionalProperties"] as? Bool == false {
                    return "\(path): unknown \(entry.key)"
                }
            }
            return nil
        }
    }

    private static func allows(_ type: String, _ schema: [String: Any]) -> Bool {
        if schema["enum"] != nil || schema["const"] != nil { return false }
        guard let written = schema["type"] else { return true }
        return written as? String == type || (written as? [String])?.contains(type) == true
    }

    private static func scalar(_ text: String, _ isPlain: Bool, _ schema: [String: Any], _ path: String) -> String? {
        if let values = schema["enum"] as? [Any] {
            let names = values.map { ($0 as? String) ?? (($0 as? Bool) == true ? "true" : "false") }
            return names.contains(text) ? nil : "\(path): \(text) is none of \(names)"
        }
        if let value = schema["const"] as? String { return value == text ? nil : "\(path): not \(value)" }
        let number = isPlain ? Double(text) : nil
        if let pattern = schema["pattern"] as? String, text.range(of: pattern, options: .regularExpression) == nil {
            return "\(path): \(text) does not match \(pattern)"
        }
        if allows("string", schema), number == nil || allows("number", schema) { return nil }
        guard let number, allows("number", schema) || (allows("integer", schema) && number == number.rounded()) else {
            return "\(path): \(text) is of another type"
        }
        let bound = { (key: String) in (schema[key] as? NSNumber)?.doubleValue }
        if let low = bound("minimum"), number < low { return "\(path): below \(low)" }
        if let low = bound("exclusiveMinimum"), number <= low { return "\(path): not above \(low)" }
        if let high = bound("maximum"), number > high { return "\(path): above \(high)" }
        if let high = bound("exclusiveMaximum"), number >= high { return "\(path): not below \(high)" }
        return nil
    }
}
