// SPDX-License-Identifier: Apache-2.0
import Foundation
import Recipes
import RuntimeSupport
import Testing

/// Filters against defects that were planted at known places: precision and recall, printed.
@Suite("Curation") struct CurationTests {
    /// Draws from a counter, the same on any machine.
    private struct Draws {
        var count: UInt32 = 0
        mutating func below(_ bound: Int) -> Int {
            count += 1
            return Int((UInt64(Philox.block(counter: (count, 0, 0, 7), key: (1, 2)).0) * UInt64(bound)) >> 32)
        }
        mutating func pick<T>(_ values: [T]) -> T { values[below(values.count)] }
    }

    private struct Confusion {
        var (hit, false_, missed) = (0, 0, 0)
        var precision: Double { hit + false_ == 0 ? 1 : Double(hit) / Double(hit + false_) }
        var recall: Double { hit + missed == 0 ? 1 : Double(hit) / Double(hit + missed) }
        mutating func note(planted: Bool, found: Bool) {
            if planted, found { hit += 1 } else if planted { missed += 1 } else if found { false_ += 1 }
        }
    }

    // MARK: - Answers

    private static func clean(_ draws: inout Draws, _ index: Int) -> Answer {
        let (a, b, c) = (10 + draws.below(90), 2 + draws.below(40), 3 + draws.below(30))
        let sum = a + b
        let total = sum * c
        let item = draws.pick(["apples", "marbles", "tickets", "books", "stamps", "coins"])
        let who = draws.pick(["Ada", "Noor", "Iris", "Chen", "Tomás", "Lena", "Otto", "Yuki"])
        let opening = draws.pick(["Let me see.", "First, what is asked?", "Okay.", "Start with what is known."])
        let check = draws.pick(["Let me check: ", "Wait, once more: ", "To be sure, ", "Verify: "])
        let query =
            "\(who) has \(a) \(item) in one box and \(b) in another. After \(c) such days, how many \(item) is that in all?"
        let thinking = """
            \(opening) One day gives \(a) + \(b) = \(sum) \(item). There are \(c) days, so I multiply \(sum) by \(c).
            \(sum) * \(c) = \(total). \(check)\(total) divided by \(c) is \(sum), which is right. The answer is \(total).
            """
        return Answer(
            id: "q\(index)", query: query, reference: "\(total)",
            completion: "<think>\n\(thinking)\n</think>\n\nIn all there are \\boxed{\(total)} \(item).", reward: 1)
    }

    private static func spoil(_ answer: Answer, _ defect: ResponseFilter, _ draws: inout Draws, _ reserve: [String])
        -> Answer
    {
        func with(query: String? = nil, completion: String? = nil, reward: Double = 1) -> Answer {
            Answer(
                id: answer.id, query: query ?? answer.query, reference: answer.reference,
                completion: completion ?? answer.completion, reward: reward)
        }
        let (thinking, response, right) = (answer.thinking, answer.response, answer.reference!)
        switch defect {
        case .incorrect: return with(reward: 0)
        case .repetition:
            let line = "So I add the two boxes again and write the sum down before I go on to multiply. "
            return with(
                completion:
                    "<think>\n\(String(repeating: line, count: 4 + draws.below(8)))\n\(thinking)\n</think>\n\n\(response)"
            )
        case .guesswork:
            let text = draws.pick([
                "This is too long to work out. I guess it is \(right).", "I'm not sure how to do this, so \(right)?",
                "Hard to tell. Let me pick one that looks right.",
            ])
            return with(completion: "<think>\n\(text)\n</think>\n\n\(response)")
        case .inconsistency:
            let other = Int(right)! + 1 + draws.below(9)
            return with(
                completion:
                    "<think>\n\(thinking.replacing("The answer is \(right).", with: "The answer is \(other)."))\n</think>\n\n\(response)"
            )
        case .languageMixing:
            let text = draws.pick(["然后我们把两个盒子加起来，得到总数。", "Теперь умножаем на число дней.", "それから日数を掛けます。"])
            return with(completion: "<think>\n\(thinking)\n\(text)\n</think>\n\n\(response)")
        case .similarity:
            let text = draws.pick(reserve)
            return with(query: draws.below(2) == 0 ? text : text + " Please think step by step.")
        }
    }

