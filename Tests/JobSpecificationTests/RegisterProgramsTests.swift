// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import JobSpecification

@Suite("Register programs")
struct RegisterProgramsTests {
    @Test("the examples of the task's description")
    func examples() {
        let cases = [
            ([2, 9, 1], "c", "291Ac", "Ac293", "293"),
            ([1, 7, 7], "rt", "177ArBt", "Ar771Bt771", "771"),
            ([6, 3, 1], "rar", "631ArBaCr", "Ar316Ba416Cr164", "164"),
            ([9, 1, 5], "aaatsart", "915AaBaCaDtEsFaGrHt", "Aa015Ba115Ca215Dt125Es521Fa721Gr217Ht127", "127"),
        ]
        for (digits, operations, query, trace, answer) in cases {
            let program = RegisterPrograms.run(digits, Array(operations))
            #expect(program.query == query)
            #expect(program.trace.joined() == trace)
            #expect(program.answer == answer)
        }
    }

    @Test("training and evaluation share no query; a row depends on seed and number alone")
    func split() throws {
        func queries(_ count: Int, evaluation: Bool, seed: UInt64) throws -> [String] {
            let programs = try RegisterPrograms(
                count: count, seed: seed, form: .prompts, flag: .none, isForEvaluation: evaluation)
            return (0..<count).map { programs.line($0) }
        }
        let training = try queries(400, evaluation: false, seed: 1)
        #expect(try queries(100, evaluation: false, seed: 1) == Array(training.prefix(100)))
        let evaluation = try queries(200, evaluation: true, seed: 1)
        func question(_ line: String) -> Substring { line.split(separator: "\"content\":\"")[1].prefix { $0 != "\"" } }
        #expect(Set(training.map(question)).isDisjoint(with: evaluation.map(question)))
    }

    @Test("under-thinking stops the trace and keeps the answer")
    func underThinking() throws {
        let programs = try RegisterPrograms(
            count: 200, seed: 3, form: .demonstrations, steps: 3...3, underThinking: 1)
        for index in 0..<200 {
            let line = programs.line(index)
            let trace = line.split(separator: "\"reasoning_content\":\"")[1].prefix { $0 != "\"" }
            #expect([5, 10].contains(trace.count), "\(line)")
        }
    }
}
