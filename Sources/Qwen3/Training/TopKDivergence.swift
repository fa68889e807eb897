// SPDX-License-Identifier: Apache-2.0
//
// A divergence over the teacher's K most likely tokens and, as one more outcome, all others together: what is left of a
// distribution when a teacher can only send that much. Without the tail both sides are normalised over the K.
internal import CKernels
internal import Glibc

/// The divergence of one row.
package struct TopKDivergence: Sendable, Hashable {
    package let k: Int
    package let hasTail: Bool

    package init(k: Int, hasTail: Bool = true) {
        self.k = k
        self.hasTail = hasTail
    }

    /// - Parameters:
    ///   - divergence: its form and the temperature of both distributions.
    ///   - student: `[count]` logits; with `teacher` of one vocabulary.
    ///   - scale: of the gradient.
    ///   - out: `[count]`: the gradient in the student's logits is added.
    /// - Returns: the divergence.
    package func evaluate(
        _ divergence: TeacherDivergence, student: UnsafePointer<Float>, teacher: UnsafePointer<Float>, count: Int,
        scale: Float, into out: UnsafeMutablePointer<Float>
    ) -> Double {
        let top = largest(teacher, count)
        let hasTail = hasTail && top.count < count
        var kind = divergence.kernelValue
        let inverse = kind.inverse_temperature
        // Outcomes have the temperature in them.
        kind.inverse_temperature = 1
        return withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { rest in
            // Of the teacher's first: the student's is used again for the gradient.
            let teachers = outcomes(teacher, count, top, hasTail, inverse, rest.baseAddress!)
            let students = outcomes(student, count, top, hasTail, inverse, rest.baseAddress!)
            var gradient = [Float](repeating: 0, count: students.count)
            let own = Statistics(students, count: students.count, temperature: 1)
            let other = Statistics(teachers, count: teachers.count, temperature: 1)
            let value = ck_divergence(
                &kind, students, own.maximum, own.logSum, teachers, other.maximum, other.logSum,
                Int64(students.count), scale, &gradient)
            for (place, token) in top.enumerated() { out[token] += gradient[place] * inverse }
            if hasTail {
                // A token's share of the tail's gradient is its share of the tail.
                let tail = rest.baseAddress!
                ck_scale(tail, inverse, Int64(count), tail)
                ck_softmax(tail, Int64(count))
                ck_scale(tail, gradient[top.count] * inverse, Int64(count), tail)
                ck_add(out, tail, Int64(count), out)
            }
            return value
        }
    }

    /// The K largest, ties to the smaller index, in falling order.
    private func largest(_ values: UnsafePointer<Float>, _ count: Int) -> [Int] {
        var picked: [Int] = []
        for index in 0..<count {
            if picked.count == k, !(values[index] > values[picked[k - 1]]) { continue }
            var place = picked.count
            while place > 0, values[index] > values[picked[place - 1]] { place -= 1 }
            picked.insert(index, at: place)
            if picked.count > k { picked.removeLast() }
        }
        return picked
    }

    /// Logits of the outcomes at temperature 1; `rest` is left with the logits of the tail, others at -1e30.
    private func outcomes(
        _ logits: UnsafePointer<Float>, _ count: Int, _ top: [Int], _ hasTail: Bool, _ inverse: Float,
        _ rest: UnsafeMutablePointer<Float>
    ) -> [Float] {
        var result = top.map { logits[$0] * inverse }
        guard hasTail else { return result }
        memcpy(rest, logits, count * 4)
        for token in top { rest[token] = -1e30 }
        let tail = Statistics(rest, count: count, temperature: 1 / inverse)
        result.append(tail.maximum + tail.logSum)
        return result
    }
}
