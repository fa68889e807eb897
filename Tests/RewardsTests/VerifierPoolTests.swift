// SPDX-License-Identifier: Apache-2.0
import CPlatform
import Foundation
import Glibc
import Rewards
import RuntimeSupport
import Testing

/// A pool of `verifier-probe` children with room for the probe's relay thread.
private func makePool(_ change: (inout VerifierConfiguration) -> Void = { _ in }) -> VerifierPool {
    var configuration = VerifierConfiguration(
        executable: Bundle.main.bundleURL.appendingPathComponent("verifier-probe").path, arguments: [])
    configuration.childCount = 1
    configuration.requestMilliseconds = 60_000
    configuration.processCount = 0
    // The probe's faults leave files for one another, and are looked at from outside.
    configuration.isSandboxed = false
    change(&configuration)
    return VerifierPool(configuration)
}

private func makeRequest(
    _ id: String, _ response: String = "\\boxed{7}", fault: String? = nil, once: String? = nil
)
    -> VerifierRequest
{
    var metadata: [String: String] = [:]
    metadata["fault"] = fault
    metadata["once"] = once
    return VerifierRequest(
        id: id, terms: [RewardTerm("math_answer"), RewardTerm("format", weight: 0.5)],
        sample: RewardSample(response: response, answer: "7", metadata: metadata))
}

/// A path that does not exist yet.
private func freshPath() -> String { NSTemporaryDirectory() + "apus-verifier-" + UUID().uuidString }

/// Ids of this process's verifier children, zombies included; other suites have children of their own.
private func childIDs() throws -> Set<Int32> {
    var result: Set<Int32> = []
    for task in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task") {
        let text = try? String(contentsOfFile: "/proc/self/task/\(task)/children", encoding: .utf8)
        for id in (text ?? "").split(separator: " ").compactMap({ Int32($0) }) {
            let name = (try? String(contentsOfFile: "/proc/\(id)/comm", encoding: .utf8)) ?? ""
            if name.hasPrefix("verifier") { result.insert(id) }
        }
    }
    return result
}

private func openDescriptorCount() throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
}

/// Waits until this process has at most `count` descriptors: other suites open and close theirs meanwhile.
private func hasAtMost(_ count: Int) throws -> Bool {
    let deadline = MonotonicInstant.now.advanced(byMilliseconds: 180_000)
    while try openDescriptorCount() > count {
        if MonotonicInstant.now >= deadline { return false }
        usleep(50_000)
    }
    return true
}

/// Serialized: the tests count this process's children and descriptors.
@Suite("Verifier pool", .serialized) struct VerifierPoolTests {
    @Test("judges as this process would")
    func agrees() throws {
        let pool = makePool()
        defer { pool.close() }
        for response in ["\\boxed{7}", "\\boxed{8}", "é \"quoted\" \u{0}\n \u{1F600} 7", ""] {
            let request = makeRequest("a/0/1", response)
            #expect(pool.verify(request) == (try RewardSum(request.terms).evaluate(request.sample)))
        }
        #expect(pool.counters.verified == 4)
        #expect(pool.counters.started == 1)
    }

    @Test("a large response goes through")
    func large() {
        let pool = makePool()
        defer { pool.close() }
        let response = String(repeating: "many words and ", count: 200_000) + "\\boxed{7}"
        #expect(pool.verify(makeRequest("large", response)).total.value(keepingTruncated: false) == 1.5)
    }

