// SPDX-License-Identifier: Apache-2.0
//
// Every backward operation beside central differences of its forward, written out in Float64. The gradients are of
// Σ weight × output with random weights, in all inputs at once.
import CKernels
import Foundation
import RuntimeSupport
import Tensors
import Testing

@testable import Qwen3

@Suite("Backward operations are derivatives")
struct FiniteDifferenceTests {
    /// Numbers in (-1, 1) that are exact in Float.
    private static func numbers(_ count: Int, _ seed: UInt64, scale: Double = 1) -> [Double] {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        return (0..<count).map { _ in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return scale * Double(Int16(truncatingIfNeeded: state >> 20)) / 32768
        }
    }

    private static func floats(_ values: [Double]) -> [Float] { values.map(Float.init) }

    private static func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }

    /// Largest distance of `gradient` from the central differences of `loss` at `x`, relative to the largest of these.
    private static func error(_ gradient: [Float], at x: [Double], _ loss: ([Double]) -> Double) -> Double {
        var worst = 0.0
        var largest = 0.0
        for index in x.indices {
            let step = 1e-5
            var moved = x
            moved[index] += step
            let above = loss(moved)
            moved[index] -= 2 * step
            let difference = (above - loss(moved)) / (2 * step)
            worst = max(worst, abs(Double(gradient[index]) - difference))
            largest = max(largest, abs(difference))
        }
        #expect(largest > 1e-6, "the gradient is not zero")
        return worst / largest
    }

    /// fp32 rounding of short sums; differences in Float64 are good to about 1e-9.
    private static let tolerance = 2e-6

    @Test func rmsNorm() {
        let (rows, width, epsilon) = (3, 21, 1e-3)
        let (x, w, dy) = (Self.numbers(rows * width, 1), Self.numbers(width, 2), Self.numbers(rows * width, 3))
        func loss(_ x: [Double], _ w: [Double]) -> Double {
            (0..<rows).reduce(0) { sum, row in
                let part = x[row * width..<(row + 1) * width]
                let scale = 1 / (part.reduce(0) { $0 + $1 * $1 } / Double(width) + epsilon).squareRoot()
                return sum
                    + zip(part, w).enumerated().reduce(0) {
                        $0 + dy[row * width + $1.offset] * $1.element.0 * scale * $1.element.1
                    }
            }
        }
        var dx = [Float](repeating: 0, count: rows * width)
        var scales = [Float](repeating: 0, count: rows)
        var dw = [Float](repeating: 0, count: width)
        let (x32, dy32, n) = (Self.floats(x), Self.floats(dy), Int64(width))
        ck_rms_norm_backward(x32, n, Self.floats(w), Float(epsilon), n, Int64(rows), dy32, n, &dx, n, 0, &scales)
        ck_rms_norm_weight_gradient(x32, n, scales, dy32, n, Int64(rows), 0, n, &dw)
        #expect(Self.error(dx, at: x) { loss($0, w) } < Self.tolerance)
        #expect(Self.error(dw, at: w) { loss(x, $0) } < Self.tolerance)
    }

    @Test func rotaryEmbedding() {
        let (heads, size) = (2, 10)
        let half = size / 2
        let angles = Self.numbers(half, 4, scale: 3)
        let (x, dy) = (Self.numbers(heads * size, 5), Self.numbers(heads * size, 6))
        func loss(_ x: [Double]) -> Double {
            (0..<heads * half).reduce(0) { sum, index in
                let (head, i) = (index / half * size, index % half)
                let (a, b, c, s) = (x[head + i], x[head + i + half], cos(angles[i]), sin(angles[i]))
                return sum + dy[head + i] * (a * c - b * s) + dy[head + i + half] * (b * c + a * s)
            }
        }
        // The transposed rotation: the kernel with the sines' signs turned.
        var dx = Self.floats(dy)
        ck_rope(
            &dx, Int64(size), Int64(heads), Int64(size), angles.map { Float(cos($0)) }, angles.map { Float(-sin($0)) })
        #expect(Self.error(dx, at: x, loss) < Self.tolerance)
    }

    private static func silu(_ x: Double) -> Double { x / (1 + exp(-x)) }

    @Test func gatedUnit() {
        let count = 37
        let (gate, up, dy) = (Self.numbers(count, 7, scale: 6), Self.numbers(count, 8), Self.numbers(count, 9))
        func loss(_ gate: [Double], _ up: [Double]) -> Double {
            (0..<count).reduce(0) { $0 + dy[$1] * Self.silu(gate[$1]) * up[$1] }
        }
        var (dGate, dUp) = (Self.floats(gate), Self.floats(up))
        var activation = [Float](repeating: 0, count: count)
        ck_swiglu_backward(CK_FP32, &dGate, &dUp, Self.floats(dy), Int64(count), &activation)
        #expect(Self.error(dGate, at: gate) { loss($0, up) } < Self.tolerance)
        #expect(Self.error(dUp, at: up) { loss(gate, $0) } < Self.tolerance)
    }

    @Test("attention with grouped heads, in the middle of a sequence")
    func attention() {
        let (page, first, positions, heads, keyHeads, size, scale) = (4, 3, 4, 4, 2, 6, 0.4)
        let keys = first + positions
        let (q, k, v) = (
            Self.numbers(positions * heads * size, 10, scale: 2), Self.numbers(keys * keyHeads * size, 11, scale: 2),
            Self.numbers(keys * keyHeads * size, 12)
        )
        let dOut = Self.numbers(positions * heads * size, 13)
        func loss(_ q: [Double], _ k: [Double], _ v: [Double]) -> Double {
            var sum = 0.0
            for position in 0..<positions {
                for head in 0..<heads {
                    let query = Array(q[(position * heads + head) * size..<(position * heads + head + 1) * size])
                    let rows = (0...(first + position)).map { ($0 * keyHeads + head / (heads / keyHeads)) * size }
                    let weights = rows.map { exp(scale * Self.dot(query, Array(k[$0..<$0 + size]))) }
                    let total = weights.reduce(0, +)
                    for (row, weight) in zip(rows, weights) {
                        let dy = Array(dOut[(position * heads + head) * size..<(position * heads + head + 1) * size])
                        sum += weight / total * Self.dot(dy, Array(v[row..<row + size]))
                    }
                }
            }
            return sum
        }
        let pageElements = page * keyHeads * size
        let pageCount = (keys + page - 1) / page
        func padded(_ rows: [Double]) -> [Float] {
            Self.floats(rows) + [Float](repeating: .nan, count: pageCount * pageElements - rows.count)
        }
        var dq = [Float](repeating: 0, count: q.count)
        var dk = [Float](repeating: 0, count: k.count)
        var dv = dk
        var work = [Float](repeating: 0, count: 8 * 16)
        padded(k).withUnsafeBytes { keyBytes in
            padded(v).withUnsafeBytes { valueBytes in
                let pages = [keyBytes, valueBytes].map { bytes in
                    (0..<pageCount).map { Optional(UnsafeRawPointer(bytes.baseAddress! + $0 * pageElements * 4)) }
                }
                for head in 0..<keyHeads {
                    ck_attention_backward(
                        CK_FP32, Self.floats(q), pages[0], pages[1], Int64(page), Int64(first), Int64(positions),
                        Int64(heads), Int64(keyHeads), Int64(size), Float(scale), Int64(head), Self.floats(dOut), &dq,
                        &dk, &dv, &work)
                }
            }
        }
        #expect(Self.error(dq, at: q) { loss($0, k, v) } < Self.tolerance)
        #expect(Self.error(dk, at: k) { loss(q, $0, v) } < Self.tolerance)
        #expect(Self.error(dv, at: v) { loss(q, k, $0) } < Self.tolerance)
    }

    // MARK: - Products and experts

    private static func matrix(_ values: [Double], outputs: Int, inputs: Int) throws -> PackedMatrix {
        let storage = try PageBuffer(byteCount: PackedMatrix.byteCount(.fp32, outputs: outputs, inputs: inputs))
        let matrix = PackedMatrix(.fp32, outputs: outputs, inputs: inputs, in: storage, at: 0)
        floats(values).withUnsafeBytes { matrix.pack(from: $0.baseAddress!, stored: .float32, rows: 0..<outputs) }
        return matrix
    }

    /// y[o] = Σ W[o, i] x[i].
    private static func product(_ w: ArraySlice<Double>, _ x: [Double]) -> [Double] {
        let first = w.startIndex
        return (0..<w.count / x.count).map { output in
            x.indices.reduce(0) { $0 + w[first + output * x.count + $1] * x[$1] }
        }
    }

    @Test func linearLayer() throws {
        let (rows, outputs, inputs) = (5, 18, 13)
        let (x, w, dy) = (
            Self.numbers(rows * inputs, 14), Self.numbers(outputs * inputs, 15), Self.numbers(rows * outputs, 16)
        )
        func loss(_ x: [Double], _ w: [Double]) -> Double {
            (0..<rows).reduce(0) { sum, row in
                let y = Self.product(w[...], Array(x[row * inputs..<(row + 1) * inputs]))
                return sum + Self.dot(y, Array(dy[row * outputs..<(row + 1) * outputs]))
            }
        }
        let products = GradientProducts(compute: .fp32, pool: ComputePool(threadCount: 1))
        var dx = [Float](repeating: 0, count: x.count)
        var dw = [Float](repeating: 0, count: w.count)
        let packed = try Self.matrix(w, outputs: outputs, inputs: inputs)
        try products.inputGradient(Self.floats(dy), packed, rows: rows, into: &dx)
        try products.weightGradient(
            Self.floats(dy), outputs: outputs, Self.floats(x), inputs: inputs, rows: rows, into: &dw, adds: false)
        #expect(Self.error(dx, at: x) { loss($0, w) } < Self.tolerance)
        #expect(Self.error(dw, at: w) { loss(x, $0) } < Self.tolerance)
    }

    @Test("experts: in their rows, their router weights and all of their matrices")
    func experts() throws {
        let (rows, width, inner, experts) = (4, 7, 5, 3)
        var assignment = ExpertAssignment()
        assignment.experts = [0, 2, 1, 2, 0, 1, 2]
        assignment.rowStarts = [0, 2, 4, 6, 7]
        let routing = Self.numbers(assignment.experts.count, 17)
        assignment.weights = Self.floats(routing)
        let size = 3 * width * inner
        let (x, w, dy) = (
            Self.numbers(rows * width, 18), Self.numbers(experts * size, 19), Self.numbers(rows * width, 20)
        )
        func loss(_ x: [Double], _ w: [Double], _ routing: [Double]) -> Double {
            var sum = 0.0
            for row in 0..<rows {
                let input = Array(x[row * width..<(row + 1) * width])
                for entry in assignment.entries(of: row) {
                    let first = Int(assignment.experts[entry]) * size
                    let gate = Self.product(w[first..<first + size / 3], input)
                    let up = Self.product(w[first + size / 3..<first + size / 3 * 2], input)
                    let active = zip(gate, up).map { Self.silu($0) * $1 }
                    let y = Self.product(w[first + size / 3 * 2..<first + size], active)
                    sum += routing[entry] * Self.dot(y, Array(dy[row * width..<(row + 1) * width]))
                }
            }
            return sum
        }
        let weights = ExpertWeights(
            experts: try (0..<experts).map { expert in
                func part(_ index: Int, _ outputs: Int, _ inputs: Int) throws -> PackedMatrix {
                    let first = expert * size + index * size / 3
                    return try Self.matrix(Array(w[first..<first + size / 3]), outputs: outputs, inputs: inputs)
                }
                return SwiGLUWeights(
                    gate: try part(0, inner, width), up: try part(1, inner, width), down: try part(2, width, inner))
            })
        let pool = ComputePool(threadCount: 1)
        let backward = ExpertBackward(compute: .fp32, hiddenSize: width, intermediateSize: inner, pool: pool)
        let gradients = ExpertGradients(compute: .fp32, hiddenSize: width, intermediateSize: inner, pool: pool)
        for expert in 0..<experts { try gradients.own(.init(layer: 0, expert: expert)) }
        var dRouting = [Float](repeating: 0, count: routing.count)
        let dx = UnsafeMutablePointer<Float>.allocate(capacity: rows * width)
        defer { dx.deallocate() }
        let contribution = try Self.floats(x).withUnsafeBytes { x in
            try Self.floats(dy).withUnsafeBytes { dy in
                let stride = width * 4
                return try backward.run(
                    weights: weights, rows: (0..<rows).map { x.baseAddress! + $0 * stride },
                    outputGradients: (0..<rows).map { dy.baseAddress! + $0 * stride }, assignment: assignment,
                    subtrees: { _ in [ExpertSubtree(first: 0, size: 4)] }, weightGradients: &dRouting
                ) { row, _, sum in (dx + row * width).update(from: sum, count: width) }
            }
        }
        gradients.deliver(layer: 0, cell: 0, rows: (0..<Int32(rows)).map { $0 }, contribution)
        try gradients.fold(layer: 0, cellsBelow: 1)
        let dw = gradients.owned.flatMap { id in (0..<size).map { gradients.gradient(id)![$0] } }
        #expect(
            Self.error(Array(UnsafeBufferPointer(start: dx, count: x.count)), at: x) { loss($0, w, routing) }
                < Self.tolerance)
        #expect(Self.error(dw, at: w) { loss(x, $0, routing) } < Self.tolerance)
        #expect(Self.error(dRouting, at: routing) { loss(x, w, $0) } < Self.tolerance)
    }

    @Test(
        "the router, its weights normalised or not, with and without the load-balancing loss",
        arguments: [true, false], [true, false])
    func router(normalize: Bool, balances: Bool) {
        let (experts, chosenCount) = (6, 3)
        let logits = Self.numbers(experts, 21, scale: 2)
        let dWeights = Self.numbers(chosenCount, 22)
        let auxiliary = Self.numbers(experts, 23)
        var values = Self.floats(logits)
        let (assignment, _) = MoERouter.route(
            logits: &values, rowCount: 1, expertCount: experts, expertsPerToken: chosenCount, normalize: normalize)
        MoERouter.backward(
            &values, expertCount: experts, assignment: assignment, weightGradients: Self.floats(dWeights),
            normalize: normalize, auxiliary: balances ? Self.floats(auxiliary) : nil, row: 0)
        let error = Self.error(values, at: logits) { logits in
            let total = logits.reduce(0) { $0 + exp($1) }
            let p = logits.map { exp($0) / total }
            let chosen = assignment.experts.map { p[Int($0)] }
            let sum = normalize ? chosen.reduce(0, +) : 1
            return Self.dot(chosen.map { $0 / sum }, dWeights) + (balances ? Self.dot(p, auxiliary) : 0)
        }
        #expect(error < Self.tolerance)
    }

    // MARK: - Vocabulary rows

    private static func logSoftmax(_ logits: [Double], _ inverseTemperature: Double) -> [Double] {
        let z = logits.map { $0 * inverseTemperature }
        let total = log(z.reduce(0) { $0 + exp($1) })
        return z.map { $0 - total }
    }

    private static func statistics(_ logits: [Float], _ inverseTemperature: Float) -> (
        maximum: Float, logSum: Float, entropy: Float
    ) {
        var maximum: Float = 0
        var (sum, weighted) = (0.0, 0.0)
        ck_softmax_statistics(logits, Int64(logits.count), inverseTemperature, &maximum, &sum, &weighted)
        return (maximum, Float(log(sum)), Float(log(sum) - weighted / sum))
    }

    @Test("log-probability and entropy at a temperature")
    func logProbability() {
        let logits = Self.numbers(53, 24, scale: 4)
        let (target, dLogProb, dEntropy, inverse) = (7, 0.75, -0.5, 1.25)
        let (maximum, logSum, entropy) = Self.statistics(Self.floats(logits), Float(inverse))
        var out = [Float](repeating: 0, count: logits.count)
        ck_log_prob_gradient(
            Self.floats(logits), Int64(logits.count), Float(inverse), maximum, logSum, Int64(target), Float(dLogProb),
            Float(dEntropy), entropy, &out)
        let error = Self.error(out, at: logits) { logits in
            let logs = Self.logSoftmax(logits, inverse)
            return dLogProb * logs[target] - dEntropy * logs.reduce(0) { $0 + exp($1) * $1 }
        }
        #expect(error < Self.tolerance)
    }

    @Test("divergences from a teacher", arguments: ["forward", "reverse", "symmetric", "all"])
    func divergence(which: String) {
        let (student, teacher) = (Self.numbers(47, 25, scale: 3), Self.numbers(47, 26, scale: 3))
        let (beta, inverse, scale) = (0.375, 0.75, 0.5)
        let forward = which == "forward" || which == "all" ? 0.5 : 0
        let reverse = which == "reverse" || which == "all" ? 0.25 : 0
        let symmetric = which == "symmetric" || which == "all" ? 0.75 : 0
        var kind = ck_divergence_kind(
            forward: Float(forward), reverse: Float(reverse), symmetric: Float(symmetric), beta: Float(beta),
            inverse_temperature: Float(inverse))
        func loss(_ student: [Double]) -> Double {
            let (s, t) = (Self.logSoftmax(student, inverse), Self.logSoftmax(teacher, inverse))
            func kl(_ a: [Double], _ b: [Double]) -> Double {
                zip(a, b).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
            }
            let m = zip(s, t).map { log((1 - beta) * exp($0) + beta * exp($1)) }
            return forward * kl(t, s) + reverse * kl(s, t)
                + symmetric * (beta * kl(t, m) + (1 - beta) * kl(s, m))
        }
        let (ofStudent, ofTeacher) = (
            Self.statistics(Self.floats(student), Float(inverse)), Self.statistics(Self.floats(teacher), Float(inverse))
        )
        var gradient = [Float](repeating: 0, count: student.count)
        let value = ck_divergence(
            &kind, Self.floats(student), ofStudent.maximum, ofStudent.logSum, Self.floats(teacher), ofTeacher.maximum,
            ofTeacher.logSum, Int64(student.count), Float(scale), &gradient)
        #expect(abs(value - loss(student)) < Self.tolerance * abs(loss(student)))
        #expect(Self.error(gradient, at: student) { scale * loss($0) } < Self.tolerance)
    }
}
