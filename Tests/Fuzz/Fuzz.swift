// SPDX-License-Identifier: Apache-2.0
//
// fuzz --list                    names of all targets
// fuzz --seeds TARGET DIRECTORY  writes the target's first inputs
// FUZZ_TARGET=name fuzz …        libFuzzer's own arguments
import Foundation

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ words: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

nonisolated(unsafe) private var chosen: FuzzTarget?

/// libFuzzer's entry; its archive refers to it by name.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    chosen?.run(Array(UnsafeBufferPointer(start: data, count: count)))
    return 0
}

/// SwiftPM's name for the main function of this target.
@_cdecl("fuzz_main")
public func fuzzMain(_ count: CInt, _ words: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt {
    let arguments = CommandLine.arguments
    func target(_ name: String) -> FuzzTarget {
        guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
            complain("no target is named '\(name)'; see --list")
            exit(2)
        }
        return target
    }
    switch arguments.dropFirst().first {
    case "--list":
        for target in FuzzTarget.all { print(target.name) }
        return 0
    case "--seeds" where arguments.count == 4:
        do {
            for (index, seed) in try target(arguments[2]).seeds().enumerated() {
                try Data(seed).write(to: URL(fileURLWithPath: arguments[3]).appendingPathComponent("seed-\(index)"))
            }
            return 0
        } catch {
            complain("\(error)")
            return 1
        }
    default:
        chosen = target(ProcessInfo.processInfo.environment["FUZZ_TARGET"] ?? "")
        var (count, words) = (count, words)
        return runDriver(&count, &words, testOneInput)
    }
}

private func complain(_ text: String) { FileHandle.standardError.write(Data("fuzz: \(text)\n".utf8)) }
