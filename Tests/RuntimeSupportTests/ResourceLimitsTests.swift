// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import Testing

@Suite("Resource limits")
struct ResourceLimitsTests {
    private let free = ResourceLimits(openFileCount: nil, addressSpaceByteCount: nil, fileSizeByteCount: nil)

    @Test("what suffices is no problem, and each limit that does not is named with its remedy")
    func problems() {
        let need = ResourceLimits.Need.cluster(workerCount: 4, threadCount: 8, memoryByteCount: 4 << 30)
        #expect(free.problem(need) { $0 } == nil)
        var limits = free
        limits.openFileCount = 511
        #expect(limits.problem(need) { $0 }?.contains("ulimit -Hn 512") == true)
        limits.openFileCount = 512
        #expect(limits.problem(need) { $0 } == nil)
        limits.fileSizeByteCount = 1 << 20
        #expect(limits.problem(need) { $0 }?.contains("ulimit -f") == true)
        limits.fileSizeByteCount = nil
        limits.addressSpaceByteCount = 6 << 30
        #expect(limits.problem(need) { $0 }?.contains("6144 MiB of address space, 6720 MiB are needed") == true)
        limits.addressSpaceByteCount = 8 << 30
        #expect(limits.problem(need) { $0 } == nil)
        // 32 of the coordinator, 4 workers with 8 + 48 each.
        #expect(limits.problem(need) { $0 - 1 }?.hasPrefix("only 255 more threads can be started, 256 are") == true)
    }

    @Test("memory that is shared out by itself fits below the limit of address space")
    func defaultMemory() throws {
        #expect(free.memoryByteCountMax(threadCount: 4) == nil)
        var limits = free
        limits.addressSpaceByteCount = 16 << 30
        let memory = try #require(limits.memoryByteCountMax(threadCount: 4))
        #expect(limits.problem(.worker(threadCount: 4, memoryByteCount: memory)) { $0 } == nil)
        #expect(limits.problem(.worker(threadCount: 4, memoryByteCount: memory + 1)) { $0 } != nil)
        limits.addressSpaceByteCount = 1 << 30
        #expect(limits.memoryByteCountMax(threadCount: 4) == 0)
    }

    @Test("threads of this process can be started, all at once")
    func threads() {
        #expect(free.problem(ResourceLimits.Need(threadCount: 64)) == nil)
        #expect(AvailableMemory.byteCount > 0)
    }
}
