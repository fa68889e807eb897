// SPDX-License-Identifier: Apache-2.0

/// Reads tokens into statements, by the grammar of Jinja 3.1 with the loop controls and the `generation` block of
/// transformers.
struct Parser {
    private let tokens: [Token]
    private var index = 0
    private var depth = 0
    private let depthLimit: Int
    /// The names that occur, each with its number.
    private(set) var names: [String] = []
    private var identifiers: [String: Int] = [:]
    /// In an `if` an unknown filter or test fails when it is met, elsewhere when the template is read.
    private var isSoft = false
    private var openTags: [String] = []
    private var wantedTags: [[String]] = []
    private var loopCount = 0

    init(_ text: String, depthLimit: Int) throws(JinjaError) {
        tokens = try Lexer.tokens(of: text)
        self.depthLimit = depthLimit
    }

    mutating func template() throws(JinjaError) -> [Statement] { try body(until: []) }

    mutating func identifier(_ name: String) -> Int {
        if let known = identifiers[name] { return known }
        names.append(name)
        identifiers[name] = names.count - 1
        return names.count - 1
    }

    // MARK: Tokens

    private var current: Token { tokens[index] }

    private mutating func next() -> Token {
        defer { if index + 1 < tokens.count { index += 1 } }
        return tokens[index]
    }

    private func failure(_ message: String) -> JinjaError {
        JinjaError(kind: .syntax, message: message, line: current.line)
    }

    private func isOperator(_ text: String) -> Bool { current.kind == .op(text) }

    private func isName(_ text: String) -> Bool { current.kind == .name(text) }

    private mutating func skip(operator text: String) -> Bool {
        guard isOperator(text) else { return false }
        index += 1
        return true
    }

    private mutating func skip(name text: String) -> Bool {
        guard isName(text) else { return false }
        index += 1
        return true
    }

    private mutating func expect(operator text: String) throws(JinjaError) {
        guard skip(operator: text) else { throw failure("expected token '\(text)', got '\(current.words)'") }
    }

    private mutating func expect(name text: String) throws(JinjaError) {
        guard skip(name: text) else { throw failure("expected token '\(text)', got '\(current.words)'") }
    }

    private mutating func expectBlockEnd() throws(JinjaError) {
        guard current.kind == .blockEnd else {
            throw failure("expected token 'end of statement block', got '\(current.words)'")
        }
        index += 1
    }

    private mutating func expectName() throws(JinjaError) -> String {
        guard case .name(let name) = current.kind else {
            throw failure("expected token 'name', got '\(current.words)'")
        }
        index += 1
        return name
    }

    /// Runs `parse` one level deeper.
    private mutating func deeper<Result>(
        _ parse: (inout Parser) throws(JinjaError) -> Result
    ) throws(JinjaError) -> Result {
        depth += 1
        defer { depth -= 1 }
        guard depth <= depthLimit else {
            throw JinjaError(
                kind: .limit, message: "the template nests more than \(depthLimit) levels deep", line: current.line)
        }
        return try parse(&self)
    }

    // MARK: Statements

    /// Statements up to a block that begins with one of `tags`, whose name is left to be read; to the end for none.
    private mutating func body(until tags: [String]) throws(JinjaError) -> [Statement] {
        if !tags.isEmpty { wantedTags.append(tags) }
        defer { if !tags.isEmpty { wantedTags.removeLast() } }
        return try deeper { (parser) throws(JinjaError) in
            var statements: [Statement] = []
            while true {
                switch parser.current.kind {
                case .data(let text):
                    statements.append(.text(text))
                    parser.index += 1
                case .variableBegin:
                    parser.index += 1
                    statements.append(.output(try parser.tuple()))
                    guard parser.current.kind == .variableEnd else {
                        throw parser.failure(
                            "expected token 'end of print statement', got '\(parser.current.words)'")
                    }
                    parser.index += 1
                case .blockBegin:
                    parser.index += 1
                    if case .name(let name) = parser.current.kind, tags.contains(name) { return statements }
                    statements.append(try parser.statement())
                    try parser.expectBlockEnd()
                default:
                    guard tags.isEmpty else { throw parser.unknownTag(nil) }
                    return statements
                }
            }
        }
    }

