// SPDX-License-Identifier: Apache-2.0

/// Reads the JSON of a safetensors header into entries, without judging offsets against each other.
struct SafetensorsHeaderParser {
    typealias Failure = JSONScanner.Failure

    /// The fields of an entry, read so far.
    private struct Fields {
        var dataType: SafetensorsDataType?
        var shape: [Int]?
        var range: Range<Int>?
    }

    private var scanner: JSONScanner
    private(set) var entries: [SafetensorsHeader.Entry] = []
    private(set) var metadata: [SafetensorsHeader.Metadatum] = []
    /// The tensor being read, for messages.
    private(set) var currentName: String?

    init(_ json: UnsafeRawBufferPointer) { scanner = JSONScanner(json) }

    mutating func parse() throws(Failure) {
        guard scanner.peek() == UInt8(ascii: "{") else { throw scanner.failure("expected an object") }
        // readObject lends the scanner exclusively, so the rest of self is collected by hand.
        var found = Collected()
        do throws(Failure) {
            try scanner.readObject { (scanner, key) throws(Failure) in try found.member(&scanner, key) }
            currentName = nil
            try scanner.expectEnd()
        } catch {
            currentName = found.currentName
            throw error
        }
        entries = found.entries
        metadata = found.metadata
    }

    /// What has been read of the outer object.
    private struct Collected {
        var entries: [SafetensorsHeader.Entry] = []
        var metadata: [SafetensorsHeader.Metadatum] = []
        var sawMetadata = false
        var currentName: String?

        mutating func member(_ scanner: inout JSONScanner, _ key: String) throws(Failure) {
            guard key == "__metadata__" else {
                currentName = key
                let fields = try SafetensorsHeaderParser.readEntry(&scanner)
                guard let dataType = fields.dataType else {
                    throw scanner.failure("field \"dtype\" is missing")
                }
                guard let shape = fields.shape else { throw scanner.failure("field \"shape\" is missing") }
                guard let range = fields.range else {
                    throw scanner.failure("field \"data_offsets\" is missing")
                }
                entries.append(.init(name: key, dataType: dataType, shape: shape, dataRange: range))
                currentName = nil
                return
            }
            guard !sawMetadata else { throw scanner.failure("\"__metadata__\" occurs twice") }
            sawMetadata = true
            metadata = try SafetensorsHeaderParser.readMetadata(&scanner)
        }
    }

    private static func readMetadata(
        _ scanner: inout JSONScanner
    ) throws(Failure) -> [SafetensorsHeader.Metadatum] {
        if scanner.peek() == UInt8(ascii: "n") {
            try scanner.readWord("null")
            return []
        }
        // Pairs are few; the last of a doubled key counts.
        var pairs: [String: String] = [:]
        try scanner.readObject { (scanner, key) throws(Failure) in
            guard scanner.peek() == UInt8(ascii: "\"") else {
                throw scanner.failure("the value of \"\(key)\" in __metadata__ is no string")
            }
            pairs[key] = try scanner.readString()
        }
        return pairs.map { SafetensorsHeader.Metadatum($0.key, $0.value) }
    }

    private static func readEntry(_ scanner: inout JSONScanner) throws(Failure) -> Fields {
        var fields = Fields()
        if scanner.peek() == UInt8(ascii: "[") {
            var position = 0
            try scanner.readArray { (scanner) throws(Failure) in
                switch position {
                case 0: fields.dataType = try readDataType(&scanner)
                case 1: fields.shape = try readShape(&scanner)
                case 2: fields.range = try readRange(&scanner)
                default: throw scanner.failure("an entry has three elements")
                }
                position += 1
            }
            return fields
        }
        try scanner.readObject { (scanner, key) throws(Failure) in
            switch key {
            case "dtype":
                guard fields.dataType == nil else { throw scanner.failure("\"dtype\" occurs twice") }
                fields.dataType = try readDataType(&scanner)
            case "shape":
                guard fields.shape == nil else { throw scanner.failure("\"shape\" occurs twice") }
                fields.shape = try readShape(&scanner)
            case "data_offsets":
                guard fields.range == nil else { throw scanner.failure("\"data_offsets\" occurs twice") }
                fields.range = try readRange(&scanner)
            default: try scanner.skipValue(depth: 2)
            }
        }
        return fields
    }

    private static func readDataType(_ scanner: inout JSONScanner) throws(Failure) -> SafetensorsDataType {
        guard scanner.peek() == UInt8(ascii: "\"") else { throw scanner.failure("\"dtype\" is no string") }
        let name = try scanner.readString()
        guard let dataType = SafetensorsDataType(rawValue: name) else {
            let known = SafetensorsDataType.allCases.map(\.rawValue).joined(separator: " ")
            throw scanner.failure("unknown dtype \"\(name)\", known are \(known)")
        }
        return dataType
    }

    private static func readShape(_ scanner: inout JSONScanner) throws(Failure) -> [Int] {
        var shape: [Int] = []
        try scanner.readArray { (scanner) throws(Failure) in shape.append(try readSize(&scanner)) }
        return shape
    }

    private static func readRange(_ scanner: inout JSONScanner) throws(Failure) -> Range<Int> {
        var (lower, upper, count) = (0, 0, 0)
        try scanner.readArray { (scanner) throws(Failure) in
            let value = try readSize(&scanner)
            if count == 0 { lower = value } else { upper = value }
            count += 1
            guard count <= 2 else { throw scanner.failure("\"data_offsets\" has more than two elements") }
        }
        guard count == 2 else { throw scanner.failure("\"data_offsets\" has \(count) elements, expected 2") }
        guard lower <= upper else {
            throw scanner.failure("\"data_offsets\" [\(lower), \(upper)] run backwards")
        }
        return lower..<upper
    }

    private static func readSize(_ scanner: inout JSONScanner) throws(Failure) -> Int {
        guard case .unsigned(let value) = try scanner.readNumber(), let size = Int(exactly: value) else {
            throw scanner.failure("expected a whole number from 0 to \(Int.max)")
        }
        return size
    }
}
