// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Python's string operations. They see Unicode scalars, where Swift's see characters.
extension String {
    /// Where `sought` begins first, in UTF-8 bytes; nil where it does not.
    func firstPlace(of sought: String, from start: Int = 0) -> Int? {
        var text = self
        var sought = sought
        return text.withUTF8 { bytes in
            sought.withUTF8 { needle in
                guard bytes.count - start >= needle.count else { return nil }
                guard let base = bytes.baseAddress, let first = needle.baseAddress, needle.count > 0 else {
                    return start
                }
                var place = start
                let end = bytes.count - needle.count + 1
                while place < end {
                    guard let found = memchr(base + place, Int32(first[0]), end - place) else { return nil }
                    place = UnsafeRawPointer(found) - UnsafeRawPointer(base)
                    if memcmp(found, first, needle.count) == 0 { return place }
                    place += 1
                }
                return nil
            }
        }
    }

    /// The text `count` times.
    func times(_ count: Int) -> String {
        let size = utf8.count * Swift.max(0, count)
        var text = self
        return text.withUTF8 { bytes in
            String(unsafeUninitializedCapacity: size) { target in
                guard let base = target.baseAddress, let source = bytes.baseAddress, size > 0 else { return 0 }
                memcpy(base, source, bytes.count)
                var done = bytes.count
                while done < size {
                    let next = Swift.min(done, size - done)
                    memcpy(base + done, base, next)
                    done += next
                }
                return size
            }
        }
    }

    /// The parts between `separator`, at most `limit` cuts.
    func parts(separatedBy separator: String, limit: Int = .max, fromEnd: Bool = false) -> [String] {
        var places: [Int] = []
        var start = 0
        while let place = firstPlace(of: separator, from: start) {
            places.append(place)
            start = place + separator.utf8.count
        }
        if places.count > limit { places = fromEnd ? Array(places.suffix(limit)) : Array(places.prefix(limit)) }
        let bytes = Array(utf8)
        var parts: [String] = []
        start = 0
        for place in places {
            parts.append(String(decoding: bytes[start..<place], as: UTF8.self))
            start = place + separator.utf8.count
        }
        parts.append(String(decoding: bytes[start...], as: UTF8.self))
        return parts
    }

    /// The words between blanks, at most `limit` cuts.
    func words(limit: Int = .max) -> [String] {
        var words: [String] = []
        let scalars = unicodeScalars
        var place = scalars.startIndex
        while true {
            while place < scalars.endIndex, scalars[place].isPythonSpace { place = scalars.index(after: place) }
            guard place < scalars.endIndex else { return words }
            if words.count == limit {
                words.append(String(scalars[place...]).stripped(start: false))
                return words
            }
            let start = place
            while place < scalars.endIndex, !scalars[place].isPythonSpace { place = scalars.index(after: place) }
            words.append(String(scalars[start..<place]))
        }
    }

    /// Without the scalars of `set` at the ends, blanks for nil.
    func stripped(_ set: String? = nil, start: Bool = true, end: Bool = true) -> String {
        let members = set.map { Set($0.unicodeScalars) }
        func goes(_ scalar: Unicode.Scalar) -> Bool { members?.contains(scalar) ?? scalar.isPythonSpace }
        var rest = unicodeScalars[...]
        if start { rest = rest.drop(while: goes) }
        if end { while let last = rest.last, goes(last) { rest.removeLast() } }
        return String(rest)
    }

    /// With `old` replaced by `new`, at most `limit` times.
    func replaced(_ old: String, by new: String, limit: Int = .max) -> String {
        if old.utf8.isEmpty {
            var result = ""
            var count = 0
            for scalar in unicodeScalars {
                if count < limit {
                    result += new
                    count += 1
                }
                result.unicodeScalars.append(scalar)
            }
            return count < limit ? result + new : result
        }
        return parts(separatedBy: old, limit: limit).joined(separator: new)
    }

    /// The lines, as `splitlines`.
    func lines(keepingEnds: Bool = false) -> [String] {
        var lines: [String] = []
        var line = String.UnicodeScalarView()
        var wasReturn = false
        for scalar in unicodeScalars {
            if wasReturn, scalar == "\n" {
                if keepingEnds, let last = lines.popLast() { lines.append(last + "\n") }
                wasReturn = false
                continue
            }
            wasReturn = scalar == "\r"
            switch scalar.value {
            case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029:
                if keepingEnds { line.append(scalar) }
                lines.append(String(line))
                line = .init()
            default: line.append(scalar)
            }
        }
        if !line.isEmpty { lines.append(String(line)) }
        return lines
    }

    var uppercasedPython: String { mapped { $0.properties.uppercaseMapping } }
    var lowercasedPython: String { mapped { $0.properties.lowercaseMapping } }

    var capitalizedPython: String {
        guard let first = unicodeScalars.first else { return "" }
        return first.properties.titlecaseMapping + String(unicodeScalars.dropFirst()).lowercasedPython
    }

    /// Each run of cased letters begins with a capital, as `str.title`.
    var titledPython: String {
        var wasCased = false
        return mapped { scalar in
            let isCased = scalar.properties.isCased
            defer { wasCased = isCased }
            return wasCased ? scalar.properties.lowercaseMapping : scalar.properties.titlecaseMapping
        }
    }

    private func mapped(_ transform: (Unicode.Scalar) -> String) -> String {
        var result = ""
        for scalar in unicodeScalars { result += transform(scalar) }
        return result
    }

    func begins(with text: String) -> Bool { utf8.starts(with: text.utf8) }
    func finishes(with text: String) -> Bool {
        utf8.count >= text.utf8.count && utf8.suffix(text.utf8.count).elementsEqual(text.utf8)
    }
}