    private func unknownTag(_ name: String?) -> JinjaError {
        var message = name.map { "Encountered unknown tag '\($0)'." } ?? "Unexpected end of template."
        if let wanted = wantedTags.last {
            let tags = wanted.map { "'\($0)'" }.joined(separator: " or ")
            message +=
                name.map { name in wantedTags.contains { $0.contains(name) } } == true
                ? " You probably made a nesting mistake. Jinja is expecting this tag, but currently looking for \(tags)."
                : " Jinja was looking for the following tags: \(tags)."
        }
        if let tag = openTags.last { message += " The innermost block that needs to be closed is '\(tag)'." }
        return failure(message)
    }

    /// The statement whose tag is the current token, up to before its last block end.
    private mutating func statement() throws(JinjaError) -> Statement {
        let tag = try expectName()
        openTags.append(tag)
        defer { openTags.removeLast() }
        switch tag {
        case "if": return try conditional()
        case "for": return try loop()
        case "set": return try assignment()
        case "macro":
            let name = try expectName()
            return .macro(try macro(named: name, signature: try signature(), end: "endmacro"))
        case "call":
            var parameters: [(name: String, identifier: Int, standard: Expression?)] = []
            if isOperator("(") { parameters = try signature() }
            let callee = try unary()
            guard case .call = callee else { throw failure("expected call") }
            return .call(callee, try macro(named: "caller", signature: parameters, end: "endcall"))
        case "filter":
            let filter = try filters(of: nil, isStart: true)
            return .filterBlock(filter, body: try block(end: "endfilter"))
        case "with": return try with()
        case "generation": return .generation(try block(end: "endgeneration"))
        case "block":
            _ = try expectName()
            while case .name = current.kind { index += 1 }
            let body = try block(end: "endblock")
            if case .name = current.kind { index += 1 }
            return .block(body)
        case "autoescape":
            let value = try expression()
            return .escape(value, body: try block(end: "endautoescape"))
        case "print": return .output(try tuple())
        case "break", "continue":
            guard loopCount > 0 else { throw failure("'\(tag)' outside loop") }
            return tag == "break" ? .breakLoop : .continueLoop
        case "include", "import", "from", "extends":
            while current.kind != .blockEnd, current.kind != .end { index += 1 }
            return .unsupported("no loader for this environment specified")
        default:
            index -= 1
            openTags.removeLast()
            defer { openTags.append(tag) }
            throw unknownTag(tag)
        }
    }

    /// A body that ends with `end`, which is read.
    private mutating func block(end: String) throws(JinjaError) -> [Statement] {
        try expectBlockEnd()
        let statements = try body(until: [end])
        index += 1
        return statements
    }

    private mutating func soft<Result>(
        _ isSoft: Bool, _ parse: (inout Parser) throws(JinjaError) -> Result
    ) throws(JinjaError) -> Result {
        let before = self.isSoft
        self.isSoft = isSoft
        defer { self.isSoft = before }
        return try parse(&self)
    }

    private mutating func conditional() throws(JinjaError) -> Statement {
        try soft(true) { (parser) throws(JinjaError) in
            var branches: [(test: Expression, body: [Statement])] = []
            while true {
                let test = try parser.tuple(isConditional: false)
                try parser.expectBlockEnd()
                branches.append((test, try parser.body(until: ["elif", "else", "endif"])))
                let tag = try parser.expectName()
                if tag == "elif" { continue }
                if tag == "else" {
                    try parser.expectBlockEnd()
                    let otherwise = try parser.body(until: ["endif"])
                    parser.index += 1
                    return .conditional(branches, otherwise: otherwise)
                }
                return .conditional(branches, otherwise: [])
            }
        }
    }

    private mutating func loop() throws(JinjaError) -> Statement {
        let target = try target(isNamespaceAllowed: false)
        try expect(name: "in")
        let sequence = try tuple(isConditional: false, end: "recursive")
        return try soft(false) { (parser) throws(JinjaError) in
            let test = parser.skip(name: "if") ? try parser.expression() : nil
            let isRecursive = parser.skip(name: "recursive")
            try parser.expectBlockEnd()
            parser.loopCount += 1
            let body = try parser.body(until: ["endfor", "else"])
            parser.loopCount -= 1
            var otherwise: [Statement] = []
            if try parser.expectName() == "else" {
                try parser.expectBlockEnd()
                otherwise = try parser.body(until: ["endfor"])
                parser.index += 1
            }
            return .loop(
                Loop(
                    target: target, sequence: sequence, test: test, body: body, otherwise: otherwise,
                    isRecursive: isRecursive))
        }
    }

