// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import Glibc
internal import RuntimeSupport

/// Rows of a Parquet or Arrow file as JSON lines: the user's Python with pyarrow reads it, in a process of its own, batch by
/// batch.
final class ColumnarStream: ByteStream {
    /// Names the Python to use; default: the first of `python3` and `python` on PATH that there is.
    static let variable = "APUS_PYTHON"
    /// Bytes come at least so often; a row group of any sane file is read in less.
    private static let silenceSeconds = 300

    private let file: String
    /// What it is, in words.
    private let name: String
    private let python: String
    private let process = Process()
    private let (output, problems) = (Pipe(), Pipe())

    /// - Parameter python: the program that reads; nil: the user's.
    /// - Throws: ``JobError`` with what to install.
    init(_ url: URL, form: DataForm, python: String? = nil) throws(JobError) {
        file = url.path
        name = form == .parquet ? "a Parquet file" : "an Arrow file"
        guard let python = python ?? Self.python() else {
            throw JobError(
                .fileSystem,
                "is \(name), which needs Python with pyarrow to be read, and there is no python3 on PATH; install both "
                    + "(pip install pyarrow; \(Self.variable) names another Python) or write JSON lines "
                    + "(datasets: Dataset.to_json)", file: url.path)
        }
        self.python = python
        process.executableURL = URL(fileURLWithPath: python)
        process.arguments = ["-c", Self.program, form == .parquet ? "parquet" : "arrow", url.path]
        // A module beside the data is not to be imported in place of the installed one.
        process.currentDirectoryURL = URL(fileURLWithPath: "/")
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = problems
        do { try process.run() } catch {
            throw JobError(.fileSystem, "\(python) cannot be started: \(failureReason(error))", file: url.path)
        }
    }

    deinit {
        guard process.isRunning else { return }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    func read() throws(JobError) -> Data? {
        let handle = output.fileHandleForReading
        var descriptor = pollfd(fd: handle.fileDescriptor, events: Int16(POLLIN), revents: 0)
        var ready: Int32
        repeat { ready = poll(&descriptor, 1, Int32(Self.silenceSeconds * 1000)) } while ready < 0 && errno == EINTR
        guard ready > 0 else {
            throw JobError(
                .fileSystem, "\(python) with pyarrow said nothing for \(Self.silenceSeconds) s; is its disk reachable?",
                file: file)
        }
        let chunk = handle.availableData
        guard chunk.isEmpty else { return chunk }
        process.waitUntilExit()
        guard process.terminationReason == .exit, process.terminationStatus == 0 else { throw failure() }
        return nil
    }

    private func failure() -> JobError {
        let said = String(decoding: problems.fileHandleForReading.availableData, as: UTF8.self)
        let last = said.split(whereSeparator: \.isNewline).last.map(String.init) ?? "nothing"
        guard process.terminationReason != .exit || process.terminationStatus != Self.withoutPyArrow else {
            return JobError(
                .fileSystem,
                "is \(name), which needs pyarrow to be read, and \(python) has none: \(python) -m pip install pyarrow (or name "
                    + "a Python that has it in \(Self.variable)), or write JSON lines (datasets: Dataset.to_json)",
                file: file)
        }
        return JobError(.malformedRow, "cannot be read by pyarrow: \(last.prefix(400))", file: file)
    }

    /// The user's Python; nil: there is none.
    static func python() -> String? {
        let environment = ProcessInfo.processInfo.environment
        if let named = environment[variable], !named.isEmpty { return named }
        let folders = (environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":").map(String.init)
        for name in ["python3", "python"] {
            for folder in folders where access("\(folder)/\(name)", X_OK) == 0 { return "\(folder)/\(name)" }
        }
        return nil
    }

    private static let withoutPyArrow: Int32 = 9

    /// Numbers keep their digits; what a struct's other rows have and this one lacks is left out, as `datasets` users expect
    /// of messages and tools; times are ISO 8601; NaN, with which pandas marks what is missing, is null.
    private static let program = #"""
        import sys, json, math, datetime, decimal
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            sys.exit(9)

        def text(value, inner=False):
            if value is None:
                return "null"
            if isinstance(value, bool):
                return "true" if value else "false"
            if isinstance(value, int):
                return str(value)
            if isinstance(value, float):
                return "null" if math.isnan(value) else repr(value)
            if isinstance(value, decimal.Decimal):
                return format(value, "f")
            if isinstance(value, list):
                if value and all(isinstance(v, tuple) and len(v) == 2 and isinstance(v[0], str) for v in value):
                    value = dict(value)
                else:
                    return "[" + ",".join(text(v, True) for v in value) + "]"
            if isinstance(value, dict):
                return "{" + ",".join(
                    json.dumps(str(k), ensure_ascii=False) + ":" + text(v, True)
                    for k, v in value.items() if not (inner and v is None)) + "}"
            if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
                value = value.isoformat()
            if isinstance(value, bytes):
                try:
                    value = value.decode("utf-8")
                except UnicodeDecodeError:
                    value = "(%d bytes of binary data)" % len(value)
            return json.dumps(str(value), ensure_ascii=False)

        def batches(form, path):
            if form == "parquet":
                yield from pq.ParquetFile(path).iter_batches(batch_size=256)
                return
            with pa.memory_map(path) as source:
                try:
                    reader = pa.ipc.open_stream(source)
                except pa.ArrowInvalid:
                    reader = pa.ipc.open_file(source)
                    for index in range(reader.num_record_batches):
                        yield reader.get_batch(index)
                    return
                yield from reader

        try:
            write = sys.stdout.buffer.write
            for batch in batches(*sys.argv[1:]):
                for start in range(0, batch.num_rows, 256):
                    for row in batch.slice(start, 256).to_pylist():
                        write(text(row).encode("utf-8", "replace") + b"\n")
            sys.stdout.buffer.flush()
        except Exception as error:
            sys.stderr.write("%s: %s\n" % (type(error).__name__, " ".join(str(error).split())))
            sys.exit(3)
        """#
}
