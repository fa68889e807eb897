// SPDX-License-Identifier: Apache-2.0

/// The names of one block. A block sees those around it; what it sets stays within.
final class Scope {
    let parent: Scope?
    private var values: [(identifier: Int, value: JinjaValue)] = []

    init(_ parent: Scope?) { self.parent = parent }

    func value(_ identifier: Int) -> JinjaValue? {
        var scope: Scope? = self
        while let here = scope {
            for entry in here.values where entry.identifier == identifier { return entry.value }
            scope = here.parent
        }
        return nil
    }

    func set(_ identifier: Int, _ value: JinjaValue) {
        if let place = values.firstIndex(where: { $0.identifier == identifier }) {
            values[place].value = value
        } else {
            values.append((identifier, value))
        }
    }
}

/// Work, output and depth of a rendering so far. A class, so that methods and macros share it.
final class Meter {
    let limits: JinjaLimits
    private var steps: Int
    private(set) var depth = 0

    init(_ limits: JinjaLimits) {
        self.limits = limits
        steps = limits.steps
    }

    /// Takes one step, and more for the bytes that it reads or makes.
    func step(bytes: Int = 0) throws(JinjaError) {
        steps -= 1 + bytes >> 6
        if steps < 0 {
            throw JinjaError(kind: .limit, message: "the template does more than \(limits.steps) steps of work")
        }
    }

    /// Checks the size of a string before it is made.
    func make(bytes: Int) throws(JinjaError) {
        guard bytes <= limits.outputBytes else {
            throw JinjaError(
                kind: .limit, message: "the template makes a text of more than \(limits.outputBytes) bytes")
        }
        try step(bytes: bytes)
    }

    /// Takes a step for each element of a list that is made.
    func make(elements: Int) throws(JinjaError) {
        guard elements <= limits.steps else { return try make(bytes: .max) }
        try step(bytes: elements << 6)
    }

    /// Takes a step for every value within `value`, wherever values are put into each other. A list that holds one
    /// list twice, and so on, is small to make and endless to print or compare; and a deep one overflows the stack.
    func weigh(_ value: JinjaValue, depth: Int = 0) throws(JinjaError) {
        switch value {
        case .list(let elements), .tuple(let elements):
            try weigh(elements, depth)
        case .dictionary(let dictionary):
            try weigh(dictionary.keys, depth)
            try weigh(dictionary.values, depth)
        case .view(let view): try weigh(.dictionary(view.dictionary), depth: depth)
        default: break
        }
    }

    private func weigh(_ elements: [JinjaValue], _ depth: Int) throws(JinjaError) {
        guard depth < limits.depth else {
            throw JinjaError(kind: .limit, message: "the template nests values more than \(limits.depth) levels deep")
        }
        try step(bytes: elements.count << 4)
        for element in elements { try weigh(element, depth: depth + 1) }
    }

    func enter() throws(JinjaError) {
        depth += 1
        if depth > limits.depth {
            throw JinjaError(kind: .limit, message: "the template nests more than \(limits.depth) levels deep")
        }
    }

    func leave() { depth -= 1 }
}

/// Runs one rendering.
struct Interpreter {
    enum Flow {
        case next, breakLoop, continueLoop
    }

    let template: JinjaTemplate
    let meter: Meter
    let clock: Int
    private let root: Scope
    private var output: [UInt8] = []
    /// How many captures are open: the output of a macro or a block goes to its value.
    private var captures = 0
    private var generatedRanges: [Range<Int>] = []
    // The scalars of the text so far, up to `countedBytes`.
    private var countedScalars = 0
    private var countedBytes = 0
    /// Where the text of the template itself begins while captures are open.
    private var topCount = 0
    private(set) var escapes = false

    init(template: JinjaTemplate, context: [String: JinjaValue], clock: Int) {
        self.template = template
        self.clock = clock
        meter = Meter(template.limits)
        root = Scope(nil)
        let globals = GlobalFunctions(meter: meter, clock: clock)
        for (identifier, name) in template.names.enumerated() {
            if let value = context[name] ?? globals.value(name) { root.set(identifier, value) }
        }
    }

    mutating func run() throws(JinjaError) -> JinjaRendering {
        _ = try execute(template.statements, Scope(root))
        return JinjaRendering(text: String(decoding: output, as: UTF8.self), generatedRanges: generatedRanges)
    }

    // MARK: Output

    private mutating func emit(_ text: String) throws(JinjaError) {
        let count = text.utf8.count
        guard output.count + count <= meter.limits.outputBytes else {
            throw JinjaError(
                kind: .limit,
                message: "the template writes more than \(meter.limits.outputBytes) bytes")
        }
        try meter.step(bytes: count)
        output += text.utf8
    }