    private mutating func assignment() throws(JinjaError) -> Statement {
        let target = try target(isNamespaceAllowed: true)
        if skip(operator: "=") { return .assign(target, try tuple()) }
        let filter = isOperator("|") ? try filters(of: nil, isStart: false) : nil
        return .assignBlock(target, filter: filter, body: try block(end: "endset"))
    }

    /// Names that get values: `a`, `a, b`, `(a, (b, c))`, and `namespace.attribute`.
    private mutating func target(isNamespaceAllowed: Bool) throws(JinjaError) -> Target {
        var targets: [Target] = []
        var isTuple = false
        repeat {
            if case .name(let name) = current.kind, name != "in" || targets.isEmpty {
                index += 1
                guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
                    throw failure("can't assign to 'const'")
                }
                if isNamespaceAllowed, targets.isEmpty, skip(operator: ".") {
                    return .attribute(namespace: identifier(name), try expectName())
                }
                targets.append(.name(identifier(name)))
            } else if skip(operator: "(") {
                targets.append(
                    try deeper { (parser) throws(JinjaError) in try parser.target(isNamespaceAllowed: false) })
                try expect(operator: ")")
            } else if targets.isEmpty {
                throw failure("expected token 'name', got '\(current.words)'")
            } else {
                break
            }
            guard skip(operator: ",") else { break }
            isTuple = true
        } while true
        return isTuple ? .tuple(targets) : targets[0]
    }

    private mutating func signature() throws(JinjaError) -> [(name: String, identifier: Int, standard: Expression?)] {
        var parameters: [(name: String, identifier: Int, standard: Expression?)] = []
        try expect(operator: "(")
        while !isOperator(")") {
            if !parameters.isEmpty { try expect(operator: ",") }
            let name = try expectName()
            var standard: Expression?
            if skip(operator: "=") {
                standard = try expression()
            } else if parameters.contains(where: { $0.standard != nil }) {
                throw failure("non-default argument follows default argument")
            }
            parameters.append((name, identifier(name), standard))
        }
        index += 1
        return parameters
    }

    private mutating func macro(
        named name: String, signature: [(name: String, identifier: Int, standard: Expression?)], end: String
    ) throws(JinjaError) -> Macro {
        let loops = loopCount
        loopCount = 0
        defer { loopCount = loops }
        return try soft(false) { (parser) throws(JinjaError) in
            Macro(
                name: name, identifier: parser.identifier(name), parameters: signature,
                body: try parser.block(end: end))
        }
    }

    private mutating func with() throws(JinjaError) -> Statement {
        var pairs: [(target: Target, value: Expression)] = []
        while current.kind != .blockEnd {
            if !pairs.isEmpty { try expect(operator: ",") }
            let name = try target(isNamespaceAllowed: false)
            try expect(operator: "=")
            pairs.append((name, try expression()))
        }
        return .with(pairs, body: try block(end: "endwith"))
    }

    // MARK: Expressions

    /// One expression, or several with commas.
    private mutating func tuple(
        isConditional: Bool = true, end: String? = nil, isParenthesized: Bool = false
    ) throws(JinjaError) -> Expression {
        var parts: [Expression] = []
        var isTuple = false
        while true {
            if !parts.isEmpty { try expect(operator: ",") }
            if current.kind == .variableEnd || current.kind == .blockEnd || isOperator(")")
                || end.map({ isName($0) }) == true
            {
                break
            }
            parts.append(isConditional ? try expression() : try or())
            guard isOperator(",") else { break }
            isTuple = true
        }
        if !isTuple {
            if let only = parts.first { return only }
            guard isParenthesized else { throw failure("Expected an expression, got '\(current.words)'") }
        }
        return .tuple(parts)
    }

    private mutating func expression() throws(JinjaError) -> Expression {
        try deeper { (parser) throws(JinjaError) in
            var value = try parser.or()
            while parser.skip(name: "if") {
                try parser.count()
                value = try parser.soft(true) { (parser) throws(JinjaError) in
                    let test = try parser.or()
                    let otherwise = parser.skip(name: "else") ? try parser.expression() : nil
                    return .conditional(test: test, then: value, otherwise: otherwise)
                }
            }
            return value
        }
    }

    private mutating func or() throws(JinjaError) -> Expression {
        var left = try and()
        let before = depth
        defer { depth = before }
        while skip(name: "or") {
            left = .or(left, try and())
            try count()
        }
        return left
    }

    private mutating func and() throws(JinjaError) -> Expression {
        var left = try not()
        let before = depth
        defer { depth = before }
        while skip(name: "and") {
            left = .and(left, try not())
            try count()
        }
        return left
    }

    private mutating func not() throws(JinjaError) -> Expression {
        guard skip(name: "not") else { return try comparison() }
        return .not(try deeper { (parser) throws(JinjaError) in try parser.not() })
    }

    private mutating func comparison() throws(JinjaError) -> Expression {
        let left = try sum()
        var operations: [Comparison] = []
        while true {
            if case .op(let text) = current.kind, let comparison = ComparisonOperator(rawValue: text) {
                index += 1
                operations.append(Comparison(sign: comparison, right: try sum()))
            } else if skip(name: "in") {
                operations.append(Comparison(sign: .isIn, right: try sum()))
            } else if isName("not"), tokens[index + 1].kind == .name("in") {
                index += 2
                operations.append(Comparison(sign: .isNotIn, right: try sum()))
            } else {
                break
            }
        }
        return operations.isEmpty ? left : .comparison(left, operations)
    }

    private mutating func sum() throws(JinjaError) -> Expression {
        var left = try concatenation()
        let before = depth
        defer { depth = before }
        while isOperator("+") || isOperator("-") {
            let operation: BinaryOperator = isOperator("+") ? .add : .subtract
            index += 1
            left = .binary(operation, left, try concatenation())
            try count()
        }
        return left
    }

    private mutating func concatenation() throws(JinjaError) -> Expression {
        var parts = [try product()]
        while skip(operator: "~") { parts.append(try product()) }
        return parts.count == 1 ? parts[0] : .concatenation(parts)
    }

    private mutating func product() throws(JinjaError) -> Expression {
        var left = try power()
        let before = depth
        defer { depth = before }
        while case .op(let text) = current.kind, ["*", "/", "//", "%"].contains(text),
            let operation = BinaryOperator(rawValue: text)
        {
            index += 1
            left = .binary(operation, left, try power())
            try count()
        }
        return left
    }

    private mutating func power() throws(JinjaError) -> Expression {
        var left = try unary()
        let before = depth
        defer { depth = before }
        while skip(operator: "**") {
            left = .binary(.power, left, try unary())
            try count()
        }
        return left
    }

    private mutating func unary(hasFilters: Bool = true) throws(JinjaError) -> Expression {
        try deeper { (parser) throws(JinjaError) in
            var value: Expression
            if parser.skip(operator: "-") {
                value = .negative(try parser.unary(hasFilters: false))
            } else if parser.skip(operator: "+") {
                value = .positive(try parser.unary(hasFilters: false))
            } else {
                value = try parser.primary()
            }
            value = try parser.postfix(value)
            return hasFilters ? try parser.filters(of: value, isStart: false) : value
        }
    }

    private mutating func primary() throws(JinjaError) -> Expression {
        let token = next()
        switch token.kind {
        case .name(let name):
            switch name {
            case "true", "True": return .constant(.bool(true))
            case "false", "False": return .constant(.bool(false))
            case "none", "None": return .constant(.none)
            default: return .name(identifier(name))
            }
        case .string(var text):
            while case .string(let more) = current.kind {
                text += more
                index += 1
            }
            return .constant(.string(text))
        case .integer(let value): return .constant(.integer(value))
        case .float(let value): return .constant(.double(value))
        case .op("("):
            let value = try tuple(isParenthesized: true)
            try expect(operator: ")")
            return value
        case .op("["): return .list(try list(end: "]"))
        case .op("{"): return try dictionary()
        default:
            if index > 0, token.kind != .end { index -= 1 }
            throw failure("Expected an expression, got '\(token.words)'")
        }
    }

    private mutating func list(end: String) throws(JinjaError) -> [Expression] {
        var items: [Expression] = []
        while !isOperator(end) {
            if !items.isEmpty { try expect(operator: ",") }
            if isOperator(end) { break }
            items.append(try expression())
        }
        index += 1
        return items
    }

    private mutating func dictionary() throws(JinjaError) -> Expression {
        var items: [(key: Expression, value: Expression)] = []
        while !isOperator("}") {
            if !items.isEmpty { try expect(operator: ",") }
            if isOperator("}") { break }
            let key = try expression()
            try expect(operator: ":")
            items.append((key, try expression()))
        }
        index += 1
        return .dictionary(items)
    }

    private mutating func postfix(_ value: Expression) throws(JinjaError) -> Expression {
        var value = value
        let before = depth
        defer { depth = before }
        while true {
            if skip(operator: ".") {
                switch next().kind {
                case .name(let name): value = .attribute(value, name)
                case .integer(let number): value = .item(value, .constant(.integer(number)))
                default: throw failure("expected name or number")
                }
            } else if skip(operator: "[") {
                value = try subscripted(value)
            } else if isOperator("(") {
                value = .call(value, try arguments())
            } else {
                return value
            }
            try count()
        }
    }

    /// Counts an operation that makes the tree deeper without a call that is nested; the caller takes it back.
    private mutating func count() throws(JinjaError) {
        depth += 1
        _ = try deeper { (_) throws(JinjaError) in 0 }
    }

    private mutating func subscripted(_ value: Expression) throws(JinjaError) -> Expression {
        var start: Expression?
        if !isOperator(":") {
            start = try expression()
            if skip(operator: "]") { return .item(value, start ?? .constant(.none)) }
            if isOperator(",") {
                var parts = [start ?? .constant(.none)]
                while skip(operator: ",") { parts.append(try expression()) }
                try expect(operator: "]")
                return .item(value, .tuple(parts))
            }
        }
        try expect(operator: ":")
        var stop: Expression?
        var step: Expression?
        if !isOperator("]"), !isOperator(":") { stop = try expression() }
        if skip(operator: ":"), !isOperator("]") { step = try expression() }
        try expect(operator: "]")
        return .slice(value, start: start, stop: stop, step: step)
    }

    private mutating func arguments() throws(JinjaError) -> Arguments {
        var arguments = Arguments()
        try expect(operator: "(")
        var isFirst = true
        while !isOperator(")") {
            if !isFirst {
                try expect(operator: ",")
                if isOperator(")") { break }
            }
            isFirst = false
            if skip(operator: "*") {
                arguments.unpackedList = try expression()
            } else if skip(operator: "**") {
                arguments.unpackedDictionary = try expression()
            } else if case .name(let name) = current.kind, tokens[index + 1].kind == .op("=") {
                index += 2
                arguments.named.append((name, try expression()))
            } else {
                guard arguments.named.isEmpty, arguments.unpackedDictionary == nil else {
                    throw failure("invalid syntax for function call expression")
                }
                arguments.positional.append(try expression())
            }
        }
        index += 1
        return arguments
    }

    /// Filters, tests and calls after a value. With `isStart` the name of a filter comes without a bar.
    private mutating func filters(of value: Expression?, isStart: Bool) throws(JinjaError) -> Expression {
        var value = value
        var isStart = isStart
        let before = depth
        defer { depth = before }
        while true {
            if isStart || skip(operator: "|") {
                isStart = false
                let name = try dottedName()
                let filter = Filter(name)
                if case .unknown = filter, !isSoft { throw failure("No filter named '\(name)'.") }
                value = .filter(filter, of: value, isOperator("(") ? try arguments() : .none)
            } else if let operand = value, skip(name: "is") {
                value = try test(of: operand)
            } else if let callee = value, isOperator("(") {
                value = .call(callee, try arguments())
            } else {
                guard let value else { throw failure("expected token 'name', got '\(current.words)'") }
                return value
            }
            try count()
        }
    }

    private mutating func dottedName() throws(JinjaError) -> String {
        var name = try expectName()
        while skip(operator: ".") { name += "." + (try expectName()) }
        return name
    }

    private mutating func test(of value: Expression) throws(JinjaError) -> Expression {
        let isNegated = skip(name: "not")
        let name = try dottedName()
        let test = Test(name)
        if case .unknown = test, !isSoft { throw failure("No test named '\(name)'.") }
        var given = Arguments.none
        if isOperator("(") {
            given = try arguments()
        } else {
            let takesArgument: Bool
            switch current.kind {
            case .name(let word): takesArgument = !["else", "or", "and"].contains(word)
            case .string, .integer, .float, .op("["), .op("{"): takesArgument = true
            default: takesArgument = false
            }
            if takesArgument {
                if isName("is") { throw failure("You cannot chain multiple tests with is") }
                given.positional = [try postfix(try primary())]
            }
        }
        let result = Expression.test(test, of: value, given)
        return isNegated ? .not(result) : result
    }
}
