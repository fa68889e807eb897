// SPDX-License-Identifier: Apache-2.0
internal import Foundation
package import RuntimeSupport

/// Reads rows one after the other, whatever form they come in: JSON lines, a JSON list, comma-separated values, each also
/// packed by gzip; Parquet and Arrow through pyarrow; the files of a data set's folder in their order.
package struct RowReader {
    /// One row.
    package struct Row {
        /// The row's columns in their order, or why they cannot be read.
        package let content: Result<JSONObject, RowProblem>
        package let place: RowPlace
        /// The number that an id is made of where the row writes none: its line or row, after those of earlier files.
        package let number: Int
    }

    private var files: ArraySlice<URL>
    private let byteCountMax: Int
    private var source: (any RowSource)?
    private var file = ""
    /// Numbers of earlier files.
    private var before = 0
    private var last = 0

    /// - Parameter byteCountMax: of a row; longer ones are read past.
    /// - Throws: ``JobError`` where the data are not there or no rows.
    package init(_ data: DataSet, byteCountMax: Int) throws(JobError) {
        files = try data.files()[...]
        self.byteCountMax = byteCountMax
        try open()
    }

    /// The next row that has something in it; nil at the end.
    /// - Throws: ``JobError`` where nothing more can be read.
    package mutating func next() throws(JobError) -> Row? {
        while let current = source {
            if let row = try current.next() {
                last = row.number
                return Row(
                    content: row.content,
                    place: RowPlace(file: file, number: row.number, isLine: current.numbersLines),
                    number: before + row.number)
            }
            before += last
            last = 0
            source = nil
            try open()
        }
        return nil
    }

    private mutating func open() throws(JobError) {
        guard let url = files.popFirst() else { return }
        file = url.path
        source = try Self.source(url, byteCountMax)
    }

    private static func source(_ url: URL, _ byteCountMax: Int) throws(JobError) -> any RowSource {
        var stream: any ByteStream = try FileStream(url)
        var start = try stream.read() ?? Data()
        if start.starts(with: [0x1F, 0x8B]) {
            stream = GzipStream(ReplayedStream(start, stream), file: url.path)
            start = try stream.read() ?? Data()
        }
        if start.starts(with: [0xEF, 0xBB, 0xBF]) { start = start.dropFirst(3) }
        let form: DataForm
        do throws(RowProblem) { form = try DataForm(start, name: url.lastPathComponent) } catch {
            throw JobError(.malformedRow, error.message, file: url.path)
        }
        switch form {
        case .jsonLines: return JSONLinesSource(ReplayedStream(start, stream), byteCountMax: byteCountMax)
        case .jsonDocument:
            return JSONDocumentSource(ReplayedStream(start, stream), file: url.path, byteCountMax: byteCountMax)
        case .separated(let separator):
            return SeparatedValuesSource(
                ReplayedStream(start, stream), file: url.path, separator: separator, byteCountMax: byteCountMax)
        case .parquet, .arrow:
            guard !(stream is GzipStream) else {
                throw JobError(
                    .malformedRow, "is packed by gzip over its own compression; unpack it (gunzip)", file: url.path)
            }
            return JSONLinesSource(
                try ColumnarStream(url, form: form), byteCountMax: byteCountMax, numbersLines: false)
        }
    }
}
