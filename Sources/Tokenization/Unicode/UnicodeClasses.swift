// SPDX-License-Identifier: Apache-2.0

/// What the pre-tokenizer and the normalizer need to know of a scalar, one byte per scalar value.
///
/// The tables are those of the tokenizers library (see `UnicodeClasses+Generated.swift`): its regex engine
/// has an older Unicode than the platform, and other classes would cut text at other places and so give other
/// token ids.
enum UnicodeClasses {
    /// `\p{L}`.
    static let letter: UInt8 = 1
    /// `\p{N}`.
    static let number: UInt8 = 2
    /// `\s`.
    static let whitespace: UInt8 = 4
    /// Carriage return and line feed.
    static let lineBreak: UInt8 = 8
    /// May change under normal form C, alone or together with its neighbours.
    static let mayChange: UInt8 = 16
    /// What the pre-tokenizer `Digits` takes for a digit: numbers by a newer Unicode than that of `\p{N}`.
    static let digit: UInt8 = 32

    /// The bits of every scalar value, 0 ... 0x10FFFF (1.1 MB; only the pages of scripts in use are touched).
    static let table: [UInt8] = {
        var table = [UInt8](repeating: 0, count: 0x110000)
        func mark(_ ranges: [UInt32], _ bit: UInt8) {
            for index in stride(from: 0, to: ranges.count, by: 2) {
                for scalar in Int(ranges[index])...Int(ranges[index + 1]) { table[scalar] |= bit }
            }
        }
        mark(UnicodeTables.letterRanges, letter)
        mark(UnicodeTables.numberRanges, number)
        mark(UnicodeTables.whitespaceRanges, whitespace)
        mark([0x0A, 0x0A, 0x0D, 0x0D], lineBreak)
        mark(UnicodeTables.numberRanges + [0x11DE0, 0x11DE9, 0x16FF4, 0x16FF6], digit)
        let marks = UnicodeTables.combiningClassRanges
        for index in stride(from: 0, to: marks.count, by: 3) {
            mark([marks[index], marks[index + 1]], mayChange)
        }
        // Second halves of compositions; the first halves alone change nothing.
        let pairs = UnicodeTables.compositions
        for index in stride(from: 0, to: pairs.count, by: 3) { table[Int(pairs[index + 1])] |= mayChange }
        for (scalar, _) in CanonicalComposition.decompositions
        where CanonicalComposition.composites[scalar] == nil { table[Int(scalar)] |= mayChange }
        mark([0x1161, 0x1175, 0x11A8, 0x11C2], mayChange)
        return table
    }()
}

/// Reads the scalar that starts at `index` of valid UTF-8.
///
/// - Returns: the scalar's value and its length in bytes.
@inline(__always)
func scalar(in bytes: UnsafeBufferPointer<UInt8>, at index: Int) -> (value: Int, length: Int) {
    let first = Int(bytes[index])
    if first < 0x80 { return (first, 1) }
    let second = Int(bytes[index + 1]) & 0x3F
    if first < 0xE0 { return ((first & 0x1F) << 6 | second, 2) }
    let third = Int(bytes[index + 2]) & 0x3F
    if first < 0xF0 { return ((first & 0x0F) << 12 | second << 6 | third, 3) }
    return ((first & 0x07) << 18 | second << 12 | third << 6 | Int(bytes[index + 3]) & 0x3F, 4)
}
