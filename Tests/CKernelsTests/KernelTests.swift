// SPDX-License-Identifier: Apache-2.0
internal import CKernels
import Testing

/// All kernel tests. Serialized because they switch the instruction set of the process; other suites may run
/// meanwhile, since every instruction set gives the same bits.
@Suite("Kernels", .serialized)
enum KernelTests {}

/// The instruction sets of this machine, best last.
let instructionSets: [String] = {
    let inUse = String(cString: ck_isa())
    defer { _ = ck_select_isa(inUse) }
    return ["reference", "avx2", "avx512", "avx512bf16"].filter { ck_select_isa($0) == 0 }
}()

/// Runs `body` once for every instruction set of this machine, with flush-to-zero as in every compute thread.
func onEveryInstructionSet(_ body: (String) throws -> Void) rethrows {
    let inUse = String(cString: ck_isa())
    let control = ck_thread_setup()
    defer {
        ck_thread_restore(control)
        _ = ck_select_isa(inUse)
    }
    for name in instructionSets {
        _ = ck_select_isa(name)
        try body(name)
    }
}

/// Runs `body` with flush-to-zero.
func flushingToZero<Result>(_ body: () throws -> Result) rethrows -> Result {
    let control = ck_thread_setup()
    defer { ck_thread_restore(control) }
    return try body()
}

/// Computes on every instruction set and expects the same bits (any NaN equals any NaN); returns the first result.
@discardableResult
func sameBitsOnAll(
    _ what: @autoclosure () -> String, sourceLocation: SourceLocation = #_sourceLocation,
    _ compute: () -> [Float]
) -> [Float] {
    var first: [Float]?
    onEveryInstructionSet { name in
        let result = compute()
        if let first {
            expectSameBits(result, first, "\(what()) on \(name)", sourceLocation: sourceLocation)
        } else {
            first = result
        }
    }
    return first ?? []
}

/// Expects equal bits in every element; any NaN equals any NaN.
func expectSameBits(
    _ actual: [Float], _ expected: [Float], _ what: @autoclosure () -> String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard actual.count == expected.count else {
        Issue.record("\(what()): \(actual.count) elements, not \(expected.count)", sourceLocation: sourceLocation)
        return
    }
    for index in actual.indices where actual[index].bitPattern != expected[index].bitPattern {
        if actual[index].isNaN && expected[index].isNaN { continue }
        Issue.record(
            "\(what()): element \(index) is \(actual[index]), not \(expected[index])",
            sourceLocation: sourceLocation)
        return
    }
}

/// A small generator of test data (SplitMix64), so that a failure repeats.
struct TestNumbers {
    var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func integer(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(next() % UInt64(range.count))
    }

    /// Uniform in [-scale, scale).
    mutating func float(_ scale: Float = 1) -> Float {
        (Float(next() >> 40) / Float(1 << 23) - 1) * scale
    }

    mutating func floats(_ count: Int, scale: Float = 1) -> [Float] {
        (0..<count).map { _ in float(scale) }
    }
}
