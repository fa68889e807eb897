// SPDX-License-Identifier: Apache-2.0

/// A value of a GGUF file's metadata. Texts and arrays stay in the file.
package enum GGUFValue: Hashable, Sendable {
    /// The types of values, by their numbers in the file.
    package enum Kind: UInt32, Sendable, Hashable {
        case uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64

        /// Bytes of one value; nil for those that say it themselves.
        var byteCount: Int? {
            switch self {
            case .uint8, .int8, .bool: 1
            case .uint16, .int16: 2
            case .uint32, .int32, .float32: 4
            case .uint64, .int64, .float64: 8
            case .string, .array: nil
            }
        }
    }

    /// Unsigned numbers above 2^63 - 1 count as that.
    case integer(Int)
    /// A 32-bit number is the shortest decimal that stands for it: 1e-5 and not 9.999999747378752e-06.
    case real(Double)
    case bool(Bool)
    /// Where its bytes are.
    case string(Range<Int>)
    /// Where the bytes of all elements are.
    case array(Kind, count: Int, Range<Int>)

    /// What kind of value this is, for messages.
    var kind: String {
        switch self {
        case .integer(let value): "the integer \(value)"
        case .real(let value): "the number \(value)"
        case .bool(let value): "\(value)"
        case .string: "a text"
        case .array(let kind, let count, _): "an array of \(count) values of type \(kind)"
        }
    }

    /// Reads a value of type `kind`.
    static func read(_ kind: Kind, _ cursor: inout GGUFCursor, _ what: String) throws -> GGUFValue {
        switch kind {
        case .uint8: .integer(Int(try cursor.number(UInt8.self, what)))
        case .int8: .integer(Int(try cursor.number(Int8.self, what)))
        case .uint16: .integer(Int(try cursor.number(UInt16.self, what)))
        case .int16: .integer(Int(try cursor.number(Int16.self, what)))
        case .uint32: .integer(Int(try cursor.number(UInt32.self, what)))
        case .int32: .integer(Int(try cursor.number(Int32.self, what)))
        case .uint64: .integer(Int(clamping: try cursor.number(UInt64.self, what)))
        case .int64: .integer(Int(try cursor.number(Int64.self, what)))
        case .float32: .real(shortest(Float(bitPattern: try cursor.number(UInt32.self, what))))
        case .float64: .real(Double(bitPattern: try cursor.number(UInt64.self, what)))
        case .bool: .bool(try readBool(&cursor, what))
        case .string: .string(try cursor.string(what))
        case .array: try readArray(&cursor, what)
        }
    }

    private static func readBool(_ cursor: inout GGUFCursor, _ what: String) throws -> Bool {
        let start = cursor.offset
        let value = try cursor.number(UInt8.self, what)
        guard value <= 1 else { throw cursor.failure("\(what) should be 0 or 1, not \(value)", at: start) }
        return value == 1
    }

    private static func readArray(_ cursor: inout GGUFCursor, _ what: String) throws -> GGUFValue {
        let kind = try readKind(&cursor, "the element type of \(what)")
        guard kind != .array else { throw cursor.failure("\(what) is an array of arrays, which nothing uses") }
        // A string takes the 8 bytes of its length at least.
        let count = try cursor.count("the number of elements of \(what)", unitByteCount: kind.byteCount ?? 8)
        let start = cursor.offset
        if let size = kind.byteCount {
            try cursor.skip(count * size, what)
        } else {
            for _ in 0..<count { _ = try cursor.string("an element of \(what)") }
        }
        return .array(kind, count: count, start..<cursor.offset)
    }

    static func readKind(_ cursor: inout GGUFCursor, _ what: String) throws -> Kind {
        let start = cursor.offset
        let code = try cursor.number(UInt32.self, what)
        guard let kind = Kind(rawValue: code) else {
            throw cursor.failure("\(what) is \(code), known are 0 to 12", at: start)
        }
        return kind
    }

    private static func shortest(_ value: Float) -> Double {
        value.isFinite ? Double(value.description) ?? Double(value) : Double(value)
    }
}