    /// What `body` writes, as a text.
    mutating func capture(
        _ body: (inout Interpreter) throws(JinjaError) -> Void
    ) throws(JinjaError) -> String {
        let start = output.count
        if captures == 0 { topCount = scalarCount() }
        captures += 1
        defer { captures -= 1 }
        try body(&self)
        let text = String(decoding: output[start...], as: UTF8.self)
        output.removeSubrange(start...)
        countedBytes = min(countedBytes, output.count)
        return text
    }

    /// Scalars of the template's own text so far.
    private mutating func scalarCount() -> Int {
        guard captures == 0 else { return topCount }
        for byte in output[countedBytes...] where byte & 0xC0 != 0x80 { countedScalars += 1 }
        countedBytes = output.count
        return countedScalars
    }

    // MARK: Statements

    mutating func execute(_ statements: [Statement], _ scope: Scope) throws(JinjaError) -> Flow {
        for statement in statements {
            let flow = try execute(statement, scope)
            if flow != .next { return flow }
        }
        return .next
    }

    private mutating func execute(_ statement: Statement, _ scope: Scope) throws(JinjaError) -> Flow {
        try meter.step()
        switch statement {
        case .text(let text): try emit(text)
        case .output(let expression):
            let value = try evaluate(expression, scope)
            if case .undefined(let missing) = value, missing.isForbidden { break }
            if case .string(let text) = value {
                try emit(escapes ? Filter.escaped(text) : text)
            } else {
                try emit(value.printed)
            }
        case .conditional(let branches, let otherwise):
            for branch in branches {
                if try isTrue(try evaluate(branch.test, scope)) { return try nested(branch.body, scope) }
            }
            return try nested(otherwise, scope)
        case .loop(let loop): try run(loop, scope)
        case .assign(let target, let expression): try assign(target, try evaluate(expression, scope), scope)
        case .assignBlock(let target, let filter, let body):
            var value = JinjaValue.string(
                try capture { (interpreter) throws(JinjaError) in
                    _ = try interpreter.nested(body, Scope(scope))
                })
            if let filter { value = try evaluate(filter, scope, piped: value) }
            try assign(target, value, scope)
        case .macro(let macro): scope.set(macro.identifier, .object(MacroValue(macro, scope)))
        case .call(let callee, let macro):
            guard case .call(let function, let arguments) = callee else { break }
            var given = try self.arguments(arguments, scope)
            given.named.append(("caller", .object(MacroValue(macro, scope))))
            try emit(try call(try evaluate(function, scope), given).printed)
        case .filterBlock(let filter, let body):
            let text = try capture { (interpreter) throws(JinjaError) in
                _ = try interpreter.nested(body, Scope(scope))
            }
            try emit(try evaluate(filter, scope, piped: .string(text)).printed)
        case .with(let pairs, let body):
            let inner = Scope(scope)
            for pair in pairs { try assign(pair.target, try evaluate(pair.value, scope), inner) }
            return try nested(body, inner)
        case .generation(let body):
            let start = scalarCount()
            let text = try capture { (interpreter) throws(JinjaError) in
                _ = try interpreter.nested(body, Scope(scope))
            }
            generatedRanges.append(start..<start + text.unicodeScalars.count)
            try emit(text)
        case .block(let body): return try nested(body, Scope(scope))
        case .escape(let expression, let body):
            let before = escapes
            escapes = try isTrue(try evaluate(expression, scope))
            defer { escapes = before }
            return try nested(body, Scope(scope))
        case .breakLoop: return .breakLoop
        case .continueLoop: return .continueLoop
        case .unsupported(let message): throw .runtime(message)
        }
        return .next
    }

    private mutating func nested(_ statements: [Statement], _ scope: Scope) throws(JinjaError) -> Flow {
        guard !statements.isEmpty else { return .next }
        try meter.enter()
        defer { meter.leave() }
        return try execute(statements, scope)
    }

    private func assign(_ target: Target, _ value: JinjaValue, _ scope: Scope) throws(JinjaError) {
        switch target {
        case .name(let identifier): scope.set(identifier, value)
        case .attribute(let identifier, let name):
            guard case .object(let object)? = scope.value(identifier) else {
                throw .runtime("cannot assign attribute on non-namespace object")
            }
            try object.setAttribute(name, value)
        case .tuple(let targets):
            let values = try elements(of: value)
            guard values.count >= targets.count else {
                throw .runtime("not enough values to unpack (expected \(targets.count), got \(values.count))")
            }
            guard values.count == targets.count else {
                throw .runtime("too many values to unpack (expected \(targets.count))")
            }
            for (target, value) in zip(targets, values) { try assign(target, value, scope) }
        }
    }

    // MARK: Loops

    private mutating func run(_ loop: Loop, _ scope: Scope) throws(JinjaError) {
        let sequence = try evaluate(loop.sequence, scope)
        try run(loop, over: sequence, scope, depth: 0)
    }

