// SPDX-License-Identifier: Apache-2.0

/// A piece of an answer.
enum MathToken: Equatable, Sendable {
    /// Digits with an optional point; thousands separators are gone.
    case number(String)
    case letter(Character)
    /// A LaTeX command without its backslash.
    case command(String)
    case symbol(Character)
    /// The content of `\text{…}` and its kin, or a bare word that is no product of variables.
    case text(String)
    /// `or`, `and`, `;`, `\cup`, and commas outside brackets.
    case separator
    case matrix([[String]])
}

/// Cuts the LaTeX (or plain text) of one answer into tokens.
struct MathTokenizer {
    private let characters: [Character]
    private var index = 0
    private var tokens: [MathToken] = []
    private var bracketDepth = 0

    private static let skipped: Set<String> = [
        "left", "right", "big", "Big", "bigl", "bigr", "displaystyle", "textstyle", ",", ";", ":", " ", "!",
        "(", ")",
        "[", "]", "quad", "qquad", "limits",
    ]
    private static let textCommands: Set<String> = [
        "text", "textbf", "textit", "textrm", "mathrm", "mbox", "operatorname",
    ]
    private static let styleCommands: Set<String> = ["mathbf", "boldsymbol", "mathit"]
    private static let plainFunctions: Set<String> = [
        "sqrt", "pi", "sin", "cos", "tan", "ln", "log", "exp", "infty", "cot", "sec", "csc",
    ]

    /// nil for text that cannot be an answer in mathematics.
    static func tokens(_ text: String) -> [MathToken]? {
        var tokenizer = MathTokenizer(characters: Array(text))
        return tokenizer.run() ? tokenizer.tokens : nil
    }

    private init(characters: [Character]) { self.characters = characters }

    private var current: Character? { index < characters.count ? characters[index] : nil }

    private mutating func run() -> Bool {
        while let character = current {
            switch character {
            case "\\": guard readCommand() else { return false }
            case _ where character.isASCIIDigit: readNumber()
            case ".":
                guard index + 1 < characters.count, characters[index + 1].isASCIIDigit else { return false }
                readNumber()
            case _ where character.isASCIILetter: readWord()
            case _ where character.isWhitespace: index += 1
            default: guard readSymbol(character) else { return false }
            }
        }
        return true
    }

    private mutating func readSymbol(_ character: Character) -> Bool {
        index += 1
        switch character {
        case "(", "[": bracketDepth += 1
        case ")", "]": bracketDepth -= 1
        case ",", ";":
            tokens.append(bracketDepth > 0 ? .symbol(",") : .separator)
            return true
        case "+", "-", "*", "/", "^", "_", "{", "}", "!", "%", "=", "<", ">", "&": break
        default: return false
        }
        tokens.append(.symbol(character))
        return true
    }

    private mutating func readNumber() {
        var digits = ""
        while let digit = current, digit.isASCIIDigit { take(&digits, digit) }
        // 1,234,567 outside brackets: groups of three after one to three digits.
        if bracketDepth == 0, (1...3).contains(digits.count), digits.first != "0" {
            while isThousandsGroup(at: index) {
                digits += String(characters[(index + 1)...(index + 3)])
                index += 4
            }
        }
        if current == ".", index + 1 < characters.count, characters[index + 1].isASCIIDigit {
            take(&digits, ".")
            while let digit = current, digit.isASCIIDigit { take(&digits, digit) }
        }
        tokens.append(.number(digits))
    }

    private func isThousandsGroup(at start: Int) -> Bool {
        guard start + 3 < characters.count, characters[start] == "," else { return false }
        guard characters[(start + 1)...(start + 3)].allSatisfy(\.isASCIIDigit) else { return false }
        return start + 4 >= characters.count || !characters[start + 4].isASCIIDigit
    }

    private mutating func take(_ text: inout String, _ character: Character) {
        text.append(character)
        index += 1
    }

