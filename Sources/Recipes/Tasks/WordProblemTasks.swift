// SPDX-License-Identifier: Apache-2.0
package import JobSpecification

/// Arithmetic in words: a number of things, and what happens to it in some steps.
package struct WordProblemTasks: TaskGenerator {
    package static let name = "word-problems"
    package static let about =
        "arithmetic in words, 1 to 4 steps (steps-min, steps-max), also with working and answer (form=demonstrations); "
        + "reward math_answer with use_last"

    private let steps: ClosedRange<Int>
    private let isDemonstration: Bool

    package init(_ options: TaskOptions) throws(CurationError) {
        try options.requireOnly(["form", "steps-min", "steps-max"], of: Self.name)
        let least = try options.integer("steps-min", 1...4, default: 1)
        steps = least...(try options.integer("steps-max", least...4, default: max(2, least)))
        isDemonstration = try options.choice("form", ["prompts", "demonstrations"]) == "demonstrations"
    }

    private static let names = [
        "Mia", "Tom", "Anna", "Ben", "Lily", "Sam", "Nora", "Max", "Ella", "Leo", "Ruth", "Omar",
    ]
    private static let things = [
        "apples", "books", "pencils", "marbles", "stamps", "shells", "cards", "coins", "cookies", "flowers", "buttons",
        "stickers",
    ]
    /// Numbers on the way stay below this.
    private static let most = 100

    package func task(_ random: inout RowRandom) -> GeneratedTask {
        let (name, things) = (random.pick(Self.names), random.pick(Self.things))
        var count = 2 + random.below(19)
        var question = "\(name) has \(count) \(things)."
        var working = ""
        for _ in 0..<(steps.lowerBound + random.below(steps.count)) {
            let (sentence, line, result) = Self.step(&random, name, things, count)
            question += " \(sentence)"
            working += "\(line). "
            count = result
        }
        question += " How many \(things) does \(name) have now?"
        var messages = TaskGenerators.user(question)
        if isDemonstration { messages.append(["role": "assistant", "content": "\(working)The answer is \(count)."]) }
        return GeneratedTask(key: question, row: ["messages": messages, "answer": "\(count)"])
    }

    /// What happens, the calculation, and what there is then.
    private static func step(
        _ random: inout RowRandom, _ name: String, _ things: String, _ count: Int
    ) -> (sentence: String, line: String, result: Int) {
        while true {
            switch random.below(5) {
            case 0:
                let more = 2 + random.below(19)
                guard count + more < most else { continue }
                let sentence = random.pick(["\(name) gets \(more) more.", "\(name) finds \(more) \(things)."])
                return (sentence, "\(count) + \(more) = \(count + more)", count + more)
            case 1:
                guard count > 2 else { continue }
                let fewer = 1 + random.below(min(count - 1, 20))
                let sentence = random.pick(["\(name) gives \(fewer) away.", "\(name) loses \(fewer) \(things)."])
                return (sentence, "\(count) - \(fewer) = \(count - fewer)", count - fewer)
            case 2:
                let (boxes, each) = (2 + random.below(8), 2 + random.below(8))
                guard count + boxes * each < most else { continue }
                return (
                    "\(name) buys \(boxes) boxes with \(each) \(things) each.",
                    "\(boxes) * \(each) = \(boxes * each). \(count) + \(boxes * each) = \(count + boxes * each)",
                    count + boxes * each
                )
            case 3:
                guard count % 2 == 0, count > 2 else { continue }
                return ("\(name) gives half of them away.", "\(count) / 2 = \(count / 2)", count / 2)
            default:
                let times = 2 + random.below(2)
                guard count * times < most else { continue }
                return (
                    "Then \(name) gets \(times == 2 ? "twice" : "three times") as many in all.",
                    "\(count) * \(times) = \(count * times)", count * times
                )
            }
        }
    }
}
