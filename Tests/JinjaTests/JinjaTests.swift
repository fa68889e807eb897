// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import Jinja
@testable import Tokenization

@Suite struct JinjaTests {
    static let now = 1_741_529_107  // 2025-03-09T14:05:07

    struct Unit: Sendable, CustomTestStringConvertible {
        let template: String
        let context: JSONValue
        let output: String?
        let errorKind: String?
        var testDescription: String { template }
    }

    static let units: [Unit] = {
        guard let data = try? Data(contentsOf: Fixtures.url("jinja/units.json")),
            let root = try? JSONValue(parsing: Array(data)), let cases = root["cases"]?.arrayValue
        else { return [] }
        return cases.map {
            Unit(
                template: $0["template"]?.stringValue ?? "", context: $0["context"] ?? .null,
                output: $0["output"]?.stringValue, errorKind: $0["error"]?["kind"]?.stringValue)
        }
    }()

    static func render(
        _ template: String, _ context: JSONValue = .null, limits: JinjaLimits = JinjaLimits()
    ) throws -> String {
        var values: [String: JinjaValue] = [:]
        for member in context.objectValue?.members ?? [] { values[member.key] = JinjaValue(member.value) }
        return try JinjaTemplate(template, limits: limits).render(values, clock: now).text
    }

    @Test func thereAreUnits() { #expect(Self.units.count >= 235) }

    /// Each snippet gives what Jinja2 gives, or fails where it fails.
    @Test(arguments: units) func agreesWithJinja(_ unit: Unit) throws {
        if let output = unit.output {
            let text = try Self.render(unit.template, unit.context)
            #expect(
                text.utf8.elementsEqual(output.utf8), "\(text.debugDescription), expected \(output.debugDescription)")
        } else {
            let error = #expect(throws: JinjaError.self) { try Self.render(unit.template, unit.context) }
            #expect(error?.kind.rawValue == unit.errorKind, "\(error?.description ?? "")")
        }
    }

    /// Templates of an attacker end by a bound, and before they have done much work.
    @Test(arguments: [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(a) %}{{ m([a, [a, m]]) }}{% endmacro %}{{ m(1) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{% set ns = namespace(a='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
        "{{ '%1000000000d' % 1 }}", "{{ 'a'.ljust(1000000000) }}", "{{ 'x' | center(1000000000) }}",
        "{{ ('a' * 100000).replace('', 'b' * 100000) }}", "{{ ('a,' * 100000).split(',') | join('b' * 100000) }}",
        "{{ [0] * 1000000000 }}", "{{ ([0] * 100000) | batch(1, 0) | list | tojson(indent=100000000) }}",
        "{{ ('a\n' * 100000) | indent('b' * 100000) }}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = (ns.a + ns.a) | batch(2) | list %}"
            + "{% endfor %}{{ ns.a }}",
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
            + "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
        "{% macro m() %}{{ varargs }}{% endmacro %}{% set ns = namespace(a=[1]) %}{% for i in range(100000) %}"
            + "{% set ns.a = [ns.a] %}{% endfor %}{{ m(ns.a) }}",
        "{% set ns = namespace(a={}) %}{% for i in range(60) %}{% set ns.a = dict(a=ns.a, b=ns.a) %}{% endfor %}{{ ns.a }}",
        "{% for i in range(100000) %}{{ ('a' * 100000)[::-1] }}{% endfor %}",
        "{% for i in range(100000) %}{{ 'b' in 'a' * 1000000 }}{% endfor %}",
        "{% for i in range(100000) %}{{ range(100000) | sum }}{% endfor %}",
        "{% for x in range(100000) | list recursive %}{{ loop(range(100000)) }}{% endfor %}",
    ]) func stopsAnAttack(_ template: String) {
        let error = #expect(throws: JinjaError.self) { try Self.render(template) }
        #expect(error?.kind == .limit, "\(error?.description ?? "")")
    }

    /// Nesting is bounded when the text is read: whole templates, which would be right if they were shallow.
    @Test(arguments: [
        ("(", ")"), ("[", "]"), ("{1:", "}"), ("not ", ""), ("-", ""), ("a.", ""), ("a[", "]"), ("1+", ""),
        ("1 if a else ", ""),
    ])
    func boundsNesting(_ open: String, _ close: String) throws {
        func text(_ depth: Int) -> String {
            "{{ " + String(repeating: open, count: depth) + "1" + String(repeating: close, count: depth) + " }}"
        }
        _ = try JinjaTemplate(text(20))
        let error = #expect(throws: JinjaError.self) { try JinjaTemplate(text(100_000)) }
        #expect(error?.kind == .limit, "\(error?.description ?? "")")
    }

    @Test func boundsBlocks() {
        let error = #expect(throws: JinjaError.self) {
            try JinjaTemplate(String(repeating: "{% if a %}", count: 100_000))
        }
        #expect(error?.kind == .limit, "\(error?.description ?? "")")
    }
}
