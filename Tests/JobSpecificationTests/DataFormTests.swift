// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import Testing

@testable import JobSpecification

/// A folder of files that goes at the end.
private final class Folder {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-forms-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: url) }

    @discardableResult func write(_ name: String, _ bytes: Data) throws -> URL {
        let file = url.appendingPathComponent(name)
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try bytes.write(to: file)
        return file
    }
    @discardableResult func write(_ name: String, _ text: String) throws -> URL { try write(name, Data(text.utf8)) }

    func run(_ command: String) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", command]
        process.currentDirectoryURL = url
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(command)")
    }
}

private func rows(_ data: DataSet, byteCountMax: Int = 1 << 20) throws -> [String] {
    var reader = try RowReader(data, byteCountMax: byteCountMax)
    var texts: [String] = []
    while let row = try reader.next() {
        switch row.content {
        case .success(let object): texts.append("\(row.number) \(JSONValue.object(object).compactText)")
        case .failure(let problem): texts.append("\(row.number) ! \(problem)")
        }
    }
    return texts
}

private func rows(_ url: URL, byteCountMax: Int = 1 << 20) throws -> [String] {
    try rows(DataSet(url.path), byteCountMax: byteCountMax)
}

private func failure(_ url: URL) -> String {
    do {
        return "read \(try rows(url).count)"
    } catch { return "\(error)".replacingOccurrences(of: url.path, with: "FILE") }
}

@Suite("Forms of data files") struct DataFormTests {
    private let folder: Folder
    init() throws { folder = try Folder() }

    @Test("gzip: one member or several, cut off, damaged, and grown beyond any data")
    func gzip() throws {
        let text = (0..<5000).map { "{\"prompt\":\"p\($0)\",\"answer\":\($0)}\n" }.joined()
        let plain = try folder.write("a.jsonl", text)
        try folder.run("gzip -k a.jsonl && cat a.jsonl.gz a.jsonl.gz > b.jsonl.gz && cp a.jsonl.gz named-otherwise")
        let expected = try rows(plain)
        #expect(expected.count == 5000)
        #expect(try rows(folder.url.appendingPathComponent("a.jsonl.gz")) == expected)
        #expect(try rows(folder.url.appendingPathComponent("named-otherwise")) == expected)
        #expect(try rows(folder.url.appendingPathComponent("b.jsonl.gz")).count == 10_000)
        var packed = try Data(contentsOf: folder.url.appendingPathComponent("a.jsonl.gz"))
        #expect(
            try failure(folder.write("cut.jsonl.gz", packed.dropLast(9))).contains(
                "ends in the middle of its gzip data"))
        packed[packed.count / 2] ^= 0x55
        #expect(try failure(folder.write("bad.jsonl.gz", packed)).contains("is damaged gzip data"))
        try folder.run("head -c 290000000 /dev/zero | gzip -9 > bomb.jsonl.gz")
        #expect(failure(folder.url.appendingPathComponent("bomb.jsonl.gz")).contains("512 times its size"))
        try folder.run("printf 'question,answer\\n1+1,2\\n' | gzip > t.csv.gz")
        #expect(
            try rows(folder.url.appendingPathComponent("t.csv.gz")) == [#"2 {"question":"1+1","answer":"2"}"#])
    }

