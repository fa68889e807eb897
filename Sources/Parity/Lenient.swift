// SPDX-License-Identifier: Apache-2.0

/// An element of a list that may be of another form than what is expected: the list is read all the same.
enum Lenient<Value: Decodable>: Decodable {
    case read(Value)
    /// Why not.
    case unreadable(String)

    init(from decoder: any Decoder) throws {
        do { self = .read(try Value(from: decoder)) } catch { self = .unreadable(Self.text(error)) }
    }

    private static func text(_ error: any Error) -> String {
        func path(_ context: DecodingError.Context) -> String {
            context.codingPath.map(\.stringValue).joined(separator: ".")
        }
        return switch error {
        case DecodingError.keyNotFound(let key, let context): "\(path(context)): has no '\(key.stringValue)'"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.dataCorrupted(let context):
            "\(path(context)): \(context.debugDescription)"
        default: "\(error)"
        }
    }
}

extension Array {
    /// One result per element, whatever happens to single ones.
    ///
    /// - Parameter name: of an element, for its case.
    func cases<Value>(
        _ kind: String, name: (Value) -> String, _ body: (Value) throws -> [ParityCase]
    ) -> [ParityCase] where Element == Lenient<Value> {
        enumerated().flatMap { index, item -> [ParityCase] in
            switch item {
            case .unreadable(let reason): [.failed(kind, "case \(index)", "cannot be read: \(reason)")]
            case .read(let value): ParityRunner.capture(kind, name(value)) { try body(value) }
            }
        }
    }
}