    private mutating func readWord() {
        var word = ""
        while let letter = current, letter.isASCIILetter { take(&word, letter) }
        if word.count == 1, let letter = word.first {
            tokens.append(.letter(letter))
        } else if ["or", "and"].contains(word.lowercased()) {
            tokens.append(.separator)
        } else if Self.plainFunctions.contains(word) {
            tokens.append(.command(word))
        } else if word.count == 2, word.allSatisfy({ "abcxyzmnkpqrst".contains($0) }),
            !UnitOfMeasure.isBareUnit(word)
        {
            // Two usual variables side by side are a product; longer words are words ("no" is not "on").
            tokens += word.map { .letter($0) }
        } else {
            tokens.append(.text(word))
        }
    }

    private mutating func readCommand() -> Bool {
        index += 1
        guard let first = current else { return false }
        var name = String(first)
        index += 1
        if first.isASCIILetter {
            while let letter = current, letter.isASCIILetter { take(&name, letter) }
        }
        switch name {
        case _ where Self.skipped.contains(name): break
        case _ where Self.textCommands.contains(name):
            guard let content = readGroup() else { return false }
            appendText(content)
        case _ where Self.styleCommands.contains(name):
            guard let content = readGroup(), let inner = Self.tokens(content) else { return false }
            tokens += inner
        case "begin": return readMatrix()
        case "{", "}":
            bracketDepth += name == "{" ? 1 : -1
            tokens.append(.command(name))
        case "%": tokens.append(.symbol("%"))
        case "$": break
        case "cup": tokens.append(.separator)
        case "times", "cdot", "ast": tokens.append(.symbol("*"))
        case "div": tokens.append(.symbol("/"))
        case "dfrac", "tfrac", "cfrac": tokens.append(.command("frac"))
        case "dbinom", "tbinom": tokens.append(.command("binom"))
        case "le", "leq", "leqslant": tokens += [.symbol("<"), .symbol("=")]
        case "ge", "geq", "geqslant": tokens += [.symbol(">"), .symbol("=")]
        case "lt": tokens.append(.symbol("<"))
        case "gt": tokens.append(.symbol(">"))
        default: tokens.append(.command(name))
        }
        return true
    }

    private mutating func appendText(_ content: String) {
        let trimmed = content.trimmed
        if trimmed.isEmpty { return }
        if ["or", "and", ","].contains(trimmed.lowercased()) {
            tokens.append(.separator)
        } else if let inner = Self.tokens(trimmed), inner.count == 1, case .number = inner[0] {
            tokens.append(inner[0])
        } else {
            tokens.append(.text(trimmed))
        }
    }

    /// The text of a balanced `{…}` at the current place.
    private mutating func readGroup() -> String? {
        while current == " " { index += 1 }
        guard current == "{" else { return nil }
        var depth = 0
        var content = ""
        while let character = current {
            index += 1
            if character == "}" { depth -= 1 }
            if depth == 0, character == "}" { return content }
            if depth > 0 { content.append(character) }
            if character == "{" { depth += 1 }
        }
        return nil
    }

    /// `\begin{pmatrix} a & b \\ c & d \end{pmatrix}`, without nesting.
    private mutating func readMatrix() -> Bool {
        guard let name = readGroup(), ["pmatrix", "bmatrix", "matrix", "Bmatrix"].contains(name) else {
            return false
        }
        let end = Array("\\end{\(name)}")
        var body = ""
        while index + end.count <= characters.count {
            if Array(characters[index..<(index + end.count)]) == end {
                index += end.count
                let rows = body.split(separator: "\\\\").map { row in
                    row.split(separator: "&", omittingEmptySubsequences: false).map { $0.trimmed }
                }
                tokens.append(.matrix(rows.filter { $0 != [""] }))
                return true
            }
            body.append(characters[index])
            index += 1
        }
        return false
    }
}

extension Character {
    /// Not `"0"..."9"` alone: a digit with a combining mark lies between two digits in the order of characters.
    var isASCIIDigit: Bool { isASCII && ("0"..."9").contains(self) }
    var isASCIILetter: Bool { isASCII && isLetter }
}
