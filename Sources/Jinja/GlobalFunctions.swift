// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// What every template can call: Jinja's globals and those of transformers.
struct GlobalFunctions {
    let meter: Meter
    let clock: Int

    func value(_ name: String) -> JinjaValue? {
        let meter = meter
        let clock = clock
        func function(_ body: @escaping (CallArguments) throws(JinjaError) -> JinjaValue) -> JinjaValue {
            .object(Function(name, body))
        }
        switch name {
        case "range": return function { (arguments) throws(JinjaError) in try Self.range(arguments) }
        case "dict":
            return function { (arguments) throws(JinjaError) in
                let dictionary = JinjaValue.dictionary(JinjaDictionary(try Self.pairs(arguments)))
                try meter.weigh(dictionary)
                return dictionary
            }
        case "namespace":
            return function { (arguments) throws(JinjaError) in
                .object(
                    Namespace(try Self.pairs(arguments).map { (name: $0.key.printed, value: $0.value) }))
            }
        case "raise_exception":
            return function { (arguments) throws(JinjaError) in
                throw JinjaError(kind: .raised, message: arguments.positional.first?.printed ?? "")
            }
        case "strftime_now":
            return function { (arguments) throws(JinjaError) in
                guard case .string(let format)? = arguments.value(0, "format") else {
                    throw .runtime("strftime_now needs a format")
                }
                try meter.make(bytes: format.utf8.count * 16)
                return .string(Self.time(clock, format))
            }
        case "joiner":
            return function { (arguments) throws(JinjaError) in
                let separator = arguments.value(0, "sep") ?? .string(", ")
                var isUsed = false
                return .object(
                    Function("joiner") { _ throws(JinjaError) in
                        defer { isUsed = true }
                        return isUsed ? separator : .string("")
                    })
            }
        case "cycler":
            return function { (arguments) throws(JinjaError) in
                guard !arguments.positional.isEmpty else { throw .runtime("at least one item has to be provided") }
                return .object(Cycler(arguments.positional))
            }
        case "lipsum": return function { _ throws(JinjaError) in throw .runtime("lipsum is not supported") }
        case "self": return .object(JinjaObject())
        default: return nil
        }
    }

    private static func range(_ arguments: CallArguments) throws(JinjaError) -> JinjaValue {
        var bounds: [Int] = []
        for argument in arguments.positional {
            guard let index = argument.index else {
                throw .runtime("'\(argument.typeName)' object cannot be interpreted as an integer")
            }
            bounds.append(index)
        }
        guard (1...3).contains(bounds.count) else {
            throw .runtime("range expected 1 to 3 arguments, got \(bounds.count)")
        }
        let step = bounds.count == 3 ? bounds[2] : 1
        guard step != 0 else { throw .runtime("range() arg 3 must not be zero") }
        let range = IntegerRange(
            start: bounds.count > 1 ? bounds[0] : 0, stop: bounds.count > 1 ? bounds[1] : bounds[0], step: step)
        guard range.count <= 100_000 else {
            throw .runtime("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).")
        }
        return .range(range)
    }

    private static func pairs(_ arguments: CallArguments) throws(JinjaError) -> [(key: JinjaValue, value: JinjaValue)] {
        var pairs: [(key: JinjaValue, value: JinjaValue)] = []
        if let first = arguments.positional.first {
            switch first {
            case .dictionary(let dictionary): pairs += zip(dictionary.keys, dictionary.values).map { ($0, $1) }
            case .list(let items), .tuple(let items):
                for item in items {
                    switch item {
                    case .list(let pair) where pair.count == 2, .tuple(let pair) where pair.count == 2:
                        try pair[0].requireHashable()
                        pairs.append((pair[0], pair[1]))
                    default: throw .runtime("cannot convert dictionary update sequence element to a sequence")
                    }
                }
            default: throw .runtime("'\(first.typeName)' object is not iterable")
            }
        }
        return pairs + arguments.named.map { (key: .string($0.name), value: $0.value) }
    }

    /// `strftime` of the C locale.
    static func time(_ seconds: Int, _ format: String) -> String {
        guard !format.isEmpty else { return "" }
        var moment = time_t(seconds)
        var parts = tm()
        gmtime_r(&moment, &parts)
        var buffer = [CChar](repeating: 0, count: format.utf8.count * 16 + 64)
        let count = strftime(&buffer, buffer.count, format, &parts)
        return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

private final class Cycler: JinjaObject {
    private let items: [JinjaValue]
    private var place = 0
    init(_ items: [JinjaValue]) { self.items = items }
    override var typeName: String { "Cycler" }
    override func attribute(_ name: String) -> JinjaValue? {
        switch name {
        case "current": items[place]
        case "next":
            .object(
                Function(name) { _ throws(JinjaError) in
                    defer { self.place = (self.place + 1) % self.items.count }
                    return self.items[self.place]
                })
        case "reset":
            .object(
                Function(name) { _ throws(JinjaError) in
                    self.place = 0
                    return .none
                })
        default: nil
        }
    }
}
