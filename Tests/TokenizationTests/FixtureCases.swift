// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

/// Reads reference data with our own JSON reader, so that texts keep their exact scalars.
enum FixtureCases {
    static func document(_ path: String) throws -> JSONValue {
        try JSONValue(parsing: Array(try Data(contentsOf: Fixtures.url(path))))
    }

    static func cases(_ path: String) throws -> [JSONValue] {
        let document = try document(path)
        return try #require(document.arrayValue ?? document["cases"]?.arrayValue)
    }

    static func tokenizer(_ name: String) throws -> Tokenizer {
        try Tokenizer(directory: Fixtures.url("tokenizer/\(name)"))
    }

    /// The released Qwen3 tokenizer, where APUS_QWEN_TOKENIZER names its directory. It cannot be committed.
    static let realTokenizerPath = ProcessInfo.processInfo.environment["APUS_QWEN_TOKENIZER"]
    static let hasRealTokenizer = realTokenizerPath != nil

    static func realTokenizer() throws -> Tokenizer {
        try Tokenizer(directory: URL(fileURLWithPath: try #require(realTokenizerPath)))
    }
}

extension JSONValue {
    var ids: [Int32] { (arrayValue ?? []).compactMap(\.intValue).map { Int32($0) } }
    var ranges: [Range<Int>] { (arrayValue ?? []).map { Int($0.ids[0])..<Int($0.ids[1]) } }
    func text(_ key: String) throws -> String { try #require(self[key]?.stringValue) }
}

/// Equality by scalars; Swift's `==` would also accept another normalization.
func same(_ left: String, _ right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }

/// A small generator for random test texts.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
