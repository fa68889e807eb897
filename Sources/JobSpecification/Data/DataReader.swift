// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// A row that was left out under `on_bad_row: skip`.
package struct SkippedRow: Equatable, Sendable {
    package let place: RowPlace
    package let reason: String
}

/// Reads the rows of a job's data one by one, in file order: the same file gives the same records everywhere.
///
/// Stops after `data.limit` good rows. Ids are unique within a file.
package struct DataReader<Record: Sendable> {
    private var rows: RowReader
    private let data: DataSection
    private let path: String
    /// Where the row stands that was returned or left out last.
    package private(set) var place: RowPlace?
    private let decode: (JSONObject, RowReader.Row) throws(RowProblem) -> (id: String, record: Record)
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
        decode: @escaping (JSONObject, RowReader.Row) throws(RowProblem) -> (id: String, record: Record)
    ) throws(JobError) {
        rows = try RowReader(
            DataSet(url.path, split: data.split, name: data.name), byteCountMax: data.rowByteCountMax)
        self.data = data
        self.decode = decode
        path = url.path
    }

    /// The next good row; nil at the end of the file or at `data.limit`.
    /// - Throws: ``JobError`` `malformedRow` with file and line under `on_bad_row: fail`; `fileSystem`.
    package mutating func next() throws(JobError) -> Record? {
        while recordCount < data.limit ?? .max, let row = try rows.next() {
            place = row.place
            guard recordCount < Self.recordCountMax else {
                throw JobError(
                    .limitExceeded, "has more than \(Self.recordCountMax) rows; split it", file: path)
            }
            let problem: String
            do throws(RowProblem) {
                let (id, record) = try decode(row.content.get(), row)
                guard identifiers.insert(id).inserted else { throw RowProblem("the id '\(id)' occurs twice") }
                recordCount += 1
                return record
            } catch {
                problem = error.message
            }
            try leaveOut(problem, row.place)
        }
        return nil
    }

    /// All remaining rows.
    package mutating func readAll() throws(JobError) -> [Record] {
        var records: [Record] = []
        while let record = try next() { records.append(record) }
        return records
    }

    private mutating func leaveOut(_ reason: String, _ place: RowPlace) throws(JobError) {
        guard data.onBadRow == .skip else {
            throw place.error("\(reason); mend the row or set data.on_bad_row: skip")
        }
        skippedCount += 1
        if skipped.count < 100 { skipped.append(SkippedRow(place: place, reason: reason)) }
    }
}

extension DataReader<PromptRecord> {
    /// Reads the prompts of a rollout job.
    /// - Parameter problem: why the job cannot use a row that can be read, such as a column that its reward needs; nil: it
    ///   can.
    package init(
        prompts url: URL, _ data: DataSection, problem: @escaping @Sendable (PromptRecord) -> String? = { _ in nil }
    ) throws(JobError) {
        try self.init(url, data) { (object, row) throws(RowProblem) in
            let record = try PromptRecord(object, data: data, row)
            if let text = problem(record) { throw RowProblem(text) }
            return (record.id, record)
        }
    }
}

extension DataReader<ScoreRecord> {
    /// Reads the texts of a score job.
    package init(scores url: URL, _ data: DataSection) throws(JobError) {
        try self.init(url, data) { (object, row) throws(RowProblem) in
            let record = try ScoreRecord(object, data: data, row)
            return (record.id, record)
        }
    }
}