    @Test("each response filter finds the defects planted for it and little else")
    func responseFilters() {
        var draws = Draws()
        let reserve = (0..<60).map { index in
            Self.clean(&draws, 10_000 + index).query.replacing("has", with: "keeps, in a barn,")
        }
        let shingles = Shingles(reserve)
        var table: [ResponseFilter: Confusion] = [:]
        for index in 0..<1200 {
            let answer = Self.clean(&draws, index)
            let defect: ResponseFilter? = draws.below(10) < 4 ? draws.pick(ResponseFilter.allCases) : nil
            let judged = defect.map { Self.spoil(answer, $0, &draws, reserve) } ?? answer
            for filter in ResponseFilter.allCases {
                let found = filter.score(judged, reserve: shingles) > filter.standardThreshold
                // A guess whose thinking states no answer may also be called inconsistent, and is out either way.
                table[filter, default: Confusion()].note(planted: defect == filter, found: found)
            }
        }
        print("filter            precision  recall   planted")
        for filter in ResponseFilter.allCases {
            let row = table[filter]!
            print(
                filter.rawValue.padding(toLength: 18, withPad: " ", startingAt: 0)
                    + String(format: "%9.3f %7.3f %9d", row.precision, row.recall, row.hit + row.missed))
            #expect(row.precision >= 0.97 && row.recall >= 0.97 && row.hit > 40, "\(filter)")
        }
    }

