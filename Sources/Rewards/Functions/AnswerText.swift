// SPDX-License-Identifier: Apache-2.0

/// Why a response earns nothing before anybody looks at what it says.
struct Rejection: Error {
    let reason: String
}

extension RewardSample {
    /// Bytes of an answer that is read: what costs more than linear time must be bounded before.
    static let answerByteCountMax = 1 << 18

    /// What follows the thinking, trimmed and not empty.
    func answerText(byteCountMax: Int = answerByteCountMax) throws(Rejection) -> String {
        let text: String
        do throws(ThinkingBlock.Problem) { text = try ThinkingBlock(response, thinking).answer.trimmed } catch {
            throw Rejection(reason: error.rawValue)
        }
        guard !text.isEmpty else { throw Rejection(reason: "there is no answer") }
        guard text.utf8.count <= byteCountMax else { throw Rejection(reason: "the answer is too long") }
        return text
    }

    /// A column that the reward cannot do without.
    func column(_ name: String, for reward: String) throws(MissingColumn) -> String {
        guard let text = metadata[name] else {
            throw MissingColumn(reason: "reward '\(reward)' needs the column '\(name)' and the row has none")
        }
        return text
    }

    /// The reference answer.
    func reference(for reward: String) throws(MissingColumn) -> String {
        guard let answer, !answer.trimmed.isEmpty else {
            throw MissingColumn(reason: "reward '\(reward)' needs a reference answer and the row has none")
        }
        return answer
    }
}

/// The data, not the response, is at fault.
struct MissingColumn: Error {
    let reason: String
}

extension RewardOutcome {
    /// Judges the answer of `sample`; a response without one earns 0, a row without what it takes is an error.
    static func of(
        _ sample: RewardSample, _ judge: (String) throws -> (value: Double, detail: String)
    ) -> RewardOutcome {
        do {
            let (value, detail) = try judge(try sample.answerText())
            return .ok(value: value, detail: detail)
        } catch let rejection as Rejection {
            return .ok(value: 0, detail: rejection.reason)
        } catch let missing as MissingColumn {
            return .infrastructureError(reason: missing.reason)
        } catch { return .infrastructureError(reason: "\(error)") }
    }

    /// 1 or 0.
    static func verdict(_ isRight: Bool, _ detail: String) -> (value: Double, detail: String) {
        (isRight ? 1 : 0, "\(isRight ? "right" : "wrong"): \(detail.prefix(80))")
    }
}

extension RewardOptions {
    /// A number within `range`, or `fallback`.
    func number(_ name: String, _ range: ClosedRange<Double>, default fallback: Double) throws(RewardOptionError)
        -> Double
    {
        guard let text = text(name) else { return fallback }
        guard let value = Double(text), range.contains(value) else {
            throw RewardOptionError(
                "reward '\(function)': option '\(name)' is '\(text)', not a number of \(range.lowerBound) to "
                    + "\(range.upperBound)")
        }
        return value
    }

    /// A text, or `fallback`.
    func text(_ name: String, default fallback: String) -> String { text(name) ?? fallback }
}
