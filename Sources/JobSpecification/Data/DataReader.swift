// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// A row that was left out under `on_bad_row: skip`.
package struct SkippedRow: Equatable, Sendable {
    package let lineNumber: Int
    package let reason: String
}

/// Reads the rows of a job's data one by one, in file order: the same file gives the same records everywhere.
///
/// Stops after `data.limit` good rows. Ids are unique within a file.
package struct DataReader<Record: Sendable> {
    private var lines: JSONLinesReader
    private let data: DataSection
    private let file: String
    private let decode: (JSONObject, Int) throws(RowProblem) -> (id: String, record: Record)
    private var identifiers: Set<String> = []
    /// Records returned so far.
    package private(set) var recordCount = 0
    /// Rows left out so far.
    package private(set) var skippedCount = 0
    /// The first of the rows left out, at most 100.
    package private(set) var skipped: [SkippedRow] = []

    /// Rows of a file at most.
    package static var recordCountMax: Int { 20_000_000 }

    init(
        _ url: URL, _ data: DataSection,
        decode: @escaping (JSONObject, Int) throws(RowProblem) -> (id: String, record: Record)
    ) throws(JobError) {
        lines = try JSONLinesReader(url, lineByteCountMax: data.rowByteCountMax)
        self.data = data
        self.decode = decode
        file = url.path
    }

    /// The next good row; nil at the end of the file or at `data.limit`.
    /// - Throws: ``JobError`` `malformedRow` with file and line under `on_bad_row: fail`; `fileSystem`.
    package mutating func next() throws(JobError) -> Record? {
        while recordCount < data.limit ?? .max, let line = try lines.next() {
            guard recordCount < Self.recordCountMax else {
                throw JobError(
                    .limitExceeded, "has more than \(Self.recordCountMax) rows; split it", file: file)
            }
            let problem: String
            do throws(RowProblem) {
                let (id, record) = try decode(row(line), lines.lineNumber)
                guard identifiers.insert(id).inserted else { throw RowProblem("the id '\(id)' occurs twice") }
                recordCount += 1
                return record
            } catch {
                problem = error.message
            }
            try leaveOut(problem)
        }
        return nil
    }

    /// All remaining rows.
    package mutating func readAll() throws(JobError) -> [Record] {
        var records: [Record] = []
        while let record = try next() { records.append(record) }
        return records
    }

    private mutating func leaveOut(_ reason: String) throws(JobError) {
        guard data.onBadRow == .skip else {
            throw JobError(
                .malformedRow, "\(reason); mend the row or set data.on_bad_row: skip", line: lines.lineNumber,
                file: file)
        }
        skippedCount += 1
        if skipped.count < 100 { skipped.append(SkippedRow(lineNumber: lines.lineNumber, reason: reason)) }
    }

    private func row(_ line: JSONLinesReader.Line) throws(RowProblem) -> JSONObject {
        guard case .bytes(let bytes) = line else {
            throw RowProblem("longer than data.max_row_bytes (\(data.rowByteCountMax))")
        }
        return try JSONLinesReader.object(bytes)
    }
}

extension DataReader<PromptRecord> {
    /// Reads the prompts of a rollout job.
    /// - Parameter problem: why the job cannot use a row that can be read, such as a column that its reward needs; nil: it
    ///   can.
    package init(
        prompts url: URL, _ data: DataSection, problem: @escaping @Sendable (PromptRecord) -> String? = { _ in nil }
    ) throws(JobError) {
        try self.init(url, data) { (row, lineNumber) throws(RowProblem) in
            let record = try PromptRecord(row, data: data, lineNumber: lineNumber)
            if let text = problem(record) { throw RowProblem(text) }
            return (record.id, record)
        }
    }
}

extension DataReader<ScoreRecord> {
    /// Reads the texts of a score job.
    package init(scores url: URL, _ data: DataSection) throws(JobError) {
        try self.init(url, data) { (row, lineNumber) throws(RowProblem) in
            let record = try ScoreRecord(row, data: data, lineNumber: lineNumber)
            return (record.id, record)
        }
    }
}
