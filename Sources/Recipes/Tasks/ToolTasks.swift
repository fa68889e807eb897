// SPDX-License-Identifier: Apache-2.0
package import JobSpecification
internal import RuntimeSupport

/// Questions that need tools (the report's ToolUse): one call of the calculator, a look into the key-value store, or both
/// in turn. In two styles: English, and a short one for the tiny world. As prompts, or as demonstrations of single
/// turns, where a share `careless` answers with a guess instead of a call: what reinforcement then mends.
package struct ToolTasks: TaskGenerator {
    package static let name = "tools"
    package static let about = "calculator and key-value store; rewards exact, tool_use, tool_validity"

    private let isTiny: Bool
    private let isDemonstration: Bool
    private let kinds: [String]
    private let careless: Double

    package init(_ options: TaskOptions) throws(CurationError) {
        try options.requireOnly(["style", "form", "kinds", "careless"], of: Self.name)
        isTiny = try options.choice("style", ["text", "tiny"]) == "tiny"
        isDemonstration = try options.choice("form", ["prompts", "demonstrations"]) == "demonstrations"
        kinds = try options.texts("kinds", ["calculate", "look-up", "both"])
        careless = try options.share("careless", default: 0)
    }

    private struct Call {
        let name: String
        let arguments: Rows.Row
        let observation: String
    }

    package func task(_ random: inout RowRandom) -> GeneratedTask {
        let kind = random.pick(kinds)
        let store = Dictionary(
            uniqueKeysWithValues: random.shuffled(Array("abcdefgh")).prefix(3).map { letter in
                ("\(letter)\(random.below(10))", "\(10 + random.below(90))")
            })
        let key = store.keys.sorted()[random.below(3)]
        let value = kind == "calculate" ? "\(10 + random.below(90))" : store[key]!
        let factor = 2 + random.below(98)
        let product = "\(Int(value)! * factor)"
        let expression = "\(value)*\(factor)"
        let get = Call(name: "key_value", arguments: ["key": key, "operation": "get"], observation: value)
        let multiply = Call(name: "calculator", arguments: ["expression": expression], observation: product)
        let (calls, answer, question): ([Call], String, String) =
            switch kind {
            case "calculate": ([multiply], product, isTiny ? expression : "What is \(value) times \(factor)?")
            case "look-up": ([get], value, isTiny ? "get \(key)" : "What is stored under \(key)?")
            default:
                (
                    [get, multiply], product,
                    isTiny ? "\(key)*\(factor)" : "What is \(factor) times the number stored under \(key)?"
                )
            }
        let content = isTiny ? question + " /no_think" : question
        guard isDemonstration else {
            return GeneratedTask(
                key: question,
                row: [
                    "messages": TaskGenerators.user(content), "answer": answer, "kind": kind,
                    "environment": kind == "calculate" ? [:] : store,
                    "expected_calls": calls.map { ["name": $0.name, "arguments": $0.arguments] as Rows.Row },
                ])
        }
        // One turn of the trajectory, as the chat template writes it.
        let turn = random.below(calls.count + 1)
        var prompt = "<|im_start|>user\n\(content)<|im_end|>\n<|im_start|>assistant\n"
        for call in calls.prefix(turn) {
            prompt += Self.think + Self.text(call)
            prompt += "<|im_end|>\n<|im_start|>user\n<tool_response>\n\(call.observation)\n</tool_response><|im_end|>\n"
            prompt += "<|im_start|>assistant\n"
        }
        let completion: String
        if turn == calls.count {
            completion = answer
        } else if turn == 0, random.chance(careless) {
            completion = "\(100 + random.below(9000))"
        } else {
            completion = Self.text(calls[turn])
        }
        return GeneratedTask(key: question, row: ["prompt": prompt, "completion": Self.think + completion])
    }

    private static let think = "<think>\n\n</think>\n\n"

    private static func text(_ call: Call) -> String {
        let arguments = JSONValue.object(call.arguments.object).compactText
        return "<tool_call>\n{\"name\": \"\(call.name)\", \"arguments\": \(arguments)}\n</tool_call>"
    }
}
