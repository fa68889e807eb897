// SPDX-License-Identifier: Apache-2.0
package import JobSpecification

/// Writing to a length (the report's LengthCtrl).
package struct LengthTasks: TaskGenerator {
    package static let name = "length"
    package static let about = "write to a given length; reward length_control"

    package init(_ options: TaskOptions) throws(CurationError) { try options.requireOnly([], of: Self.name) }

    private static let forms = ["a story", "a poem", "a letter", "a review", "a news report", "a speech"]
    private static let themes = [
        "a lighthouse", "the last train home", "a lost dog", "rain in a desert", "two old friends", "a bakery at dawn",
        "a chess match", "the first snow", "a broken clock", "an empty theatre", "a river in flood", "a secret recipe",
    ]

    package func task(_ random: inout RowRandom) -> GeneratedTask {
        let unit = random.pick(["words", "sentences"])
        let target = unit == "words" ? 20 + 10 * random.below(49) : 2 + random.below(29)
        let (form, theme) = (random.pick(Self.forms), random.pick(Self.themes))
        let question = "Write \(form) about \(theme) in exactly \(target) \(unit)."
        return GeneratedTask(
            key: question,
            row: ["messages": TaskGenerators.user(question), "target_length": "\(target)", "length_unit": unit])
    }
}

/// Dialogues in which the user switches thinking on and off (the report's ThinkFollow).
package struct ThinkFollowTasks: TaskGenerator {
    package static let name = "think-follow"
    package static let about = "dialogues with /think and /no_think; reward thinking_mode"

    private let turnsMax: Int

    package init(_ options: TaskOptions) throws(CurationError) {
        try options.requireOnly(["turns"], of: Self.name)
        turnsMax = try options.integer("turns", 1...32, default: 6)
    }

    package func task(_ random: inout RowRandom) -> GeneratedTask {
        let count = 1 + random.below(turnsMax)
        var messages: [Rows.Row] = []
        var key = ""
        if random.chance(0.15) { messages.append(["role": "system", "content": "Be brief.\(Self.flag(&random, 1))"]) }
        for turn in 0..<count {
            let (a, b) = (2 + random.below(98), 2 + random.below(98))
            let question = "What is \(a) + \(b)?\(Self.flag(&random, turn == 0 ? 0.9 : 0.5))"
            messages.append(["role": "user", "content": question])
            key += question
            if turn < count - 1 { messages.append(["role": "assistant", "content": "\(a + b)"]) }
        }
        return GeneratedTask(key: key, row: ["messages": messages, "turns": "\(count)"])
    }

    private static func flag(_ random: inout RowRandom, _ probability: Double) -> String {
        random.chance(probability) ? random.pick([" /think", " /no_think"]) : ""
    }
}

/// Questions about a small invented world, half of them with a false premise (the report's CounterFactQA). The facts
/// stand in the prompt: what is measured is whether the model notices, not what it knows.
package struct CounterfactualTasks: TaskGenerator {
    package static let name = "counterfactual"
    package static let about = "questions with false premises; reward premise"

    package init(_ options: TaskOptions) throws(CurationError) { try options.requireOnly([], of: Self.name) }

    package func task(_ random: inout RowRandom) -> GeneratedTask {
        let people = random.shuffled(InventedWorld.people).prefix(4)
        let works = random.shuffled(InventedWorld.works)
        let facts = people.enumerated().map { index, person in
            (person: person, work: works[index], year: "\(1700 + random.below(300))")
        }
        let fact = facts[random.below(4)]
        let isCounterfactual = random.chance(0.5)
        let work = isCounterfactual ? facts[(facts.firstIndex { $0.work == fact.work }! + 1) % 4].work : fact.work
        let text = facts.map { "\($0.person) made \($0.work) in \($0.year)." }.joined(separator: " ")
        let question = "\(text) In which year did \(fact.person) make \(work)?"
        return GeneratedTask(
            key: question,
            row: [
                "messages": TaskGenerators.user(question), "answer": fact.year, "counterfactual": "\(isCounterfactual)",
            ])
    }
}

/// A passage and a question that it answers or does not (retrieval-augmented answers).
package struct PassageTasks: TaskGenerator {
    package static let name = "passage"
    package static let about = "questions about a passage, some without an answer there; reward grounded"

    package init(_ options: TaskOptions) throws(CurationError) { try options.requireOnly([], of: Self.name) }

    package func task(_ random: inout RowRandom) -> GeneratedTask {
        let person = random.pick(InventedWorld.people)
        let (work, place) = (random.pick(InventedWorld.works), random.pick(InventedWorld.places))
        let year = "\(1700 + random.below(300))"
        let asked = random.below(4)
        let context = "\(person) lived in \(place). In \(year), \(person) made \(work)."
        let (question, answer): (String, String?) =
            switch asked {
            case 0: ("In which year did \(person) make \(work)?", year)
            case 1: ("Where did \(person) live?", place)
            case 2: ("How old was \(person) at the time?", nil)
            default: ("Who taught \(person)?", nil)
            }
        let prompt =
            "Answer from the passage alone; if it does not say, write: not in the passage.\n\nPassage: \(context)\n\n"
            + "Question: \(question)"
        var row: Rows.Row = [
            "messages": TaskGenerators.user(prompt), "context": context, "question": prompt,
            "answerable": "\(answer != nil)",
        ]
        row["answer"] = answer
        return GeneratedTask(key: prompt, row: row)
    }
}

private enum InventedWorld {
    static let people = [
        "Ada Brenner", "Tomas Okoye", "Lin Zhao", "Mira Castell", "Jonas Veld", "Priya Nair", "Elif Demir",
        "Oskar Lund",
        "Noor Haddad", "Pablo Reyes", "Yuki Tanabe", "Greta Holm",
    ]
    static let works = [
        "the Glass Bridge", "the Copper Organ", "the Night Atlas", "the Salt Clock", "the Paper Engine",
        "the Quiet Bell", "the Amber Mill", "the Long Ladder", "the Blue Lantern", "the Iron Garden",
    ]
    static let places = ["Varn", "Port Ellis", "Karsk", "Monte Alba", "Toru", "Lindby", "Qasr", "Old Meridian"]
}
