// SPDX-License-Identifier: Apache-2.0
//
// A verifier process for the pool's tests. A request whose metadata has `fault` is not judged: the probe does
// what it says instead, as a broken or attacked verifier would. With `once` (a path), only the first process
// to get there misbehaves.
//   verifier-probe                 serves descriptors 0 and 1
//   verifier-probe mute|babble     never greets, or greets with nonsense
//   verifier-probe host            runs a pool, prints the id of its child, hangs
import CPlatform
import Foundation
import Glibc
import Rewards

/// Exactly `count` bytes of descriptor 0; nil at its end.
func readInput(_ count: Int) -> [UInt8]? {
    var bytes: [UInt8] = []
    while bytes.count < count {
        var chunk = [UInt8](repeating: 0, count: count - bytes.count)
        let got = read(0, &chunk, chunk.count)
        guard got > 0 else { return nil }
        bytes += chunk[..<got]
    }
    return bytes
}

func writeFully(_ bytes: [UInt8], _ descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { exit(5) }
        rest = rest.dropFirst(count)
    }
}

func framed(_ text: String) -> [UInt8] {
    withUnsafeBytes(of: UInt32(text.utf8.count).littleEndian) { Array($0) } + Array(text.utf8)
}

/// Never returns from most faults.
func misbehave(_ fault: String) {
    switch fault {
    case "crash": kill(getpid(), SIGSEGV)
    case "exit": exit(0)
    case "hang": while true { sleep(1000) }
    case "spin": while true {}
    case "memory":
        // Such a build has no limit on its address space: it would take the host's memory.
        if cp_is_sanitized() != 0 { abort() }
        var blocks: [UnsafeMutableRawPointer] = []
        while let block = malloc(64 << 20) {
            memset(block, 1, 64 << 20)
            blocks.append(block)
        }
        abort()
    case "garbage": writeFully(framed("{\"outcomes\": 7"), 1)
    case "other-id":
        writeFully(
            framed("{\"judged\":{\"_0\":{\"id\":\"someone-else\",\"outcomes\":[{\"outcome\":\"verifier_timeout\"}]}}}"),
            1)
    case "too-few": writeFully(framed("{\"judged\":{\"_0\":{\"id\":\"too-few\",\"outcomes\":[]}}}"), 1)
    case "huge": writeFully([255, 255, 255, 255], 1)
    case "half":
        writeFully(Array(framed("{\"id\":\"half\"}").prefix(7)), 1)
        while true { sleep(1000) }
    case "orphan":
        // A process that outlives its parent unless the whole group is killed.
        if let program = strdup("/proc/self/exe"), let mute = strdup("mute") {
            var pid = pid_t()
            var arguments: [UnsafeMutablePointer<CChar>?] = [program, mute, nil]
            posix_spawn(&pid, program, nil, nil, &arguments, environ)
        }
        kill(getpid(), SIGKILL)
    default: exit(9)
    }
}

/// The request of a frame, if it asks for a judgement.
func judgeRequest(_ body: [UInt8]) -> VerifierRequest? {
    let wrapped = try? JSONDecoder().decode([String: [String: VerifierRequest]].self, from: Data(body))
    return wrapped?["judge"]?["_0"]
}

/// Passes the requests on to the real child, except the faulty ones.
func relay(_ descriptor: Int32) {
    while let header = readInput(4) {
        let count = header.reversed().reduce(0) { $0 << 8 | Int($1) }
        guard let body = readInput(count) else { return }
        if let request = judgeRequest(body), let fault = request.sample.metadata["fault"] {
            // Exclusive creation decides who is first.
            let isFirst =
                request.sample.metadata["once"].map { open($0, O_CREAT | O_EXCL | O_WRONLY, 0o600) >= 0 }
                ?? true
            if isFirst {
                misbehave(fault)
                continue
            }
        }
        writeFully(header + body, descriptor)
    }
}

switch CommandLine.arguments.dropFirst().first {
case "mute": while true { sleep(1000) }
case "babble":
    writeFully(framed("hello"), 1)
    while true { sleep(1000) }
case "host":
    var configuration = VerifierConfiguration(executable: "/proc/self/exe", arguments: [])
    configuration.childCount = 1
    configuration.processCount = 0
    configuration.isSandboxed = false
    let pool = VerifierPool(configuration)
    let sample = RewardSample(response: "7", answer: "7")
    guard !pool.verify(VerifierRequest(id: "x", terms: [RewardTerm("exact")], sample: sample)).total.isFailure
    else {
        exit(7)
    }
    for task in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? [] {
        let text = (try? String(contentsOfFile: "/proc/self/task/\(task)/children", encoding: .utf8)) ?? ""
        if !text.isEmpty { writeFully(Array(text.utf8), 1) }
    }
    while true { sleep(1000) }
default: break
}

var pipeEnds: [Int32] = [0, 0]
guard pipe(&pipeEnds) == 0 else { exit(8) }
let (readEnd, writeEnd) = (pipeEnds[0], pipeEnds[1])
let relayThread = Thread {
    relay(writeEnd)
    close(writeEnd)
}
relayThread.start()
exit(VerifierChild.run(input: readEnd, output: 1))
