// SPDX-License-Identifier: Apache-2.0
//
// Many workers without a model against a real coordinator, for `Scripts/chaos load`.
//   load-probe COORDINATOR_JSON IN_FLIGHT RATE SECONDS KEY_FILE...
// One stub for each key. All hold IN_FLIGHT rollouts together and answer RATE of them per second, the oldest first, for
// SECONDS once they hold them. Prints a line of JSON per second: acknowledged (durable) so far, in flight, and the
// 50th and 99th percentile and the largest delay of an acknowledgement in that second, in milliseconds.
import ClusterTransport
import CoordinatorRuntime
import Foundation
import RuntimeSupport

struct Second: Encodable {
    let seconds: Double
    let acknowledged: Int
    let inFlight: Int
    let p50: Double
    let p99: Double
    let max: Double
    let count: Int
}

func percentile(_ sorted: [Double], _ share: Double) -> Double {
    sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
}

func run() throws {
    let arguments = CommandLine.arguments.dropFirst().map { $0 }
    guard arguments.count > 4, let inFlight = Int(arguments[1]), let rate = Double(arguments[2]),
        let seconds = Double(arguments[3])
    else {
        print("usage: load-probe COORDINATOR_JSON IN_FLIGHT RATE SECONDS KEY_FILE...")
        exit(2)
    }
    let address = try CoordinatorAddress(file: URL(fileURLWithPath: arguments[0])).peer
    let keys = try arguments[4...].map { try KeyFile.read($0) }
    let inputs = BoundedQueue<StubInput>(itemCountMax: 1 << 20, byteCountMax: 1 << 30)
    // Free places are said twice a second: more than are wanted, so that enough are taken in between.
    let slots = inFlight / keys.count + Int(rate) / keys.count + 1
    var stubs = try keys.enumerated().map {
        try StubWorker($0, keys: $1, coordinator: address, slots: slots, tokenCount: 64, inputs: inputs)
    }
    defer { for stub in stubs { stub.close() } }
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    var (nextTick, nextReport) = (MonotonicInstant.now, MonotonicInstant.now.advanced(byMilliseconds: 1000))
    var begun: MonotonicInstant?
    var answered = 0
    var turn = 0
    while true {
        let now = MonotonicInstant.now
        if let input = inputs.pop(until: now.advanced(byMilliseconds: 2)) {
            take(input)
            var count = 1
            while count < 256, let input = inputs.tryPop() {
                take(input)
                count += 1
            }
        }
        if now >= nextTick {
            nextTick = now.advanced(byMilliseconds: 50)
            for index in stubs.indices { stubs[index].tick() }
        }
        if let problem = stubs.lazy.compactMap(\.problem).first { throw Ended(description: problem) }
        if begun == nil, stubs.reduce(0, { $0 + $1.inFlightCount }) >= inFlight { begun = now }
        if let begun {
            let elapsed = Double(now.nanoseconds - begun.nanoseconds) / 1e9
            if elapsed > seconds { break }
            // What could not be answered in time is not made up for: the rate is a pace, not a debt.
            let due = Int(elapsed * rate)
            var left = min(due - answered, Int(rate / 20))
            answered = due
            while left > 0 {
                turn = (turn + 1) % stubs.count
                let share = min(left, 4)
                _ = stubs[turn].answer(share)
                left -= share
            }
        }
        if now >= nextReport {
            nextReport = now.advanced(byMilliseconds: 1000)
            var delays: [Double] = []
            for index in stubs.indices { delays += stubs[index].takeDelays() }
            delays.sort()
            let line = Second(
                seconds: begun.map { Double(now.nanoseconds - $0.nanoseconds) / 1e9 } ?? 0,
                acknowledged: stubs.reduce(0) { $0 + $1.acknowledgedCount },
                inFlight: stubs.reduce(0) { $0 + $1.inFlightCount }, p50: percentile(delays, 0.5),
                p99: percentile(delays, 0.99), max: delays.last ?? 0, count: delays.count)
            FileHandle.standardOutput.write(try encoder.encode(line) + Data("\n".utf8))
        }
    }

    func take(_ input: StubInput) {
        switch input {
        case .connected(let index), .message(let index, _): stubs[index].take(input)
        }
    }
}

/// The coordinator sent a stub away.
struct Ended: Error, CustomStringConvertible { let description: String }

do { try run() } catch {
    FileHandle.standardError.write(Data("load-probe: \(error)\n".utf8))
    exit(1)
}
