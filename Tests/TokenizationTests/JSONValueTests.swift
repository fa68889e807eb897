// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import Testing

@testable import Tokenization

@Suite("JSON as Python reads and prints it")
struct JSONValueTests {
    @Test(
        "values are printed as json.dumps(json.loads(text), ensure_ascii=False) prints them",
        arguments: [
            (#"{"b":1,"a":[true,false,null]}"#, #"{"b": 1, "a": [true, false, null]}"#),
            ("[]", "[]"), ("{}", "{}"), (" [ 1 , 2 ] ", "[1, 2]"), ("1.0", "1.0"), ("-0", "0"),
            ("-0.0", "-0.0"),
            ("1e5", "100000.0"), ("1E+2", "100.0"), ("1e16", "1e+16"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("1e15", "1000000000000000.0"), ("0.0001", "0.0001"), ("0.00001", "1e-05"), ("1.5e-7", "1.5e-07"),
            ("0.1", "0.1"), ("123456789.125", "123456789.125"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5e-324"), ("12345678901234567890.0", "1.2345678901234567e+19"), ("-2.5", "-2.5"),
            ("123456789012345678901234567890", "123456789012345678901234567890"), ("1e999", "Infinity"),
            (#""é\u00e9\ud83d\ude00\/""#, #""éé😀/""#),
            (#""\u0001\u001f\b\f\n\r\t\"\\""#, #""\u0001\u001f\b\f\n\r\t\"\\""#),
            (#"{"a":1,"b":2,"a":3}"#, #"{"a": 3, "b": 2}"#), ("\"\u{7F}\u{2028}\"", "\"\u{7F}\u{2028}\""),
        ])
    func printing(text: String, expected: String) throws {
        #expect(same(try JSONValue(parsing: text).pythonText, expected))
    }

    @Test(
        "text that is not JSON is refused with its place",
        arguments: [
            ("", 0), ("[1,]", 3), ("{\"a\" 1}", 5), ("{a:1}", 1), ("[1 2]", 3), ("01", 2), ("1.", 2),
            ("-", 1), ("tru", 0),
            ("nul1", 0), ("\"a", 2), ("\"\n\"", 1), (#""\x""#, 3), (#""\ud800""#, 7),
            (#""\ud800\u0041""#, 13), (#""\u12g4""#, 5),
            ("1 2", 2), ("NaN", 0), ("{\"a\":1,}", 7), ("+1", 0), (".5", 0),
        ])
    func refused(text: String, byteOffset: Int) throws {
        let error = try #require(throws: JSONParseError.self) { try JSONValue(parsing: text) }
        #expect(error.byteOffset == byteOffset, "\(text): \(error)")
    }

    @Test("invalid UTF-8 and deep nesting are refused")
    func bounds() throws {
        #expect(throws: JSONParseError.self) { try JSONValue(parsing: [0x22, 0xFF, 0x22]) }
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(throws: Never.self) { try JSONValue(parsing: nested(JSONValue.depthMax)) }
        #expect(throws: JSONParseError.self) { try JSONValue(parsing: nested(100_000)) }
    }

    @Test("keys and strings that differ only in normalization are different")
    func exactKeys() throws {
        let members = (0..<12).map { JSONObject.Member(key: "k\($0)", value: .null) }
        let object = JSONObject(
            members + [
                .init(key: "\u{E9}", value: 1), .init(key: "e\u{301}", value: 2), .init(key: "k3", value: 3),
            ])
        #expect(object.members.count == 14)
        #expect(object["\u{E9}"] == 1 && object["e\u{301}"] == 2 && object["k3"] == 3)
        #expect(JSONValue.string("\u{E9}") != JSONValue.string("e\u{301}"))
    }
}
