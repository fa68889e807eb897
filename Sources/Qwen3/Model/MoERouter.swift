// SPDX-License-Identifier: Apache-2.0
//
// Top-k routing of Qwen3-MoE: softmax over all experts in fp32, the k largest (ties to the lowest index),
// renormalised by their sum when `norm_topk_prob`. Each row alone, so a batch never changes a choice.
internal import CKernels

/// Which experts each row goes to, in compressed rows: the entries of row `r` are
/// `rowStarts[r] ..< rowStarts[r + 1]`, ascending by expert.
package struct ExpertAssignment: Sendable {
    package var rowStarts: [Int32] = [0]
    package var experts: [Int32] = []
    package var weights: [Float] = []

    package init() {}

    package var rowCount: Int { rowStarts.count - 1 }

    package func entries(of row: Int) -> Range<Int> { Int(rowStarts[row])..<Int(rowStarts[row + 1]) }
}

/// The routing decision of one layer.
package enum MoERouter {
    /// Routes rows by their router logits.
    ///
    /// - Parameters:
    ///   - logits: `[rows, experts]`, fp32; overwritten by the probabilities.
    ///   - replay: for a row the experts that an earlier pass chose, in its order; nil chooses by the logits.
    /// - Returns: the assignment, and the chosen experts in order of falling probability, `[rows, k]`.
    package static func route(
        logits: UnsafeMutablePointer<Float>, rowCount: Int, expertCount: Int, expertsPerToken: Int, normalize: Bool,
        replay: (_ row: Int) -> ArraySlice<UInt8>? = { _ in nil }
    ) -> (assignment: ExpertAssignment, chosen: [UInt16]) {
        var assignment = ExpertAssignment()
        assignment.rowStarts.reserveCapacity(rowCount + 1)
        assignment.experts.reserveCapacity(rowCount * expertsPerToken)
        assignment.weights.reserveCapacity(rowCount * expertsPerToken)
        var chosen: [UInt16] = []
        chosen.reserveCapacity(rowCount * expertsPerToken)
        var picked: [(expert: Int, probability: Float)] = []
        for row in 0..<rowCount {
            let probabilities = logits + row * expertCount
            ck_softmax(probabilities, Int64(expertCount))
            picked.removeAll(keepingCapacity: true)
            if let experts = replay(row) {
                for expert in experts { picked.append((Int(expert), probabilities[Int(expert)])) }
            } else {
                selectLargest(probabilities, expertCount, expertsPerToken, into: &picked)
            }
            var sum: Float = 0
            for entry in picked { sum += entry.probability }
            for entry in picked { chosen.append(UInt16(entry.expert)) }
            picked.sort { $0.expert < $1.expert }
            for entry in picked {
                assignment.experts.append(Int32(entry.expert))
                assignment.weights.append(normalize ? entry.probability / sum : entry.probability)
            }
            assignment.rowStarts.append(Int32(assignment.experts.count))
        }
        return (assignment, chosen)
    }

    /// Insertion into a short sorted list; a later equal value never displaces an earlier one.
    private static func selectLargest(
        _ values: UnsafePointer<Float>, _ count: Int, _ k: Int, into picked: inout [(expert: Int, probability: Float)]
    ) {
        for expert in 0..<count {
            let value = values[expert]
            if picked.count == k, !(value > picked[k - 1].probability) { continue }
            var place = picked.count
            while place > 0, value > picked[place - 1].probability { place -= 1 }
            picked.insert((expert, value), at: place)
            if picked.count > k { picked.removeLast() }
        }
    }
}
