// SPDX-License-Identifier: Apache-2.0

/// `calculator`: exact arithmetic with integers, decimals and fractions.
struct CalculatorTool: EnvironmentTool {
    static let name = "calculator"
    static let schema = ToolRegistry.schema(
        name, "Exact arithmetic: + - * / ^ and parentheses.", [("expression", "Such as (3+4)*5/2")],
        required: ["expression"])

    func call(_ arguments: ToolArguments, _ state: inout EnvironmentState) throws(ToolError) -> String {
        try arguments.requireOnly(["expression"])
        let text = try arguments.text("expression")
        guard text.utf8.count <= MathAnswer.byteCountMax, let expression = MathParser.parse(text) else {
            throw ToolError("'\(text.prefix(80))' is no arithmetic expression")
        }
        guard case .exact(let value) = expression.value([:]) else {
            throw ToolError("'\(text.prefix(80))' has no exact value of at most 38 digits")
        }
        return value.isInteger ? "\(value.numerator)" : "\(value.numerator)/\(value.denominator)"
    }
}

/// `key_value`: a store of texts that lives as long as the trajectory.
struct KeyValueTool: EnvironmentTool {
    static let name = "key_value"
    static let schema = ToolRegistry.schema(
        name, "A store of texts by key.",
        [
            ("operation", "get, set, delete or list"), ("key", "Of the entry"), ("value", "What set stores"),
        ], required: ["operation"])

    private static let entryCountMax = 1000
    private static let byteCountMax = 4096

    func call(_ arguments: ToolArguments, _ state: inout EnvironmentState) throws(ToolError) -> String {
        try arguments.requireOnly(["operation", "key", "value"])
        let operation = try arguments.text("operation")
        if operation == "list" { return state.values.keys.sorted().joined(separator: "\n") }
        let key = try arguments.text("key")
        switch operation {
        case "get":
            guard let value = state.values[key] else { throw ToolError("no entry '\(key.prefix(80))'") }
            return value
        case "set":
            let value = try arguments.text("value")
            guard key.utf8.count + value.utf8.count <= Self.byteCountMax, state.values.count < Self.entryCountMax else {
                throw ToolError("the store takes \(Self.entryCountMax) entries of \(Self.byteCountMax) bytes")
            }
            state.values[key] = value
            return "ok"
        case "delete":
            guard state.values.removeValue(forKey: key) != nil else { throw ToolError("no entry '\(key.prefix(80))'") }
            return "ok"
        default: throw ToolError("unknown operation '\(operation.prefix(80))'; expected get, set, delete or list")
        }
    }
}

/// `python`: a program in a sandbox, a fresh one for each call.
struct PythonTool: EnvironmentTool {
    static let name = "python"
    static let schema = ToolRegistry.schema(
        name, "Runs a Python 3 program without network and returns what it prints.", [("code", "The program")],
        required: ["code"])

    let milliseconds: UInt64

    func call(_ arguments: ToolArguments, _ state: inout EnvironmentState) throws(ToolError) -> String {
        try arguments.requireOnly(["code"])
        let result = ProgramRunner.run(
            ProgramRun(source: try arguments.text("code"), processorMilliseconds: milliseconds))
        switch result.end {
        case .ended: break
        case .processorTime, .asleep: throw ToolError("the program did not end in \(milliseconds) ms")
        case .starved, .broken, .unavailable, .cancelled:
            // Not the model's doing: no reward may come of it.
            throw ToolError(EnvironmentRunner.brokenPrefix + result.detail)
        }
        let cut = result.outputByteCount > result.output.count ? "\n[\(result.outputByteCount) bytes in all]\n" : ""
        let text = String(decoding: result.output, as: UTF8.self) + cut + String(decoding: result.error, as: UTF8.self)
        guard result.status != 0 else { return text }
        return text + "\n[ended with \(result.status > 128 ? "a signal" : String(result.status))]"
    }
}