    @Test(
        "a child that misbehaves once costs an attempt, not the reward",
        arguments: [
            "crash", "exit", "memory", "garbage", "other-id", "too-few", "huge",
        ])
    func retried(_ fault: String) {
        let pool = makePool()
        let path = freshPath()
        defer {
            pool.close()
            unlink(path)
        }
        #expect(
            pool.verify(makeRequest("r", fault: fault, once: path)).total.value(keepingTruncated: false)
                == 1.5)
        #expect(pool.counters == .init(verified: 1, timedOut: 0, broken: 1, started: 2))
    }

    @Test(
        "a child that misbehaves again makes an infrastructure error",
        arguments: ["crash", "memory", "garbage"])
    func broken(_ fault: String) {
        let pool = makePool()
        defer { pool.close() }
        let report = pool.verify(makeRequest("job/3/1", fault: fault))
        guard case .infrastructureError(let reason) = report.total else {
            Issue.record("\(report.total)")
            return
        }
        #expect(reason.hasPrefix("job/3/1: the verifier"))
        #expect(report.outcomes.count == 2)
        #expect(pool.counters == .init(verified: 0, timedOut: 0, broken: 2, started: 2))
        // The next request is served by a fresh child.
        #expect(pool.verify(makeRequest("next")).total.value(keepingTruncated: false) == 1.5)
    }

    @Test("a child that does not answer is a time-out", arguments: ["hang", "spin", "half"])
    func hang(_ fault: String) {
        let pool = makePool { $0.requestMilliseconds = 300 }
        defer { pool.close() }
        #expect(pool.verify(makeRequest("slow", fault: fault)).total == .verifierTimeout)
        #expect(pool.counters.timedOut == 2)
        let path = freshPath()
        defer { unlink(path) }
        let patient = makePool { $0.requestMilliseconds = 2000 }
        defer { patient.close() }
        #expect(
            patient.verify(makeRequest("slow", fault: fault, once: path)).total.value(keepingTruncated: false)
                == 1.5)
        #expect(patient.counters.timedOut == 1)
    }

    @Test("the processor limit ends a child that its deadline would not")
    func processorLimit() {
        let pool = makePool { $0.processorSeconds = 1 }
        defer { pool.close() }
        #expect(pool.verify(makeRequest("spin", fault: "spin")).total.name == "infra_error")
        #expect(pool.counters.broken == 2)
    }

    @Test(
        "a program that is no verifier is an infrastructure error with a remedy",
        arguments: [
            ("mute", "sent no greeting in 300 ms"), ("babble", "is no verifier of this version"),
        ])
    func wrongProgram(_ argument: String, _ message: String) {
        let pool = makePool {
            $0.arguments = [argument]
            $0.startMilliseconds = 300
        }
        defer { pool.close() }
        guard case .infrastructureError(let reason) = pool.verify(makeRequest("x")).total else {
            Issue.record("accepted")
            return
        }
        #expect(reason.contains(message))
    }

    @Test("a missing program is named")
    func missingProgram() {
        let pool = makePool { $0.executable = "/nonexistent/verifier" }
        defer { pool.close() }
        #expect(
            pool.verify(makeRequest("x")).total
                == .infrastructureError(
                    reason: "x: cannot start the verifier '/nonexistent/verifier': No such file or directory")
        )
    }

    @Test("an unknown reward is an error of the request, not of the child")
    func unknownReward() {
        let pool = makePool()
        defer { pool.close() }
        let sample = RewardSample(response: "7", answer: "7")
        let report = pool.verify(VerifierRequest(id: "x", terms: [RewardTerm("maths")], sample: sample))
        #expect(
            report.total
                == .infrastructureError(
                    reason:
                        "no reward is named 'maths'; rewards: \(RewardRegistry.names.joined(separator: ", "))"))
        #expect(pool.counters.started == 1)
    }

    @Test("children are replaced after their share of requests")
    func replacement() {
        let pool = makePool { $0.requestCountPerChild = 3 }
        defer { pool.close() }
        for index in 0..<7 { #expect(!pool.verify(makeRequest("\(index)")).total.isFailure) }
        #expect(pool.counters.started == 3)
    }

    @Test("many threads, some with faults, get their own answers")
    func parallel() {
        let pool = makePool {
            $0.childCount = 3
            $0.waitingCountMax = 2
        }
        defer { pool.close() }
        let wrong = Locked<[String]>([])
        let threads = (0..<8).map { thread in
            DedicatedThread.start(name: "caller-\(thread)") {
                for index in 0..<40 {
                    let isFaulty = index == 20 && thread < 3
                    let isRight = (thread + index) % 2 == 0
                    let request = makeRequest(
                        "\(thread)/\(index)", isRight ? "\\boxed{7}" : "\\boxed{8}",
                        fault: isFaulty ? "crash" : nil)
                    let value = pool.verify(request).total.value(keepingTruncated: false)
                    let expected: Double? = isFaulty ? nil : isRight ? 1.5 : 0.5
                    if value != expected { wrong.withLock { $0.append(request.id) } }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.withLock { $0 } == [])
        #expect(pool.counters.verified == 8 * 40 - 3)
        #expect(pool.counters.broken == 6)
    }

    @Test("closing ends requests under way and refuses new ones")
    func closing() {
        let pool = makePool()
        let report = Locked<RewardReport?>(nil)
        let path = freshPath()
        defer { unlink(path) }
        let caller = DedicatedThread.start(name: "caller") {
            let result = pool.verify(makeRequest("x", fault: "hang", once: path))
            report.withLock { $0 = result }
        }
        // The child makes the file when it begins to hang.
        while access(path, F_OK) != 0 { usleep(1000) }
        pool.close()
        caller.join()
        let closed = RewardOutcome.infrastructureError(reason: "the verifier pool is closed")
        #expect(report.withLock { $0 }?.total == closed)
        #expect(pool.verify(makeRequest("y")).total == closed)
    }

    @Test("no child, zombie, orphan or descriptor is left behind")
    func leaks() throws {
        do {  // whatever the first pool makes the libraries open
            let first = makePool()
            _ = first.verify(makeRequest("x"))
            first.close()
        }
        let children = try childIDs()
        let descriptors = try openDescriptorCount()
        do {
            let pool = makePool { $0.childCount = 2 }
            for fault in ["crash", "garbage", "memory", "exit", nil] {
                _ = pool.verify(makeRequest("x", fault: fault))
            }
            pool.close()
            let refused = makePool { $0.arguments = ["babble"] }
            _ = refused.verify(makeRequest("x"))
        }
        #expect(try childIDs() == children)
        #expect(try hasAtMost(descriptors))
    }

    @Test("what a child has started dies with it")
    func orphans() throws {
        let pool = makePool()
        defer { pool.close() }
        #expect(pool.verify(makeRequest("x", fault: "orphan")).total.isFailure)
        // The kernel takes a moment to end what was killed.
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 30_000)
        while !probeIDs(argument: "mute").isEmpty, MonotonicInstant.now < deadline { usleep(10_000) }
        #expect(probeIDs(argument: "mute").isEmpty)
    }

    /// Ids of live processes of the probe that were started with `argument`.
    private func probeIDs(argument: String) -> [String] {
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return entries.filter { entry in
            guard Int(entry) != nil,
                let line = FileManager.default.contents(atPath: "/proc/\(entry)/cmdline"),
                let link = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(entry)/exe")
            else { return false }
            return link.hasSuffix("/verifier-probe")
                && String(decoding: line, as: UTF8.self).contains(argument)
        }
    }

    @Test("a child gets three descriptors, its limits and its own environment")
    func isolation() throws {
        let before = try childIDs()
        let leaked = open("/dev/null", O_RDONLY)  // without close-on-exec
        defer { Glibc.close(leaked) }
        let pool = makePool { $0.openFileCount = 32 }
        defer { pool.close() }
        #expect(!pool.verify(makeRequest("x")).total.isFailure)
        let child = try #require(try childIDs().subtracting(before).first)
        let environment = try #require(FileManager.default.contents(atPath: "/proc/\(child)/environ"))
        #expect(!String(decoding: environment, as: UTF8.self).contains("HOME="))
        let limits = try String(contentsOfFile: "/proc/\(child)/limits", encoding: .utf8)
        let rows = limits.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        func soft(_ words: [String]) -> String? {
            rows.first { Array($0.prefix(words.count)) == words }?[words.count]
        }
        #expect(soft(["Max", "open", "files"]) == "32")
        // A sanitized child takes terabytes of address space.
        #expect(soft(["Max", "address", "space"]) == (cp_is_sanitized() != 0 ? "unlimited" : String(2 << 30)))
        #expect(soft(["Max", "core", "file", "size"]) == "0")
        // 0, 1, 2 and the two ends of the probe's own pipe; nothing of ours.
        let inherited = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(child)/fd").compactMap {
            Int($0)
        }
        let targets = inherited.compactMap {
            try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(child)/fd/\($0)")
        }
        #expect(inherited.count <= 5, "\(targets)")
    }

    @Test("children die with the process that has them")
    func parentDeath() throws {
        // `verifier-probe host` runs a pool, prints its child's id and hangs.
        let host = Process()
        host.executableURL = Bundle.main.bundleURL.appendingPathComponent("verifier-probe")
        host.arguments = ["host"]
        let output = Pipe()
        host.standardOutput = output
        try host.run()
        let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        let child = try #require(Int32(line.trimmingCharacters(in: .whitespacesAndNewlines)), "\(line)")
        #expect(kill(child, 0) == 0)
        kill(host.processIdentifier, SIGKILL)
        host.waitUntilExit()
        // Reparented and reaped by init: gone, or a zombie until init has looked.
        let deadline = MonotonicInstant.now.advanced(byMilliseconds: 30_000)
        var state = "R"
        while MonotonicInstant.now < deadline {
            let status = try? String(contentsOfFile: "/proc/\(child)/stat", encoding: .utf8)
            state = status?.split(separator: ")").last?.split(separator: " ").first.map(String.init) ?? "gone"
            if state == "gone" || state == "Z" { break }
            usleep(10_000)
        }
        #expect(state == "gone" || state == "Z")
    }
}

