// SPDX-License-Identifier: Apache-2.0

/// Units that may follow a number. Only these: any other word after a number makes an answer unreadable, so
/// that nothing can be smuggled behind it ("7 or 8", "7 (not 6)").
enum UnitOfMeasure {
    /// Each line: the canonical spelling first.
    private static let spellings = [
        "m meter meters metre metres", "cm centimeter centimeters centimetre centimetres",
        "mm millimeter millimeters millimetre millimetres", "km kilometer kilometers kilometre kilometres",
        "in inch inches", "ft foot feet", "yd yard yards", "mi mile miles", "g gram grams",
        "mg milligram milligrams",
        "kg kilogram kilograms", "lb pound pounds lbs", "oz ounce ounces", "s sec second seconds",
        "min minute minutes", "h hr hour hours hrs", "day days", "week weeks", "month months", "year years",
        "l liter liters litre litres", "ml milliliter milliliters", "dollar dollars usd", "cent cents",
        "euro euros",
        "deg degree degrees", "rad radian radians", "unit units", "mph", "kmh", "hz", "n newton newtons",
        "j joule joules", "w watt watts", "v volt volts", "k kelvin", "c celsius", "f fahrenheit",
        "square sq", "cubic cu", "per", "people person", "student students", "way ways", "point points",
        "apple apples", "coin coins", "book books", "hour hours", "percent",
    ]

    private static let canonical: [String: String] = {
        var table: [String: String] = [:]
        for line in spellings {
            let words = line.split(separator: " ").map(String.init)
            for word in words where table[word] == nil { table[word] = words[0] }
        }
        return table
    }()

    /// True for a word of two or more letters that can stand after a number without `\text`.
    static func isBareUnit(_ word: String) -> Bool { word.count > 1 && canonical[word.lowercased()] != nil }

    /// One spelling per unit, `km/h` for `kilometers per hour`; nil for anything else.
    static func normalized(_ text: String) -> String? {
        var result: [String] = []
        var word = ""
        func flush() -> Bool {
            defer { word = "" }
            guard !word.isEmpty else { return true }
            guard let unit = canonical[word.lowercased()] else { return false }
            result.append(unit == "per" ? "/" : unit)
            return true
        }
        for character in text {
            switch character {
            case _ where character.isLetter: word.append(character)
            case "/", "^", "2", "3", "*", "·":
                guard flush() else { return nil }
                if character != "*" && character != "·" { result.append(String(character)) }
            case " ", ".", "{", "}": guard flush() else { return nil }
            default: return nil
            }
        }
        guard flush(), result.contains(where: { $0.first?.isLetter == true }) else { return nil }
        return result.joined(separator: " ")
    }
}
