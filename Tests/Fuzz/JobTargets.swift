// SPDX-License-Identifier: Apache-2.0
import Foundation

@testable import JobSpecification

let jobTargets: [FuzzTarget] = [
    FuzzTarget(
        name: "job-files",
        seeds: {
            try (files("Cluster/jobs", ".yaml") + files("Cluster/tiny-world", ".yaml")).filter { $0.count < 8192 }
        },
        run: { bytes in
            guard let text = String(validating: bytes, as: UTF8.self), let job = try? Job.parse(text) else { return }
            do {
                require(try Job(resolved: job.resolvedYAML) == job, "a resolved job reads back as YAML")
                require(try Job(resolved: job.resolvedJSON) == job, "a resolved job reads back as JSON")
            } catch { require(false, "a resolved job reads back: \(error)") }
        }),
    FuzzTarget(
        name: "overrides",
        seeds: { ["steps=3", "data.path=x", "sampling={temperature: 1}", "reward[0]=exact"].map { Array($0.utf8) } },
        run: { bytes in
            guard let override = try? JobOverride(argument: String(decoding: bytes, as: UTF8.self)) else { return }
            _ = try? Job.parse("kind: rollout\nname: a\n", overrides: [override])
        }),
    FuzzTarget(
        name: "data-rows",
        seeds: {
            [
                #"{"id": "1", "prompt": "2+2", "answer": "4", "n": 1.5, "x": [1, null, {"a": true}]}"# + "\n",
                #"{"messages": [{"role": "user", "content": "hi"}], "solution": "x"}"# + "\n\n"
                    + #"{"prompt": "a", "chosen": "b", "rejected": "c"}"#,
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            let url = URL(fileURLWithPath: "/dev/shm/apus-fuzz-\(getpid()).jsonl")
            guard (try? Data(bytes).write(to: url)) != nil else { fatalError("\(url.path) cannot be written") }
            defer { unlink(url.path) }
            guard let node = try? YAMLNode.parse("{path: x, on_bad_row: skip, max_row_bytes: 512}"),
                let data = try? DataSection(YAMLReader(node))
            else { fatalError("the target's own settings are bad") }
            var prompts = try? DataReader<PromptRecord>(prompts: url, data)
            let records = (try? prompts?.readAll()) ?? []
            require(Set(records.map(\.id)).count == records.count, "ids are unique")
            var scores = try? DataReader<ScoreRecord>(scores: url, data)
            _ = try? scores?.readAll()
        }),
]
