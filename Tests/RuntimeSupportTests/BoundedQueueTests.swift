// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport
import Testing

@Suite("Bounded queue")
struct BoundedQueueTests {
    @Test("order is kept while the ring wraps and grows, and both limits hold")
    func limits() {
        let queue = BoundedQueue<Int>(itemCountMax: 40, byteCountMax: 1000)
        var (next, expected) = (0, 0)
        for round in 1...60 {
            while queue.tryPush(next, byteCount: round) == .accepted { next += 1 }
            #expect(queue.count == 40 || queue.byteCount + round > 1000)
            for _ in 0..<min(round, queue.count) {
                #expect(queue.tryPop() == expected)
                expected += 1
            }
        }
        while let value = queue.tryPop() {
            #expect(value == expected)
            expected += 1
        }
        #expect(expected == next)
        #expect(queue.byteCount == 0)
        #expect(queue.tryPush(0, byteCount: 5000) == .accepted, "an oversize element enters an empty queue")
        #expect(queue.tryPush(0) == .full)
    }

    @Test("the space handler runs once for each refusal that is followed by room")
    func spaceHandler() {
        let queue = BoundedQueue<Int>(itemCountMax: 1, byteCountMax: 1)
        let calls = Locked(0)
        queue.setSpaceHandler { calls.withLock { $0 += 1 } }
        #expect(queue.tryPush(1) == .accepted)
        #expect(queue.tryPop() == 1)
        #expect(calls.withLock { $0 } == 0)
        for _ in 0..<3 {
            #expect(queue.tryPush(1) == .accepted)
            #expect(queue.tryPush(2) == .full)
            #expect(queue.tryPush(2) == .full)
            #expect(queue.tryPop() == 1)
        }
        #expect(calls.withLock { $0 } == 3)
    }

    @Test("producers and consumers that sleep all finish, and closing wakes everyone")
    func threads() {
        let queue = BoundedQueue<Int>(itemCountMax: 3, byteCountMax: 1000)
        let sum = Locked(0)
        let far = MonotonicInstant.now.advanced(byMilliseconds: 60_000)
        let producers = (0..<3).map { _ in
            DedicatedThread.start(name: "producer") {
                for value in 1...500 { _ = queue.push(value, until: far) }
            }
        }
        let consumers = (0..<3).map { _ in
            DedicatedThread.start(name: "consumer") {
                while let value = queue.pop() { sum.withLock { $0 += value } }
            }
        }
        for thread in producers { thread.join() }
        queue.close()
        for thread in consumers { thread.join() }
        #expect(sum.withLock { $0 } == 3 * 500 * 501 / 2)
        #expect(queue.tryPush(1) == .closed)
        #expect(queue.pop() == nil)
    }
}
