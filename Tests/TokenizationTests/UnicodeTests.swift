// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import TestSupport
import Testing

@testable import Tokenization

@Suite("Unicode tables of the tokenizers library")
struct UnicodeTests {
    @Test("every scalar has the library's classes")
    func classes() throws {
        let document = try FixtureCases.document("tokenizer/codepoint_classes.json")
        for (key, bit) in [
            ("L", UnicodeClasses.letter), ("N", UnicodeClasses.number), ("S", UnicodeClasses.whitespace),
        ] {
            let expected = try #require(document[key]?.arrayValue).map { ($0.ids[0], $0.ids[1]) }
            var found: [(Int32, Int32)] = []
            for (scalar, bits) in UnicodeClasses.table.enumerated() where bits & bit != 0 {
                if let last = found.last, last.1 == Int32(scalar) - 1 {
                    found[found.count - 1].1 = Int32(scalar)
                } else {
                    found.append((Int32(scalar), Int32(scalar)))
                }
            }
            #expect(found.map { [$0.0, $0.1] } == expected.map { [$0.0, $0.1] }, "\(key)")
        }
    }

    @Test("normal form C of every single scalar, and every composition, is the library's")
    func normalFormC() throws {
        let document = try FixtureCases.document("tokenizer/codepoint_classes.json")
        var changed: [UInt32: [UInt32]] = [:]
        for entry in try #require(document["nfc_single"]?.arrayValue) {
            let numbers = entry.ids.map { UInt32($0) }
            changed[numbers[0]] = Array(numbers.dropFirst())
        }
        for scalar in (0..<UInt32(0x110000)) where scalar < 0xD800 || scalar > 0xDFFF {
            let bits = UnicodeClasses.table[Int(scalar)]
            // Scalars outside of the tables pass through by construction; running all of them would only take
            // time.
            guard bits & UnicodeClasses.mayChange != 0 || changed[scalar] != nil || scalar < 0x3000 else {
                continue
            }
            #expect(CanonicalComposition.normalize([scalar]).scalars == changed[scalar] ?? [scalar])
            if changed[scalar] != nil { #expect(bits & UnicodeClasses.mayChange != 0, "\(scalar)") }
        }
        for entry in try #require(document["nfc_compose_hangul_excluded"]?.arrayValue) {
            let numbers = entry.ids.map { UInt32($0) }
            #expect(CanonicalComposition.normalize(Array(numbers.dropFirst())).scalars == [numbers[0]])
            #expect(CanonicalComposition.normalize([numbers[0]]).scalars == [numbers[0]])
        }
    }

    @Test("marks are ordered by class, and a mark of the same class blocks composition")
    func ordering() {
        // q, dot above (230), dot below (220): no composite, so only the order changes.
        #expect(CanonicalComposition.normalize([0x71, 0x307, 0x323]).scalars == [0x71, 0x323, 0x307])
        // a, overline (230), acute (230): the acute is blocked.
        #expect(CanonicalComposition.normalize([0x61, 0x305, 0x301]).scalars == [0x61, 0x305, 0x301])
        // a, dot below, acute: the acute passes the dot below; composites take the dot first.
        #expect(CanonicalComposition.normalize([0x61, 0x301, 0x323]).scalars == [0x1EA1, 0x301])
        // Marks that Unicode 9 does not know are starters here: U+1DF9 (class 220 since Unicode 10) stays in
        // place.
        #expect(CanonicalComposition.normalize([0x71, 0x301, 0x1DF9]).scalars == [0x71, 0x301, 0x1DF9])
        #expect(CanonicalComposition.normalize([0x11935, 0x11930]).scalars == [0x11935, 0x11930])
    }

    @Test("Hangul syllables compose from their parts")
    func hangul() {
        #expect(CanonicalComposition.normalize([0x1112, 0x1161, 0x11AB]).scalars == [0xD55C])
        #expect(CanonicalComposition.normalize([0xD558, 0x11AB]).scalars == [0xD55C])
        #expect(CanonicalComposition.normalize([0xD55C, 0x11AB]).scalars == [0xD55C, 0x11AB])
        #expect(CanonicalComposition.normalize([0x1112, 0x11A7]).scalars == [0x1112, 0x11A7])
    }

    @Test(
        "pre-tokens are cut where the expression says",
        arguments: [
            (
                "I'm you'RE he'LL 'S 'ſ it'd",
                ["I", "'m", " you", "'RE", " he", "'LL", " '", "S", " '", "ſ", " it", "'d"]
            ),
            ("a  b", ["a", " ", " b"]), ("a \n \n  b", ["a", " \n \n", " ", " b"]), ("x  ", ["x", "  "]),
            ("12 3", ["1", "2", " ", "3"]), ("a!?\r\n\nb", ["a", "!?\r\n\n", "b"]), ("\tif", ["\tif"]),
            (" !x", [" !", "x"]), ("'rx'v", ["'rx", "'v"]), ("''s", ["''", "s"]),
            ("\u{3000}你", ["\u{3000}你"]),
            ("\n", ["\n"]), (" 1", [" ", "1"]), ("a\u{301}b", ["a", "\u{301}b"]), ("'", ["'"]),
            ("don't", ["don", "'t"]),
        ] as [(String, [String])])
    func preTokens(text: String, expected: [String]) {
        var found: [String] = []
        Array(text.utf8).withUnsafeBufferPointer { bytes in
            UnicodeClasses.table.withUnsafeBufferPointer { classes in
                var start = 0
                while start < bytes.count {
                    let end = SplitExpression.qwen2.end(from: start, in: bytes, classes: classes)
                    found.append(String(decoding: bytes[start..<end], as: UTF8.self))
                    start = end
                }
            }
        }
        #expect(found.map { Array($0.utf8) } == expected.map { Array($0.utf8) }, "\(found)")
    }
}