    @Test("a list of objects, on one line or many, and objects over several lines")
    func documents() throws {
        let expected = [#"1 {"a":1,"t":"]}\\\"["}"#, #"2 {"a":1.0,"n":{"b":[1,{"c":2}]}}"#]
        let first = #"{"a": 1, "t": "]}\\\"["}"#
        let second = "{\"a\": 1.0,\n \"n\": {\"b\": [1,\r\n {\"c\": 2}]}}"
        for text in [
            "[\(first),\(second)]", "[\n  \(first),\n  \(second)\n]\n", " \n[ \(first) ,\n\n\(second) ] \r\n",
            "\u{FEFF}[\(first), \(second)]",
        ] {
            #expect(try rows(folder.write("x.json", text)) == expected, "\(text)")
        }
        #expect(try rows(folder.write("x.jsonl", "{\n\"a\": 1\n}\n{\"a\":\n2}\n")) == [#"1 {"a":1}"#, #"2 {"a":2}"#])
        #expect(try rows(folder.write("x.json", "[]")) == [])
        #expect(try rows(folder.write("x.json", "[{\"a\":1}, 7, {\"a\":NaN}]"))[1...].allSatisfy { $0.contains(" ! ") })
        #expect(
            try rows(
                folder.write("x.json", "[{\"a\":\"\(String(repeating: "x", count: 99))\"},{\"a\":1}]"), byteCountMax: 64
            )
                == ["1 ! longer than data.max_row_bytes (64)", #"2 {"a":1}"#])
        for (text, word) in [
            ("[{\"a\":1}", "FILE:1: is not JSON: the list does not end"), ("[{\"a\":1} {\"a\":2}]", "expected ','"),
            ("[{\"a\":1},]", "unexpected ']'"), ("[{\"a\":1}]\n{}", "FILE:2: is not JSON: there is text after the end"),
            ("[\n{\"a\":1},\n{\"a\":", "the row that begins in line 3 does not end"),
        ] {
            #expect(try failure(folder.write("x.json", text)).contains(word), "\(text)")
        }
    }

    @Test("comma-separated values: quotes, line ends, marks, separators; values are the texts that are written")
    func separated() throws {
        let text =
            "\u{FEFF}question,answer,note\r\n\"What is 1,5 + \"\"2\"\"?\",007,\r\n\"two\r\nlines\",0.00001,\"\"\r\n\r\n"
            + "é,12345678901234567890,x\"y"
        #expect(
            try rows(folder.write("x.csv", text)) == [
                #"2 {"question":"What is 1,5 + \"2\"?","answer":"007","note":null}"#,
                #"3 {"question":"two\r\nlines","answer":"0.00001","note":""}"#,
                #"6 {"question":"é","answer":"12345678901234567890","note":"x\"y"}"#,
            ])
        #expect(try rows(folder.write("x.tsv", "a\tb\n1,5\t2\n")) == [#"2 {"a":"1,5","b":"2"}"#])
        #expect(try rows(folder.write("x.csv", "a;b\n1,5;2\n")) == [#"2 {"a":"1,5","b":"2"}"#])
        #expect(try rows(folder.write("x.csv", ",a\n0,x\n1,y\n")) == [#"2 {"a":"x"}"#, #"3 {"a":"y"}"#])
        #expect(try rows(folder.write("x.csv", "a\n\"x\"y\nz\n"))[0].contains("text after a closing quote"))
        #expect(
            try rows(folder.write("x.csv", "a,b\n1\n2,3,4\n5,6\n"))[0...1].allSatisfy { $0.contains("the header 2") })
        #expect(
            try rows(folder.write("x.csv", "a\n\(String(repeating: "x", count: 99))\ny\n"), byteCountMax: 64)
                == ["2 ! longer than data.max_row_bytes (64)", #"3 {"a":"y"}"#])
        #expect(
            try failure(folder.write("x.csv", "a,a\n1,2\n")).contains("FILE:1: the header: the column 'a' occurs twice")
        )
        #expect(
            try failure(folder.write("x.csv", "a\n1\n\"open\n")).contains("FILE:3: a value that begins with a quote"))
        #expect(try rows(folder.write("x.csv", Data([0x61, 0x0A, 0xFF, 0x0A])))[0].contains("'a' is not UTF-8"))
    }

    @Test("a job reads every form alike, with the place of what cannot be used")
    func jobs() throws {
        let data = try DataSection(YAMLReader(try YAMLNode.parse("{path: x}"), path: "data"))
        func answers(_ name: String, _ text: String) throws -> [String?] {
            var reader = try DataReader<PromptRecord>(prompts: try folder.write(name, text), data)
            return try reader.readAll().map { "\($0.id) \($0.content.query) \($0.answer ?? "-")" }
        }
        let expected = ["row-2 1+1? 2", "row-3 2+2? 4"]
        #expect(try answers("a.csv", "question,answer\n1+1?,2\n2+2?,4\n") == expected)
        #expect(try answers("a.tsv", "question\tanswer\n1+1?\t2\n2+2?\t4\n") == expected)
        #expect(
            try answers("a.json", #"[{"question":"1+1?","answer":2},{"question":"2+2?","answer":4}]"#)
                == ["row-1 1+1? 2", "row-2 2+2? 4"])
        let error = #expect(throws: JobError.self) { try answers("b.json", #"[{"question":"a"},{"answer":1}]"#) }
        #expect(error?.description.contains("b.json: row 2: no column 'prompt'") == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("the row has: answer") == true)
        let line = #expect(throws: JobError.self) { try answers("b.csv", "question,answer\na,1\n,2\n") }
        #expect(line?.description.contains("b.csv:3: no column") == true, "\(line?.description ?? "")")
    }

    /// Stands in for Python: what is asked of it and what it answers is the same.
    private func python(_ body: String) throws -> String {
        let url = try folder.write("python", "#!/bin/sh\n\(body)\n")
        try folder.run("chmod +x python")
        return url.path
    }

    private func columnar(_ body: String) throws -> String {
        let url = try folder.write("x.parquet", "PAR1")
        do {
            let source = JSONLinesSource(
                try ColumnarStream(url, form: .parquet, python: try python(body)), byteCountMax: 1 << 20,
                numbersLines: false)
            var texts: [String] = []
            while let row = try source.next() { texts.append("\(row.number) \(try row.content.get()["a"] ?? .null)") }
            return texts.joined(separator: ", ")
        } catch { return "\(error)" }
    }

    @Test("Parquet goes through a Python with pyarrow; without one the message says what to install")
    func parquet() throws {
        #expect(
            try columnar(#"[ "$3" = parquet ] && [ -f "$4" ] && printf '{"a":1}\n{"a":2.50}\n'"#)
                == #"1 integer("1"), 2 decimal("2.50")"#)
        #expect(try columnar("exit 9").contains("python -m pip install pyarrow"))
        #expect(
            try columnar("echo 'ArrowInvalid: no magic bytes' >&2; exit 3").contains(
                "pyarrow: ArrowInvalid: no magic bytes"))
        #expect(try columnar("kill -9 $$").contains("cannot be read by pyarrow"))
        let none = #expect(throws: JobError.self) {
            try ColumnarStream(folder.url, form: .arrow, python: folder.url.appendingPathComponent("none").path)
        }
        #expect(none?.description.contains("cannot be started") == true)
    }

    private static let hasPyArrow: Bool = {
        guard let python = ColumnarStream.python() else { return false }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: python)
        process.arguments = ["-c", "import pyarrow"]
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    @Test(
        "Parquet and Arrow as pyarrow writes them: messages, exact numbers, what a struct lacks, times",
        .enabled(if: Self.hasPyArrow, "no Python with pyarrow"))
    func pyarrow() throws {
        try folder.write(
            "make.py",
            """
            import pyarrow as pa, pyarrow.parquet as pq, decimal, datetime
            t = pa.table({
                "prompt": [[{"role": "user", "content": "é?"}], [{"role": "user", "content": "b", "name": "n"}]],
                "answer": [12345678901234567, None], "x": [0.1, float("nan")],
                "d": [decimal.Decimal("1.50"), decimal.Decimal("2.00")], "day": [datetime.date(2026, 1, 2)] * 2,
                "reward_model": [{"ground_truth": "5", "style": "rule"}, {"ground_truth": "6", "style": None}]})
            pq.write_table(t, "x.parquet")
            with pa.OSFile("x.arrow", "wb") as f, pa.ipc.new_stream(f, t.schema) as w: w.write_table(t)
            with pa.OSFile("y.arrow", "wb") as f, pa.ipc.new_file(f, t.schema) as w: w.write_table(t)
            """)
        try folder.run("\(ColumnarStream.python() ?? "") make.py")
        let expected = [
            #"1 {"prompt":[{"role":"user","content":"é?"}],"answer":12345678901234567,"x":0.1,"d":1.50,"day":"2026-01-02","#
                + #""reward_model":{"ground_truth":"5","style":"rule"}}"#,
            #"2 {"prompt":[{"role":"user","content":"b","name":"n"}],"answer":null,"x":null,"d":2.00,"day":"2026-01-02","#
                + #""reward_model":{"ground_truth":"6"}}"#,
        ]
        for name in ["x.parquet", "x.arrow", "y.arrow"] {
            let found = try rows(folder.url.appendingPathComponent(name)).map {
                $0.replacingOccurrences(
                    of: #"{"content":"é?","role":"user"}"#, with: #"{"role":"user","content":"é?"}"#
                )
                .replacingOccurrences(
                    of: #"{"content":"b","name":"n","role":"user"}"#, with: #"{"role":"user","content":"b","name":"n"}"#
                )
            }
            #expect(found == expected, "\(name)")
        }
    }
}