/// Children as workers run them: in a sandbox, asking this process to run programs.
@Suite(
    "Verifier sandbox", .serialized,
    .enabled(if: SandboxAvailability.problem == nil, "\(SandboxAvailability.problem ?? "")"))
struct VerifierSandboxTests {
    private static func pool(_ change: (inout VerifierConfiguration) -> Void = { _ in }) -> VerifierPool {
        var configuration = VerifierConfiguration(
            executable: Bundle.main.bundleURL.appendingPathComponent("apus").path, arguments: ["verifier-child"])
        configuration.childCount = 1
        configuration.requestMilliseconds = 60_000
        change(&configuration)
        return VerifierPool(configuration)
    }

    private static func request(_ program: String) -> VerifierRequest {
        VerifierRequest(
            id: "a/0/0", terms: [RewardTerm("code_tests", options: ["milliseconds": "2000"]), RewardTerm("exact")],
            sample: RewardSample(
                response: program, answer: "7",
                metadata: ["tests": #"[{"code": "assert add(1, 2) == 3"}, {"code": "assert add(2, 2) == 4"}]"#]))
    }

    @Test("a child in a sandbox judges, and programs that it asks for are run beside it")
    func judges() {
        let pool = Self.pool()
        defer { pool.close() }
        let right = pool.verify(Self.request("def add(a, b): return a + b"))
        #expect(right.outcomes.map { $0.value(keepingTruncated: false) } == [1, 0], "\(right.outcomes)")
        let wrong = pool.verify(Self.request("import os; os._exit(0)"))
        #expect(wrong.outcomes.map { $0.value(keepingTruncated: false) } == [0, 0], "\(wrong.outcomes)")
        // The programs' time is not the child's.
        let hasty = Self.pool { $0.requestMilliseconds = 1500 }
        defer { hasty.close() }
        _ = hasty.verify(
            VerifierRequest(id: "x", terms: [RewardTerm("exact")], sample: .init(response: "7", answer: "7")))
        let slow = hasty.verify(
            Self.request("import time\ndef add(a, b):\n  time.sleep(1.2)\n  return a + b"))
        #expect(slow.outcomes.first?.value(keepingTruncated: false) == 1, "\(slow.outcomes)")
    }

    @Test("the child has no capabilities, no further namespaces, a filter, and nothing of the host's")
    func isolation() throws {
        let pool = Self.pool()
        defer { pool.close() }
        _ = pool.verify(
            VerifierRequest(id: "x", terms: [RewardTerm("exact")], sample: .init(response: "7", answer: "7")))
        let child = try #require(Self.verifier())
        let text = try String(contentsOfFile: "/proc/\(child)/status", encoding: .utf8)
        func field(_ name: String) -> String? {
            text.split(separator: "\n").first { $0.hasPrefix("\(name):") }?.split(whereSeparator: \.isWhitespace)
                .dropFirst()
                .first.map(String.init)
        }
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            #expect(field(name).flatMap { UInt64($0, radix: 16) } == 0, "\(name)")
        }
        #expect(field("Seccomp") == "2" && field("NoNewPrivs") == "1")
        for namespace in ["user", "mnt", "pid", "net", "ipc", "uts"] {
            let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/\(namespace)")
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(child)/ns/\(namespace)") != own)
        }
        let mounts = try String(contentsOfFile: "/proc/\(child)/mountinfo", encoding: .utf8)
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ")
            let (place, options) = (fields[4], fields[5])
            let isWritable = ["/tmp", "/dev/shm", "/proc"].contains(place) || place.hasPrefix("/dev/")
            #expect(options.hasPrefix("ro") || isWritable, "\(line)")
        }
        let environment = try #require(FileManager.default.contents(atPath: "/proc/\(child)/environ"))
        #expect(!String(decoding: environment, as: UTF8.self).contains("HOME="))
    }

    /// The Swift process behind a pool's bubblewrap.
    private static func verifier() -> Int32? {
        for entry in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
            guard let id = Int32(entry),
                let link = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(id)/exe"),
                link.hasSuffix("/apus"),
                let stat = try? String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8),
                let parent = stat.split(separator: ")").last?.split(separator: " ").dropFirst().first,
                let other = try? String(contentsOfFile: "/proc/\(parent)/stat", encoding: .utf8),
                other.contains("(bwrap)"),
                other.split(separator: ")").last?.split(separator: " ").dropFirst().first == "\(getpid())"
            else { continue }
            return id
        }
        return nil
    }
}
