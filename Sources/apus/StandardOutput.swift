// SPDX-License-Identifier: Apache-2.0
import CPlatform

/// Prints on standard output as Swift's `print` does, which takes its place in this program: a write that fails is told
/// on standard error and ends the program with 1 (``StandardOutput/watch()``).
func print(_ items: Any..., separator: String = " ", terminator: String = "\n") {
    var text = items.map { "\($0)" }.joined(separator: separator) + terminator
    text.withUTF8 { cp_output($0.baseAddress, $0.count) }
}

/// What this program writes for people and scripts.
enum StandardOutput {
    /// To be called once, before anything is opened or printed.
    static func watch() {
        cp_open_standard_descriptors()
        cp_watch_output("apus")
    }

    /// Lets out what is buffered: before a wait, so that it can be read meanwhile.
    static func flush() { cp_flush_output() }
}