@Suite("Folders of data sets") struct DataSetFolderTests {
    private let folder: Folder
    init() throws { folder = try Folder() }

    private func files(_ split: String? = nil, _ name: String? = nil, in path: String = "") -> String {
        let root = path.isEmpty ? folder.url : folder.url.appendingPathComponent(path)
        do throws(JobError) {
            return try DataSet(root.path, split: split, name: name).files().map {
                $0.path.replacingOccurrences(of: root.standardizedFileURL.path + "/", with: "")
            }.joined(separator: " ")
        } catch { return error.message }
    }

    private func lines(_ names: String...) throws {
        for name in names { try folder.write(name, "{\"prompt\":\"\(name)\"}\n") }
    }

    @Test("a clone of the hub: configurations and splits of its README")
    func card() throws {
        try lines(
            "main/train-0.jsonl", "main/train-1.jsonl", "main/test-0.jsonl", "socratic/a.jsonl", "socratic/b.jsonl",
            "notes.json")
        try folder.write(
            "README.md",
            """
            ---
            license: mit
            dataset_info:
            - config_name: main
              features: [{name: x, dtype: {class_label: {names: ['0': a]}}}]
            configs:
            - config_name: socratic
              data_files:
              - split: train
                path: [socratic/a.jsonl]
              - split: test
                path: "socratic/{b,c}.jsonl"
            - config_name: main
              default: true
              data_files:
              - split: train
                path: main/train-*
              - split: test
                path: main/test-*
            size: 7
            ---
            # Text with --- inside
            """)
        #expect(files() == "main/train-0.jsonl main/train-1.jsonl")
        #expect(files("test") == "main/test-0.jsonl")
        #expect(files("test", "socratic") == "socratic/b.jsonl")
        #expect(files("validation").contains("has no split 'validation'; data.split may be: test, train"))
        #expect(files(nil, "other").contains("data.name may be: socratic, main"))
        #expect(files("train[:10]").contains("data.limit"))
        var reader = try RowReader(DataSet(folder.url.path), byteCountMax: 1 << 20)
        var found: [String] = []
        while let row = try reader.next() { found.append("\(row.number) \(row.place.number)") }
        #expect(found == ["1 1", "2 1"], "rows are numbered through, places are those of their file")
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent("socratic/b.jsonl"))
        #expect(files("test", "socratic").contains("no such file is here"))
    }

    @Test("without a README: splits by the names of files and folders, one form of several")
    func inferred() throws {
        try lines(
            "data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test-00000-of-00001.jsonl")
        try folder.write("data/train.csv", "prompt\nx\n")
        try folder.write("dataset_infos.json", "{}")
        try folder.write("notes.txt", "x")
        #expect(files() == "data/train-00000-of-00002.jsonl data/train-00001-of-00002.jsonl")
        #expect(files("test") == "data/test-00000-of-00001.jsonl")
        #expect(DataSetFolder.split(of: "my_dev.jsonl") == "validation")
        #expect(DataSetFolder.split(of: "default/test/0000.parquet") == "test")
        #expect(DataSetFolder.split(of: "constrained.jsonl") == nil)
        #expect(DataSetFolder.split(of: "data/extra-00000-of-00001.parquet") == "extra")
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent("data"))
        #expect(files().contains("is a folder without data"))
        try lines("b.jsonl", "a.jsonl")
        #expect(files() == "a.jsonl b.jsonl")
        try lines("validation.jsonl", "test.jsonl")
        for name in ["a.jsonl", "b.jsonl"] {
            try FileManager.default.removeItem(at: folder.url.appendingPathComponent(name))
        }
        #expect(files().contains("choose one with data.split: test, validation"))
        #expect(files("test") == "test.jsonl")
        #expect(files("test", nil, in: "test.jsonl").contains("is one file and has no split 'test'"))
        #expect(files(nil, "main", in: "test.jsonl").contains("has no 'main'"))
    }

    @Test("what save_to_disk wrote, and the hub's cache with its links")
    func saved() throws {
        try folder.write("d/dataset_dict.json", #"{"splits": ["train", "test"]}"#)
        for split in ["train", "test"] {
            try folder.write(
                "d/\(split)/state.json",
                #"{"_data_files": [{"filename": "data-00000-of-00001.arrow"}, {"filename": "../x"}]}"#)
            try folder.write("d/\(split)/dataset_info.json", "{}")
            try folder.write("d/\(split)/data-00000-of-00001.arrow", Data([255, 255, 255, 255]))
        }
        #expect(files(in: "d") == "train/data-00000-of-00001.arrow", "names that lead elsewhere are not followed")
        #expect(files("test", in: "d") == "test/data-00000-of-00001.arrow")
        #expect(files(in: "d/test") == "data-00000-of-00001.arrow")
        #expect(files(nil, "x", in: "d").contains("was written by save_to_disk"))
        let cache = "datasets--o--n"
        try folder.write("\(cache)/blobs/abc", "{\"prompt\":\"x\"}\n")
        try folder.write("\(cache)/refs/main", "r2\n")
        for revision in ["r1", "r2"] {
            try folder.run(
                "mkdir -p \(cache)/snapshots/\(revision)/data && ln -s ../../../blobs/abc \(cache)/snapshots/\(revision)/data/train.jsonl"
            )
        }
        #expect(files(in: cache) == "snapshots/r2/data/train.jsonl")
        #expect(try rows(DataSet(folder.url.appendingPathComponent(cache).path)) == [#"1 {"prompt":"x"}"#])
        try FileManager.default.removeItem(at: folder.url.appendingPathComponent("\(cache)/refs"))
        #expect(files(in: cache).contains("holds 2 snapshots"))
    }

    @Test("the recipe of a job knows the content of the folder's files, of its split alone")
    func recipe() throws {
        try lines("train-0.jsonl", "train-1.jsonl", "test.jsonl")
        func recipe() throws -> String {
            try Job.parse(
                "{kind: rollout, name: n, model: {path: m}, data: {path: '\(folder.url.path)', split: train}, output: o}"
            ).recipe()
        }
        let first = try recipe()
        try folder.write("test.jsonl", "{}\n")
        #expect(try recipe() == first)
        try folder.write("train-1.jsonl", "{}\n")
        #expect(try recipe() != first)
    }

    @Test("patterns: names, folders, choices, and no time that explodes")
    func patterns() {
        func matches(_ pattern: String, _ path: String) -> Bool { FilePattern(pattern).matches(path) }
        #expect(matches("data/train-*", "data/train-0.parquet") && !matches("data/*", "data/a/b"))
        #expect(matches("**", "a/b/c") && matches("**/x.csv", "a/b/x.csv") && matches("**/x.csv", "x.csv"))
        #expect(matches("./a/[0-9]?.{json,csv}", "a/7b.csv") && !matches("a/[!0-9].csv", "a/7.csv"))
        #expect(!matches(String(repeating: "*a", count: 200) + "b", String(repeating: "a", count: 2000)))
    }
}
