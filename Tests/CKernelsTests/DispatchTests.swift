// SPDX-License-Identifier: Apache-2.0
internal import CKernels
import Testing

extension KernelTests {
    @Suite("Instruction sets and flush-to-zero")
    struct Dispatch {
        @Test("the reference form exists everywhere; an unknown name is refused and changes nothing")
        func selection() {
            #expect(instructionSets.first == "reference")
            let before = String(cString: ck_isa())
            #expect(ck_select_isa("sse9") == -1)
            #expect(ck_select_isa("") == -1)
            #expect(String(cString: ck_isa()) == before)
            onEveryInstructionSet { #expect(String(cString: ck_isa()) == $0) }
            #expect(String(cString: ck_isa()) == before)
        }

        @Test("thread setup flushes, restore undoes it")
        func controlWord() {
            func product() -> [Float] {
                var out: [Float] = [0, 0]
                ck_scale([.leastNormalMagnitude, Float(bitPattern: 0x0040_0000)], 0.5, 2, &out)
                return out
            }
            let control = ck_thread_setup()
            let flushed = product()
            ck_thread_restore(0x1f80)
            let kept = product()
            ck_thread_restore(control)
            #expect(flushed == [0, 0])
            #expect(kept.map(\.bitPattern) == [0x0040_0000, 0x0020_0000])
        }

        @Test("without flush-to-zero the forms differ: the setup call is needed")
        func teeth() throws {
            guard instructionSets.contains("avx512bf16") else { return }
            // Each product is a denormal fp32: vdpbf16ps flushes it always, an fma only when told.
            let layer = LinearCase(
                CK_BF16, outputs: 16, inputs: 64, rows: 1, weights: .init(repeating: 0x1p-70, count: 16 * 64),
                x: .init(repeating: 0x1p-60, count: 64))
            let inUse = String(cString: ck_isa())
            defer { _ = ck_select_isa(inUse) }
            func run(_ name: String, flushing: Bool) -> [Float] {
                _ = ck_select_isa(name)
                let control = ck_thread_setup()
                if !flushing { ck_thread_restore(0x1f80) }
                defer { ck_thread_restore(control) }
                return layer.run()
            }
            let zeros = [Float](repeating: 0, count: 16)
            #expect(run("avx512bf16", flushing: false) == zeros)
            #expect(run("avx512bf16", flushing: true) == zeros)
            for name in ["reference", "avx2", "avx512"] {
                #expect(run(name, flushing: true) == zeros, "\(name)")
                // 64 products of 2^-130 are 2^-124, a normal number that flushing loses.
                #expect(run(name, flushing: false) == .init(repeating: 0x1p-124, count: 16), "\(name)")
            }
        }
    }
}
