// SPDX-License-Identifier: Apache-2.0
internal import Foundation
package import JobSpecification

/// Logic grids in the manner of ZebraLogic (Lin et al. 2025): houses in a row, one value of each attribute per house,
/// clues that allow one solution only, none of them superfluous.
package struct ZebraTasks: TaskGenerator {
    package static let name = "zebra"
    package static let about = "logic grids with one solution; reward json_answer"

    private let houses: Int
    private let attributes: Int

    package init(_ options: TaskOptions) throws(CurationError) {
        try options.requireOnly(["houses", "attributes"], of: Self.name)
        houses = try options.integer("houses", 2...5, default: 3)
        attributes = try options.integer("attributes", 2...5, default: 3)
    }

    private static let values: [(attribute: String, values: [String])] = [
        ("Name", ["Eric", "Arnold", "Peter", "Alice", "Carol"]), ("Pet", ["cat", "dog", "fish", "bird", "horse"]),
        ("Drink", ["tea", "coffee", "milk", "water", "juice"]), ("Color", ["red", "green", "blue", "white", "yellow"]),
        ("Food", ["pizza", "soup", "stew", "salad", "curry"]),
    ]

    /// A value: its attribute, and which of its values.
    private typealias Item = (attribute: Int, value: Int)

    private enum Clue {
        case at(Item, Int)
        case notAt(Item, Int)
        case same(Item, Item)
        case left(Item, Item)
        case nextTo(Item, Item)
        case before(Item, Item)

        /// nil while it cannot be decided. `place` gives the house of a value, or nil.
        func holds(_ place: (Item) -> Int?) -> Bool? {
            switch self {
            case .at(let a, let house): return place(a).map { $0 == house }
            case .notAt(let a, let house): return place(a).map { $0 != house }
            case .same(let a, let b), .left(let a, let b), .nextTo(let a, let b), .before(let a, let b):
                guard let a = place(a), let b = place(b) else { return nil }
                switch self {
                case .same: return a == b
                case .left: return a + 1 == b
                case .nextTo: return abs(a - b) == 1
                default: return a < b
                }
            }
        }
    }

    package func task(_ random: inout RowRandom) -> GeneratedTask {
        // place[attribute][value] = house
        let solution = (0..<attributes).map { _ in random.shuffled(Array(0..<houses)) }
        var clues = random.shuffled(allClues(solution))
        // From the loosest set that works, every clue that is not needed goes.
        var kept = clues.count
        while kept > 1, solutions(Array(clues.prefix(kept / 2)), limit: 2) == 1 { kept /= 2 }
        clues = Array(clues.prefix(kept))
        for index in clues.indices.reversed() {
            var fewer = clues
            fewer.remove(at: index)
            if solutions(fewer, limit: 2) == 1 { clues = fewer }
        }
        let question = text(clues)
        return GeneratedTask(
            key: question,
            row: [
                "messages": TaskGenerators.user(question), "answer": grid(solution), "size": "\(houses)x\(attributes)",
            ])
    }

    private func allClues(_ solution: [[Int]]) -> [Clue] {
        let items: [Item] = (0..<attributes).flatMap { attribute in (0..<houses).map { (attribute, $0) } }
        var clues: [Clue] = []
        for (index, a) in items.enumerated() {
            let house = solution[a.attribute][a.value]
            clues.append(.at(a, house))
            for other in 0..<houses where other != house { clues.append(.notAt(a, other)) }
            for b in items[(index + 1)...] where b.attribute != a.attribute {
                let other = solution[b.attribute][b.value]
                if house == other { clues.append(.same(a, b)) }
                if house + 1 == other { clues.append(.left(a, b)) }
                if other + 1 == house { clues.append(.left(b, a)) }
                if abs(house - other) == 1 { clues.append(.nextTo(a, b)) }
                if house < other { clues.append(.before(a, b)) }
                if other < house { clues.append(.before(b, a)) }
            }
        }
        return clues
    }

    /// Solutions, counted up to `limit`.
    private func solutions(_ clues: [Clue], limit: Int) -> Int {
        var places = [[Int?]](repeating: [Int?](repeating: nil, count: houses), count: attributes)
        var found = 0
        func search(_ attribute: Int, _ value: Int) {
            if found >= limit { return }
            if attribute == attributes {
                found += 1
                return
            }
            for house in 0..<houses where !places[attribute].contains(house) {
                places[attribute][value] = house
                if !clues.contains(where: { $0.holds { places[$0.attribute][$0.value] } == false }) {
                    value + 1 == houses ? search(attribute + 1, 0) : search(attribute, value + 1)
                }
                places[attribute][value] = nil
            }
        }
        search(0, 0)
        return found
    }

    // MARK: - Text

    private func text(_ clues: [Clue]) -> String {
        func name(_ item: Item) -> String {
            let (attribute, values) = Self.values[item.attribute]
            return attribute == "Name"
                ? values[item.value] : "the person with \(attribute.lowercased()) \(values[item.value])"
        }
        let lines = clues.enumerated().map { index, clue -> String in
            let text =
                switch clue {
                case .at(let a, let house): "\(name(a)) is in house \(house + 1)"
                case .notAt(let a, let house): "\(name(a)) is not in house \(house + 1)"
                case .same(let a, let b): "\(name(a)) is \(name(b))"
                case .left(let a, let b): "\(name(a)) is directly left of \(name(b))"
                case .nextTo(let a, let b): "\(name(a)) and \(name(b)) are next to each other"
                case .before(let a, let b): "\(name(a)) is somewhere to the left of \(name(b))"
                }
            return "\(index + 1). \(text.prefix(1).uppercased() + text.dropFirst())."
        }
        let attributes = Self.values.prefix(attributes).map {
            "\($0.attribute): \($0.values.prefix(houses).joined(separator: ", "))"
        }
        return """
            There are \(houses) houses in a row, numbered from left to right. In each lives one person. The people differ in:
            \(attributes.joined(separator: "\n"))
            Clues:
            \(lines.joined(separator: "\n"))
            Answer with JSON of this form: {"House 1": {\(Self.values.prefix(self.attributes).map { "\"\($0.attribute)\": \"...\"" }.joined(separator: ", "))}, ...}
            """
    }

    private func grid(_ solution: [[Int]]) -> String {
        var rows: [String: [String: String]] = [:]
        for (attribute, places) in solution.enumerated() {
            for (value, house) in places.enumerated() {
                rows["House \(house + 1)", default: [:]][Self.values[attribute].attribute] =
                    Self.values[attribute].values[value]
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return (try? encoder.encode(rows)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
}
