// SPDX-License-Identifier: Apache-2.0
//
// One program for all fuzz targets; Scripts/fuzz builds and runs it.
//
//   apus-fuzz --list                       names of targets
//   apus-fuzz --seeds TARGET DIRECTORY     writes the target's seed corpus
//   apus-fuzz TARGET [libFuzzer options, corpus directories or single inputs]
import Foundation

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// The target that this process runs; chosen once, before libFuzzer starts.
private nonisolated(unsafe) var chosen: FuzzTarget?

/// Libfuzzer's entry for one input. Its name is the library's.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    chosen?.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
}

/// `main`, as the package manager names an executable's.
@_cdecl("apus_fuzz_main")
public func fuzzMain(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt {
    let words = (0..<Int(count)).map { String(cString: arguments[$0]!) }
    func complain(_ text: String) -> CInt {
        FileHandle.standardError.write(Data("apus-fuzz: \(text)\n".utf8))
        return 2
    }
    func target(_ name: String) -> FuzzTarget? { FuzzTarget.all.first { $0.name == name } }
    switch words.dropFirst().first {
    case "--list":
        for target in FuzzTarget.all { print(target.name) }
        return 0
    case "--seeds":
        guard words.count == 4, let target = target(words[2]) else { return complain("--seeds TARGET DIRECTORY") }
        do {
            for (index, seed) in try target.seeds().enumerated() {
                try Data(seed).write(to: URL(fileURLWithPath: words[3]).appendingPathComponent("seed-\(index)"))
            }
        } catch { return complain("\(error)") }
        return 0
    case let name?:
        guard let target = target(name) else { return complain("no target is named '\(name)'; see --list") }
        chosen = target
        // libFuzzer sees its own options only.
        arguments[1] = arguments[0]
        var (count, rest) = (count - 1, arguments + 1)
        return runDriver(&count, &rest, testOneInput)
    case nil: return complain("name a target; see --list")
    }
}