    @Test("answers become demonstrations; queries that nobody solved go to review, and nothing else does")
    func answers() {
        var draws = Draws()
        var answers: [Answer] = []
        var rows: [Rows.Row] = []
        for index in 0..<40 {
            let answer = Self.clean(&draws, index)
            rows.append([
                "id": "q\(index)", "prompt": answer.query, "answer": answer.reference!, "domain": "mathematics",
            ])
            for sibling in 0..<4 {
                // Every tenth query has a wrong reference.
                let isSolved = index % 10 != 3 && sibling % 2 == 0
                answers.append(
                    Answer(
                        id: answer.id, sibling: sibling, query: answer.query, reference: answer.reference,
                        completion: answer.completion, reward: isSolved ? 1 : 0))
            }
        }
        let (demonstrations, review) = Curation.answers(answers, queries: rows, perQuery: 1)
        #expect(demonstrations.rows.count == 36 && demonstrations.report.seen == 160)
        #expect(demonstrations.report.count(of: "never_solved") == 16)
        #expect(
            demonstrations.report.count(of: "incorrect") == 72 && demonstrations.report.count(of: "per_query") == 36)
        #expect(review.map { $0["id"] as? String } == ["q13", "q23", "q3", "q33"])
        let messages = demonstrations.rows[0]["messages"] as? [Rows.Row]
        #expect(messages?.last?["reasoning_content"] is String && messages?.first?["role"] as? String == "user")
        #expect(demonstrations.report.markdown.contains("| incorrect | 0.0 | 72 |"))
    }

    // MARK: - Queries

    @Test("query filters find every planted compound and open query, and nothing else")
    func queryFilters() {
        var draws = Draws()
        var table: [QueryFilter: Confusion] = [:]
        for index in 0..<600 {
            let plain = Self.clean(&draws, index)
            var row: Rows.Row = ["id": plain.id, "prompt": plain.query, "answer": plain.reference!]
            var planted: QueryFilter?
            switch index % 10 {
            case 0:
                planted = .multipleQuestions
                row["prompt"] =
                    plain.query
                    + draws.pick([
                        " How many are left after a day?", " Additionally, what is half of it?",
                        "\n(a) Find the sum. (b) Find the product.",
                    ])
            case 1:
                planted = .generalText
                row["prompt"] = draws.pick([
                    "Write an essay about the sea.", "Please compose a short poem on \(plain.id).",
                    "Describe how bridges are built.",
                    "Can you draft an email to my landlord?",
                ])
            case 2:
                planted = .unverifiable
                row["answer"] = nil
            case 3: row["prompt"] = "Write a function that returns the \(index)th prime."; row["tests"] = ["f(1) == 2"]
            case 4: row["prompt"] = "Which of the following is prime?\n(a) 4\n(b) 7\n(c) 9"; row["answer"] = "b"
            case 5: row["prompt"] = "Write 7/8 as a decimal."; row["answer"] = "0.875"
            default: break
            }
            let found = QueryFilter.reason(row)
            for filter in [QueryFilter.multipleQuestions, .generalText, .unverifiable] {
                table[filter, default: Confusion()].note(planted: planted == filter, found: found == filter)
            }
        }
        for (filter, row) in table { #expect(row.precision == 1 && row.recall == 1 && row.hit == 60, "\(filter)") }
    }

    @Test("solved queries, the reserve, and domains out of balance")
    func balance() {
        let counts = ["mathematics": 80, "code": 10, "logic": 5, "science": 5]
        var rows: [Rows.Row] = []
        for (domain, count) in counts.sorted(by: { $0.key < $1.key }) {
            for index in 0..<count {
                rows.append([
                    "id": "\(domain)-\(index)", "prompt": "\(domain) question \(index)", "answer": "1",
                    "domain": domain,
                ])
            }
        }
        let (reserve, rest) = Curation.split(rows, share: 0.2)
        #expect(reserve.count + rest.count == 100 && (10...30).contains(reserve.count))
        #expect(Set(reserve.map(Rows.query)).isDisjoint(with: rest.map(Rows.query)))
        let rates = ["mathematics-0": PassRate(solved: 3, count: 4), "mathematics-1": PassRate(solved: 0, count: 4)]
        let all = Curation.queries(rows, reserve: reserve, passRates: rates)
        #expect(
            all.report.count(of: "reserved") + all.report.count(of: "solved_without_thinking") == 100 - all.rows.count)
        #expect(!all.rows.contains { $0["id"] as? String == "mathematics-0" })
        let balanced = Curation.queries(rows, balancedCount: 40)
        var kept: [String: Int] = [:]
        for row in balanced.rows { kept[row["domain"] as! String, default: 0] += 1 }
        #expect(kept == ["code": 10, "logic": 5, "science": 5, "mathematics": 20], "\(kept)")
        #expect(balanced.rows.count == 40 && balanced.report.count(of: "balance") == 60)
    }

    @Test("pairs for RL: unused, learnable, challenging, from every domain")
    func pairs() {
        var rows: [Rows.Row] = []
        var rates: [String: PassRate] = [:]
        for index in 0..<90 {
            let id = "p\(index)"
            rows.append(["id": id, "prompt": "question \(index)", "answer": "1", "domain": ["a", "b", "c"][index % 3]])
            if index != 89 { rates[id] = PassRate(solved: index % 9, count: 8) }
        }
        let curated = Curation.pairs(rows, passRates: rates, usedIDs: ["p1", "p2"], most: 0.8, count: 12)
        #expect(curated.report.count(of: "used") == 2 && curated.report.count(of: "not_measured") == 1)
        #expect(curated.report.count(of: "not_learnable") == 10)
        #expect(curated.rows.count == 12)
        let chosen = curated.rows.map { $0["pass_rate"] as! Double }
        #expect(chosen.allSatisfy { $0 > 0 && $0 <= 0.8 })
        #expect(Set(curated.rows.map { $0["domain"] as! String }) == ["a", "b", "c"])
    }

    // MARK: - Checklists

    @Test("checklists: items are read from lists of any form; what fulfils too few, or was not graded, is left out")
    func checklists() throws {
        #expect(Checklists.items(in: "Here:\n- Is it short?\n* Is it true?\n3. Is it polite?\nThat is all.").count == 3)
        #expect(Checklists.items(in: #"["Is it short?", "Is it true?"]"#) == ["Is it short?", "Is it true?"])
        #expect(Checklists.items(in: "I cannot write one.").isEmpty)
        #expect(Checklists.share(in: "1: yes\n2: No\n 3) **yes**", itemCount: 3) == 2.0 / 3)
        #expect(Checklists.share(in: "1: yes\n2: no\n2: yes", itemCount: 2) == 1, "the last word on an item counts")
        for text in ["1: yes", "yes, all of them", "", "1: maybe\n2: yes", "1: yes\n3: yes"] {
            #expect(Checklists.share(in: text, itemCount: 2) == nil, "\(text)")
        }
        let demonstrations = ["a/0", "a/1", "b/0", "c/0"].map { id -> Rows.Row in
            let messages: [Rows.Row] = [
                ["role": "user", "content": "Write of \(id)."], ["role": "assistant", "content": "Of \(id)."],
            ]
            return ["id": id, "messages": messages]
        }
        func answer(_ id: String, _ text: String) -> Answer {
            Answer(id: id, query: "", reference: nil, completion: text, reward: 0)
        }
        let prompts = Checklists.gradings(
            demonstrations, checklists: [answer("a", "- Short?\n- True?"), answer("b", "- Short?"), answer("c", "no idea")])
        #expect(prompts.rows.map { $0["id"] as? String } == ["a/0", "a/1", "b/0"])
        #expect(prompts.report.count(of: "no checklist") == 1)
        #expect(Rows.query(prompts.rows[0]).contains("Of a/0.") && Rows.query(prompts.rows[0]).contains("2. True?"))
        var checklists = Checklists()
        checklists.least = 0.5
        let kept = checklists.kept(
            demonstrations, prompts: prompts.rows,
            graded: [answer("a/0", "1: yes\n2: no"), answer("a/1", "1: no\n2: no"), answer("b/0", "well")])
        #expect(kept.rows.map { $0["id"] as? String } == ["a/0"])
        #expect(kept.report.count(of: "too few items fulfilled") == 1 && kept.report.count(of: "ungraded") == 2)
    }

    // MARK: - Fusion

    @Test("fusion: tasks get their shares among the answers without thinking")
    func taskShares() throws {
        let rows = (0..<600).map { index -> Rows.Row in
            let task = index % 30 == 0 ? "translation" : index % 2 == 0 ? "coding" : "writing"
            var answer: Rows.Row = ["role": "assistant", "content": "\(index)"]
            if index % 6 == 5 { answer["reasoning_content"] = "because" }
            return ["id": "r\(index)", "task": task, "messages": [["role": "user", "content": "\(index)"], answer]]
        }
        var fusion = ModeFusion()
        fusion.taskShares = ["translation": 0.2]
        let fused = try fusion.fuse(rows)
        let direct = fused.filter { ($0["messages"] as! [Rows.Row]).last!["reasoning_content"] == nil }
        #expect(fused.count - direct.count == 100, "thinking answers stay")
        let translations = direct.count { $0["task"] as? String == "translation" }
        #expect(direct.count == 100 && translations == 20)
        fusion.taskShares = ["translation": 0.5, "coding": 0.6]
        #expect(throws: CurationError.self) { try fusion.fuse(rows) }
        fusion.taskShares = ["poetry": 0.1]
        #expect(throws: CurationError.self) { try fusion.fuse(rows) }
    }

    @Test("fusion: flags at the end of the last turn or in the system's, the last flag of a dialogue is its mode")
    func fusion() throws {
        func row(_ index: Int, thinking: Bool) -> Rows.Row {
            var answer: Rows.Row = ["role": "assistant", "content": "\(index)"]
            if thinking { answer["reasoning_content"] = "because \(index)" }
            return ["id": "r\(index)", "messages": [["role": "user", "content": "what is \(index) /think"], answer]]
        }
        var fusion = ModeFusion()
        fusion.dialogueCount = 200
        let rows = (0..<400).map { row($0, thinking: $0 % 2 == 0) }
        let fused = try fusion.fuse(rows)
        let again = try fusion.fuse(rows)
        #expect(throws: CurationError.self) { try fusion.fuse([row(0, thinking: true)]) }
        #expect(fused.count == again.count && fused.count == 600)
        var (unflagged, inSystem) = (0, 0)
        for row in fused.prefix(400) {
            let messages = row["messages"] as! [Rows.Row]
            let text = messages.dropLast().map { $0["content"] as! String }.joined(separator: "\n")
            let isThinking = messages.last!["reasoning_content"] != nil
            if text.contains("/") {
                #expect(text.contains("/no_think") == !isThinking && text.contains("/think") == isThinking, "\(text)")
                if messages[0]["role"] as? String == "system" { inSystem += 1 }
            } else {
                #expect(isThinking, "without a flag a model thinks")
                unflagged += 1
            }
        }
        #expect((40...80).contains(unflagged) && (15...60).contains(inSystem))
        for row in fused.dropFirst(400) {
            let messages = row["messages"] as! [Rows.Row]
            var mode = true
            for message in messages {
                if message["role"] as? String == "user" {
                    let text = message["content"] as! String
                    if text.hasSuffix("/no_think") { mode = false } else if text.hasSuffix("/think") { mode = true }
                } else {
                    #expect((message["reasoning_content"] != nil) == mode)
                }
            }
        }
    }
}
