// SPDX-License-Identifier: Apache-2.0

/// How texts are counted.
enum Text {
    static func words(_ text: String) -> [String] {
        text.split { !($0.isLetter || $0.isNumber || $0 == "'" || $0 == "’" || $0 == "-") }.map(String.init)
            .filter { $0.contains { $0.isLetter || $0.isNumber } }
    }

    static func lines(_ text: String) -> [String] { text.split(separator: "\n").map { $0.trimmed } }

    /// Non-empty parts between separators.
    static func parts(_ text: String, separator: String) -> [String] {
        text.split(separator: separator).map { $0.trimmed }.filter { !$0.isEmpty }
    }

    static func sentences(_ text: String) -> Int {
        var count = 0
        var isOpen = false
        for character in text {
            if ".!?。！？".contains(character) {
                if isOpen { count += 1 }
                isOpen = false
            } else if character.isLetter || character.isNumber {
                isOpen = true
            }
        }
        return count + (isOpen ? 1 : 0)
    }

    static func occurrences(of word: String, in text: String) -> Int {
        word.isEmpty ? 0 : text.lowercased().ranges(of: word.lowercased()).count
    }

    /// Of the word alone, not of longer words that hold it.
    static func occurrences(ofWord word: String, in text: String) -> Int {
        let text = text.lowercased()
        guard !word.isEmpty else { return 0 }
        return text.ranges(of: word.lowercased()).count { range in
            let before = range.lowerBound > text.startIndex ? text[text.index(before: range.lowerBound)] : " "
            let after = range.upperBound < text.endIndex ? text[range.upperBound] : " "
            return !(before.isLetter || before.isNumber || after.isLetter || after.isNumber)
        }
    }

    /// In `words`, `characters` (without white space), `sentences` or `items` (lines); nil for another unit.
    static func length(of text: String, in unit: String) -> Int? {
        switch unit {
        case "words": words(text).count
        case "characters": text.count { !$0.isWhitespace }
        case "sentences": sentences(text)
        case "items": lines(text).count { !$0.isEmpty }
        default: nil
        }
    }

    /// Without a code fence around it.
    static func unfenced(_ text: String) -> String {
        guard text.hasPrefix("```"), text.hasSuffix("```"), let end = text.firstIndex(of: "\n") else { return text }
        return text[text.index(after: end)...].dropLast(3).trimmed
    }
}

extension String {
    func trimmingSuffix(_ character: Character) -> String {
        last == character ? String(dropLast()) : self
    }
}

/// Languages that their script or their commonest words give away.
enum Language {
    private static let scripts: [String: [ClosedRange<UInt32>]] = [
        "ru": [0x400...0x4FF], "uk": [0x400...0x4FF], "bg": [0x400...0x4FF], "zh": [0x4E00...0x9FFF],
        "ja": [0x3040...0x30FF], "ko": [0xAC00...0xD7AF], "ar": [0x600...0x6FF], "fa": [0x600...0x6FF],
        "ur": [0x600...0x6FF], "he": [0x590...0x5FF], "hi": [0x900...0x97F], "mr": [0x900...0x97F],
        "ne": [0x900...0x97F], "th": [0xE00...0xE7F], "bn": [0x980...0x9FF], "pa": [0xA00...0xA7F],
        "gu": [0xA80...0xAFF], "ta": [0xB80...0xBFF], "te": [0xC00...0xC7F], "kn": [0xC80...0xCFF],
        "ml": [0xD00...0xD7F], "el": [0x370...0x3FF],
    ]

    private static let words: [String: Set<String>] = [
        "en": ["the", "and", "of", "to", "is", "that", "in", "it", "for", "with"],
        "de": ["der", "die", "und", "das", "ist", "nicht", "ein", "zu", "mit", "auf"],
        "fr": ["le", "la", "les", "et", "des", "est", "une", "dans", "que", "pour"],
        "es": ["el", "los", "las", "y", "una", "es", "por", "con", "para", "que"],
        "it": ["il", "gli", "che", "è", "una", "di", "per", "con", "sono", "della"],
        "pt": ["o", "os", "não", "uma", "é", "para", "com", "são", "do", "da"],
        "vi": ["và", "của", "là", "không", "có", "một", "những", "được", "cho", "trong"],
        "fi": ["ja", "on", "ei", "se", "että", "oli", "mutta", "hän", "ovat", "kuin"],
        "sw": ["na", "ya", "wa", "kwa", "ni", "katika", "za", "la", "cha", "kuwa"],
    ]

    static func isKnown(_ code: String) -> Bool { scripts[code] != nil || words[code] != nil }

    static func isWritten(_ text: String, in code: String) -> Bool {
        if let ranges = scripts[code] {
            let letters = text.unicodeScalars.filter { $0.properties.isAlphabetic }
            let own = letters.count { letter in ranges.contains { $0.contains(letter.value) } }
            // Japanese mixes kana with Chinese characters; other scripts stand nearly alone.
            return !letters.isEmpty && Double(own) / Double(letters.count) > (code == "ja" ? 0.2 : 0.6)
        }
        let found = Text.words(text.lowercased())
        let counts = words.mapValues { list in found.count { list.contains($0) } }
        let best = counts.values.max() ?? 0
        return best > 0 && counts[code] == best
    }
}
