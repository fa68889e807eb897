// SPDX-License-Identifier: Apache-2.0
internal import CKernels
package import Foundation
internal import Qwen3

/// Fixture kind "distill": divergences from a teacher's whole distribution, loss and gradient in the student's logits.
package struct DistillationParity {
    private let root: URL

    package init(_ root: URL) { self.root = root }

    private struct File: Decodable {
        struct Case: Decodable {
            struct Options: Decodable {
                let beta: Double?
                let temperature: Double?
                let reduction: String?
                let labels: Bool?
                let num_items_in_batch: Double?
                let all_masked: Bool?
                let k: Int?
                let add_tail: Bool?
            }
            let id: Int
            let kind: String
            let input: String?
            let options: Options
            let loss: Double
            let loss_f64: Double?
        }
        let cases: [Lenient<Case>]
    }

    package func run() throws -> [ParityCase] {
        let file = try JSONDecoder().decode(File.self, from: Data(contentsOf: root.appending(path: "cases.json")))
        let tensors = try FixtureTensors(root.appending(path: "cases.safetensors"))
        return file.cases.cases("distill", name: { "\($0.kind) \($0.id)" }) { item in
            let name = "\(item.kind) \(item.id)"
            if item.kind == "distillation_trainer_chunked" { return [try fromHidden(item, tensors, name)] }
            if let k = item.options.k, let input = item.input {
                return [try topK(k, item, input, tensors, name)]
            }
            guard item.kind == "gkd_generalized_jsd", let input = item.input, item.options.all_masked != true else {
                return [
                    .skipped(
                        "distill", name, "teachers that send less than their whole distribution are not implemented")
                ]
            }
            return [try divergence(item, input, tensors, name)]
        }
    }

    private func divergence(
        _ item: File.Case, _ input: String, _ tensors: FixtureTensors, _ name: String
    ) throws -> ParityCase {
        let shape = try tensors.shape("\(input).student_logits")
        let (student, teacher) = (
            try tensors.floats("\(input).student_logits"), try tensors.floats("\(input).teacher_logits")
        )
        let (rows, vocabulary) = (shape.dropLast().reduce(1, *), shape.last!)
        let labels = item.options.labels == true ? try tensors.integers("\(input).labels") : nil
        let active = (0..<rows).filter { labels == nil || labels![$0] != -100 }
        let divisor: Double =
            if let labels {
                item.options.num_items_in_batch ?? Double(labels.count { $0 != -100 })
            } else {
                switch item.options.reduction {
                case "sum": 1
                case "mean": Double(rows * vocabulary)
                default: Double(shape[0])
                }
            }
        let (loss, gradient) = Self.evaluate(item.options, student, teacher, vocabulary, active, divisor)
        let expected = try tensors.floats("\(Self.key(item.id)).grad")
        let scale = expected.reduce(1e-6) { max($0, abs(Double($1))) }
        let worst = zip(gradient, expected).reduce(0) { max($0, abs(Double($1.0) - Double($1.1))) } / scale
        let wanted = item.loss_f64 ?? item.loss
        return ParityCase(
            kind: "distill", name: name,
            worstError: max(worst, Self.error(loss / divisor, wanted, rows: active.count, divisor)),
            tolerance: 2e-5, detail: "loss \(loss / divisor), expected \(wanted)")
    }

    /// Over the teacher's K most likely tokens with or without a tail: all rows that have a label.
    private func topK(
        _ k: Int, _ item: File.Case, _ input: String, _ tensors: FixtureTensors, _ name: String
    ) throws -> ParityCase {
        let shape = try tensors.shape("\(input).student_logits")
        let (student, teacher) = (
            try tensors.floats("\(input).student_logits"), try tensors.floats("\(input).teacher_logits")
        )
        let (rows, vocabulary) = (shape.dropLast().reduce(1, *), shape.last!)
        let labels = try tensors.integers("\(input).labels")
        let active = (0..<rows).filter { labels[$0] != -100 }
        // The asynchronous trainer's is a sum, the server's a mean.
        let divisor = item.kind == "async_topk_jsd_sum" ? 1 : Double(active.count)
        let beta = Float(item.options.beta ?? 0.5)
        let isInner = beta > 0 && beta < 1
        let divergence = TeacherDivergence(
            forward: beta == 0 ? 1 : 0, reverse: beta == 1 ? 1 : 0, symmetric: isInner ? 1 : 0, beta: beta,
            temperature: Float(item.options.temperature ?? 1))
        let topK = TopKDivergence(k: k, hasTail: item.options.add_tail ?? true)
        var loss = 0.0
        var gradient = [Float](repeating: 0, count: student.count)
        for row in active {
            let range = row * vocabulary..<(row + 1) * vocabulary
            var out = [Float](repeating: 0, count: vocabulary)
            loss += topK.evaluate(
                divergence, student: Array(student[range]), teacher: Array(teacher[range]), count: vocabulary,
                scale: Float(1 / divisor), into: &out)
            gradient.replaceSubrange(range, with: out)
        }
        let expected = try tensors.floats("\(Self.key(item.id)).grad")
        let scale = expected.reduce(1e-6) { max($0, abs(Double($1))) }
        let worst = zip(gradient, expected).reduce(0) { max($0, abs(Double($1.0) - Double($1.1))) } / scale
        let wanted = item.loss_f64 ?? item.loss
        return ParityCase(
            kind: "distill", name: name,
            worstError: max(worst, Self.error(loss / divisor, wanted, rows: active.count, divisor)),
            tolerance: 2e-5, detail: "loss \(loss / divisor), expected \(wanted)")
    }

    /// Loss and its gradient, divided by `divisor`, over the rows `active`.
    private static func evaluate(
        _ options: File.Case.Options, _ student: [Float], _ teacher: [Float], _ vocabulary: Int, _ active: [Int],
        _ divisor: Double
    ) -> (loss: Double, gradient: [Float]) {
        let temperature = Float(options.temperature ?? 1)
        let beta = Float(options.beta ?? 0.5)
        let isInner = beta > 0 && beta < 1
        var kind = ck_divergence_kind(
            forward: beta == 0 ? 1 : 0, reverse: beta == 1 ? 1 : 0, symmetric: isInner ? 1 : 0, beta: beta,
            inverse_temperature: 1 / temperature)
        var loss = 0.0
        var gradient = [Float](repeating: 0, count: student.count)
        for row in active {
            let range = row * vocabulary..<(row + 1) * vocabulary
            let (z, t) = (Array(student[range]), Array(teacher[range]))
            let own = Statistics(z, count: vocabulary, temperature: temperature)
            let other = Statistics(t, count: vocabulary, temperature: temperature)
            var out = [Float](repeating: 0, count: vocabulary)
            loss += ck_divergence(
                &kind, z, own.maximum, own.logSum, t, other.maximum, other.logSum, Int64(vocabulary),
                Float(1 / divisor), &out)
            gradient.replaceSubrange(range, with: out)
        }
        return (loss, gradient)
    }

    /// From hidden states and heads, back to both of the student's.
    private func fromHidden(_ item: File.Case, _ tensors: FixtureTensors, _ name: String) throws -> ParityCase {
        let key = Self.key(item.id)
        func matrix(_ suffix: String) throws -> (values: [Float], rows: Int, columns: Int) {
            let shape = try tensors.shape("\(key).\(suffix)")
            return (try tensors.floats("\(key).\(suffix)"), shape.dropLast().reduce(1, *), shape.last!)
        }
        func logits(_ who: String) throws -> [Float] {
            let (hidden, head) = (try matrix("\(who)_hidden"), try matrix("\(who)_lm_head"))
            return (0..<hidden.rows * head.rows).map { index in
                let (row, token) = (index / head.rows, index % head.rows)
                return Float(
                    (0..<hidden.columns).reduce(0.0) {
                        $0 + Double(hidden.values[row * hidden.columns + $1])
                            * Double(head.values[token * hidden.columns + $1])
                    })
            }
        }
        let (hidden, head) = (try matrix("student_hidden"), try matrix("student_lm_head"))
        let mask = try tensors.integers("\(key).completion_mask")
        let active = mask.indices.filter { mask[$0] == 1 }
        let (loss, gradient) = Self.evaluate(
            item.options, try logits("student"), try logits("teacher"), head.rows, active, Double(active.count))
        var (hiddenGradient, headGradient) = (
            [Float](repeating: 0, count: hidden.values.count), [Float](repeating: 0, count: head.values.count)
        )
        for row in active {
            for token in 0..<head.rows {
                let weight = gradient[row * head.rows + token]
                for column in 0..<hidden.columns {
                    hiddenGradient[row * hidden.columns + column] +=
                        weight * head.values[token * hidden.columns + column]
                    headGradient[token * hidden.columns + column] +=
                        weight * hidden.values[row * hidden.columns + column]
                }
            }
        }
        var worst = Self.error(
            loss / Double(active.count), item.loss, rows: active.count, Double(active.count))
        for (actual, suffix) in [(hiddenGradient, "grad_student_hidden"), (headGradient, "grad_student_lm_head")] {
            let expected = try tensors.floats("\(key).\(suffix)")
            let scale = expected.reduce(1e-6) { max($0, abs(Double($1))) }
            worst = max(worst, zip(actual, expected).reduce(0) { max($0, abs(Double($1.0) - Double($1.1))) } / scale)
        }
        return ParityCase(
            kind: "distill", name: name, worstError: worst, tolerance: 2e-5,
            detail: "loss \(loss / Double(active.count))")
    }

    /// A row's divergence is what is left of terms that cancel, each good to fp32 rounding: the error of a loss is
    /// measured by itself, or by a thousandth of what its rows may be summed from.
    private static func error(_ loss: Double, _ expected: Double, rows: Int, _ divisor: Double) -> Double {
        abs(loss - expected) / max(abs(expected), 1e-3 * max(1, Double(rows) / divisor))
    }

    private static func key(_ id: Int) -> String {
        let digits = String(id)
        return String(repeating: "0", count: max(0, 3 - digits.count)) + digits
    }
}