    mutating func run(_ loop: Loop, over sequence: JinjaValue, _ scope: Scope, depth: Int) throws(JinjaError) {
        var items = try elements(of: sequence)
        try meter.step(bytes: items.count)
        if let test = loop.test {
            var kept: [JinjaValue] = []
            for item in items {
                let inner = Scope(scope)
                try assign(loop.target, item, inner)
                if try isTrue(try evaluate(test, inner)) { kept.append(item) }
            }
            items = kept
        }
        guard !items.isEmpty else {
            _ = try nested(loop.otherwise, Scope(scope))
            return
        }
        let state = LoopState(items, loop, scope, depth: depth)
        // Only loops that speak of themselves need the name.
        let name = template.loopIdentifier
        for (index, item) in items.enumerated() {
            try meter.step()
            state.index = index
            let inner = Scope(scope)
            if let name { inner.set(name, .object(state)) }
            try assign(loop.target, item, inner)
            if try nested(loop.body, inner) == .breakLoop { break }
        }
    }

    /// What a loop goes over.
    func elements(of value: JinjaValue) throws(JinjaError) -> [JinjaValue] {
        switch value {
        case .undefined(let missing):
            if missing.isForbidden { throw .runtime(missing.message) }
            return []
        case .list(let elements), .tuple(let elements): return elements
        case .dictionary(let dictionary): return dictionary.keys
        case .view(let view):
            try meter.make(elements: view.dictionary.count)
            return view.elements
        case .range(let range):
            try meter.make(elements: range.count / 2)
            return (0..<range.count).map { range[$0] }
        case .object(let generator as Generator): return try generator.take()
        case .string(let text):
            try meter.make(elements: text.utf8.count / 2)
            return text.unicodeScalars.map { .string(String(Character($0))) }
        default: throw .runtime("'\(value.typeName)' object is not iterable")
        }
    }

    func isTrue(_ value: JinjaValue) throws(JinjaError) -> Bool {
        if case .undefined(let missing) = value, missing.isForbidden { throw .runtime(missing.message) }
        return value.isTrue
    }
}

extension JinjaTemplate {
    /// The number of the name `loop`; nil where the template never says it.
    var loopIdentifier: Int? { names.firstIndex(of: "loop") }
}

/// The variable `loop`.
final class LoopState: JinjaObject {
    private let items: [JinjaValue]
    let loop: Loop
    let scope: Scope
    let depth: Int
    var index = 0
    private var lastChanged: [JinjaValue]?

    init(_ items: [JinjaValue], _ loop: Loop, _ scope: Scope, depth: Int) {
        self.items = items
        self.loop = loop
        self.scope = scope
        self.depth = depth
    }

    override var typeName: String { "LoopContext" }
    override var isCallable: Bool { loop.isRecursive }

    override func attribute(_ name: String) -> JinjaValue? {
        switch name {
        case "index": .integer(Int128(index + 1))
        case "index0": .integer(Int128(index))
        case "revindex": .integer(Int128(items.count - index))
        case "revindex0": .integer(Int128(items.count - index - 1))
        case "first": .bool(index == 0)
        case "last": .bool(index == items.count - 1)
        case "length": .integer(Int128(items.count))
        case "depth": .integer(Int128(depth + 1))
        case "depth0": .integer(Int128(depth))
        case "previtem":
            index > 0 ? items[index - 1] : .undefined(Missing(message: "there is no previous item"))
        case "nextitem":
            index + 1 < items.count
                ? items[index + 1] : .undefined(Missing(message: "there is no next item"))
        case "cycle":
            .object(
                Function("cycle") { [index] (arguments) throws(JinjaError) in
                    guard !arguments.positional.isEmpty else { throw .runtime("no items for cycling given") }
                    return arguments.positional[index % arguments.positional.count]
                })
        case "changed":
            .object(
                Function("changed") { (arguments) throws(JinjaError) in
                    let isSame =
                        self.lastChanged.map { last in
                            JinjaValue.list(last).isEqual(to: .list(arguments.positional))
                        } ?? false
                    self.lastChanged = arguments.positional
                    return .bool(!isSame)
                })
        default: nil
        }
    }
}

/// A macro with the names that it sees.
final class MacroValue: JinjaObject {
    let macro: Macro
    let scope: Scope

    init(_ macro: Macro, _ scope: Scope) {
        self.macro = macro
        self.scope = scope
    }

    override var typeName: String { "Macro" }
    override var isCallable: Bool { true }
    override var printed: String { "<Macro '\(macro.name)'>" }

    override func attribute(_ name: String) -> JinjaValue? {
        switch name {
        case "name": .string(macro.name)
        case "arguments": .tuple(macro.parameters.map { .string($0.name) })
        default: nil
        }
    }
}
