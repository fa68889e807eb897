// SPDX-License-Identifier: Apache-2.0

/// The members of a JSON object in the order in which they were written, each key once.
package struct JSONObject: Sendable, Equatable {
    /// One `"key": value`.
    package struct Member: Sendable, Equatable {
        package let key: String
        package var value: JSONValue

        package init(key: String, value: JSONValue) {
            self.key = key
            self.value = value
        }

        package static func == (left: Member, right: Member) -> Bool {
            left.key.utf8.elementsEqual(right.key.utf8) && left.value == right.value
        }
    }

    /// The members, in order.
    package private(set) var members: [Member]

    /// Keeps a repeated key at its first place with its last value, as Python's dictionaries do.
    package init(_ members: [Member]) {
        var kept: [Member] = []
        kept.reserveCapacity(members.count)
        // Above a few members a table of places avoids comparing each key with all others.
        var places: [ExactText: Int] = [:]
        for member in members {
            let place =
                members.count > 8
                ? places[ExactText(member.key)]
                : kept.firstIndex { $0.key.utf8.elementsEqual(member.key.utf8) }
            if let place {
                kept[place].value = member.value
            } else {
                if members.count > 8 { places[ExactText(member.key)] = kept.count }
                kept.append(member)
            }
        }
        self.members = kept
    }

    /// The value of `key`; `nil` when there is none. A new key comes last, a known one keeps its place, and `nil` takes the
    /// member away. Takes time proportional to the number of members.
    package subscript(key: String) -> JSONValue? {
        get { place(of: key).map { members[$0].value } }
        set {
            switch (place(of: key), newValue) {
            case (let place?, let value?): members[place].value = value
            case (let place?, nil): members.remove(at: place)
            case (nil, let value?): members.append(Member(key: key, value: value))
            case (nil, nil): break
            }
        }
    }

    private func place(of key: String) -> Int? { members.firstIndex { $0.key.utf8.elementsEqual(key.utf8) } }
}

/// A string that equals another only when both have the same scalars. Swift's own equality also joins strings
/// that differ in normalization, which would merge keys and tokens that are different to the tokenizer.
package struct ExactText: Hashable, Sendable {
    let text: String

    package init(_ text: String) { self.text = text }

    package static func == (left: ExactText, right: ExactText) -> Bool {
        left.text.utf8.elementsEqual(right.text.utf8)
    }

    package func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}
