// SPDX-License-Identifier: Apache-2.0

/// A first-in first-out queue between threads with a limit on items and on bytes.
///
/// When it is full, `tryPush` refuses and the producer keeps the element; the next `pop` that makes room then
/// calls `onSpace` once, so a producer that must not sleep (the socket thread) learns when to try again.
/// Consumers may sleep in `pop`; they are plain threads, never tasks.
package final class BoundedQueue<Element: Sendable>: @unchecked Sendable {
    // @unchecked: every `var` below is protected by `lock`.

    /// What became of a push.
    package enum PushResult: Sendable { case accepted, full, closed }

    /// Most elements held at once.
    package let itemCountMax: Int
    /// Most bytes held at once, by the sizes given to `tryPush`.
    package let byteCountMax: Int

    private let lock = ConditionLock()
    private var slots: [(element: Element, byteCount: Int)?]
    private var head = 0
    private var used = 0
    private var usedBytes = 0
    private var isClosed = false
    private var hasRefused = false
    private var waitingProducerCount = 0
    private var spaceHandler: (@Sendable () -> Void)?

    /// Creates an empty queue. Memory for the slots is taken as the queue first fills.
    package init(itemCountMax: Int, byteCountMax: Int) {
        precondition(
            itemCountMax > 0 && byteCountMax > 0, "limits \(itemCountMax), \(byteCountMax) must be positive")
        self.itemCountMax = itemCountMax
        self.byteCountMax = byteCountMax
        slots = Array(repeating: nil, count: min(16, itemCountMax))
    }

    /// Sets what runs, on the consumer's thread and outside the lock, when room appears after a refusal.
    package func setSpaceHandler(_ handler: (@Sendable () -> Void)?) {
        lock.withLock { spaceHandler = handler }
    }

    /// Elements now held.
    package var count: Int { lock.withLock { used } }

    /// Whether it was closed.
    package var hasClosed: Bool { lock.withLock { isClosed } }

    /// Bytes now held.
    package var byteCount: Int { lock.withLock { usedBytes } }

    /// Appends `element` unless a limit would be exceeded; never sleeps.
    ///
    /// An element larger than `byteCountMax` is accepted by an empty queue, so it cannot be stuck for ever.
    package func tryPush(_ element: Element, byteCount: Int = 0) -> PushResult {
        lock.withLock {
            if isClosed { return .closed }
            if isFull(byteCount) {
                hasRefused = true
                return .full
            }
            append(element, byteCount)
            return .accepted
        }
    }

    /// Appends `element`, sleeping until `deadline` while there is no room.
    package func push(_ element: Element, byteCount: Int = 0, until deadline: MonotonicInstant) -> PushResult {
        lock.withLock {
            while !isClosed && isFull(byteCount) {
                waitingProducerCount += 1
                let isInTime = lock.wait(until: deadline)
                waitingProducerCount -= 1
                if !isInTime { return .full }
            }
            if isClosed { return .closed }
            append(element, byteCount)
            return .accepted
        }
    }

    /// The oldest element, or nil when the queue is empty; never sleeps.
    package func tryPop() -> Element? { finish(lock.withLock { take() }) }

    /// Takes out the elements that match, wherever they stand; the others keep their order.
    package func remove(where isUnwanted: (Element) -> Bool) -> [Element] {
        let (removed, handler) = lock.withLock { () -> ([Element], (@Sendable () -> Void)?) in
            let all = (0..<used).compactMap { slots[(head + $0) % slots.count] }
            let removed = all.filter { isUnwanted($0.element) }
            if removed.isEmpty { return ([], nil) }
            let kept = all.filter { !isUnwanted($0.element) }
            for index in slots.indices { slots[index] = index < kept.count ? kept[index] : nil }
            head = 0
            used = kept.count
            usedBytes = kept.reduce(0) { $0 + $1.byteCount }
            if waitingProducerCount > 0 { lock.broadcast() }
            let handler = hasRefused ? spaceHandler : nil
            hasRefused = false
            return (removed.map(\.element), handler)
        }
        handler?()
        return removed
    }

    /// The oldest element; sleeps while the queue is empty. Nil once it is closed and drained.
    package func pop() -> Element? {
        finish(
            lock.withLock {
                while used == 0 && !isClosed { lock.wait() }
                return take()
            })
    }

    /// The oldest element; sleeps until `deadline` at the latest. Nil at the deadline or once closed and
    /// drained.
    package func pop(until deadline: MonotonicInstant) -> Element? {
        finish(
            lock.withLock {
                while used == 0 && !isClosed { if !lock.wait(until: deadline) { break } }
                return take()
            })
    }

    /// Refuses further pushes and wakes every sleeping consumer; what is held can still be popped.
    package func close() {
        lock.withLock {
            isClosed = true
            lock.broadcast()
        }
    }

    private func isFull(_ byteCount: Int) -> Bool {
        used == itemCountMax || (used > 0 && usedBytes + byteCount > byteCountMax)
    }

    private func append(_ element: Element, _ byteCount: Int) {
        if used == slots.count { grow() }
        slots[(head + used) % slots.count] = (element, byteCount)
        used += 1
        usedBytes += byteCount
        // Producers and consumers share one condition; with both asleep, one signal could reach the wrong
        // kind.
        if waitingProducerCount > 0 { lock.broadcast() } else { lock.signal() }
    }

    private func take() -> (Element?, (@Sendable () -> Void)?) {
        guard used > 0, let slot = slots[head] else { return (nil, nil) }
        slots[head] = nil
        head = (head + 1) % slots.count
        used -= 1
        usedBytes -= slot.byteCount
        if waitingProducerCount > 0 { lock.broadcast() }
        let handler = hasRefused ? spaceHandler : nil
        hasRefused = false
        return (slot.element, handler)
    }

    private func finish(_ taken: (Element?, (@Sendable () -> Void)?)) -> Element? {
        taken.1?()
        return taken.0
    }

    private func grow() {
        var larger = [(element: Element, byteCount: Int)?](
            repeating: nil, count: min(itemCountMax, slots.count * 2))
        for index in 0..<used { larger[index] = slots[(head + index) % slots.count] }
        slots = larger
        head = 0
    }
}
