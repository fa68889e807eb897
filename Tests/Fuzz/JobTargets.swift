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
    FuzzTarget(
        name: "data-forms",
        seeds: {
            [
                Array("a,b\r\n\"x\"\"y\",\r\n1,\"two\nlines\"\n".utf8),
                Array("[{\"a\": 1, \"b\": \"]\\\"\"},\n {\"a\": [2, {}]}]".utf8),
                Array("{\n\"a\": 1\n}\n{\"a\": 2}".utf8), Array("a\tb\n1\t2\n".utf8),
                // gzip of {"a":1} and a line end.
                [
                    31, 139, 8, 0, 0, 0, 0, 0, 2, 255, 171, 86, 74, 84, 178, 50, 172, 229, 2, 0, 70, 163, 232, 116, 8,
                    0, 0, 0,
                ],
            ]
        },
        run: { bytes in
            // Those go to a program of the user's.
            for mark in ["PAR1", "ARROW1"] where bytes.starts(with: Array(mark.utf8)) { return }
            for suffix in ["csv", "tsv", "json", "jsonl"] {
                let path = "/dev/shm/apus-fuzz-forms-\(getpid()).\(suffix)"
                guard (try? Data(bytes).write(to: URL(fileURLWithPath: path))) != nil else {
                    fatalError("\(path) cannot be written")
                }
                defer { unlink(path) }
                guard var reader = try? RowReader(DataSet(path), byteCountMax: 512) else { continue }
                var last = 0
                while let row = try? reader.next() {
                    require(row.number > last, "numbers rise")
                    last = row.number
                }
            }
        }),
]
